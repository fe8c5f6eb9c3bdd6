package loadtest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// maxValues bounds the points of a range.
const maxValues = 100

// Range is the points of a sweep or ramp: "1,2,5", "1..5000" (1, 2, 5, 10 … between the ends) or
// "500..5000:500" (in equal steps). k and M stand for thousands and millions.
type Range struct{ Values []float64 }

// UnmarshalText reads one of the three forms.
func (r *Range) UnmarshalText(b []byte) error {
	text, step, stepped := strings.Cut(string(b), ":")
	low, high, ranged := strings.Cut(text, "..")
	if !ranged {
		return r.list(text, stepped)
	}
	from, err := parseValue(low)
	if err != nil {
		return err
	}
	to, err := parseValue(high)
	if err != nil {
		return err
	}
	if to < from {
		return fmt.Errorf("%w: range %q", ErrConfig, b)
	}
	if !stepped {
		r.Values = series125(from, to)
		return nil
	}
	by, err := parseValue(step)
	if err != nil || (to-from)/by > maxValues {
		return fmt.Errorf("%w: range %q", ErrConfig, b)
	}
	r.Values = nil
	for v := from; v <= to; v += by {
		r.Values = append(r.Values, v)
	}
	return nil
}

func (r *Range) list(text string, stepped bool) error {
	if stepped {
		return fmt.Errorf("%w: range %q", ErrConfig, text)
	}
	r.Values = nil
	for part := range strings.SplitSeq(text, ",") {
		v, err := parseValue(part)
		if err != nil || len(r.Values) == maxValues {
			return fmt.Errorf("%w: range %q", ErrConfig, text)
		}
		r.Values = append(r.Values, v)
	}
	return nil
}

// parseValue reads a positive number with an optional k or M.
func parseValue(s string) (float64, error) {
	unit := 1.0
	switch {
	case strings.HasSuffix(s, "k"):
		unit = 1e3
	case strings.HasSuffix(s, "M"):
		unit = 1e6
	}
	v, err := strconv.ParseFloat(strings.TrimRight(s, "kM"), 64)
	if err != nil || v <= 0 || v*unit > 1e9 || math.IsNaN(v) {
		return 0, fmt.Errorf("%w: value %q", ErrConfig, s)
	}
	return v * unit, nil
}

// series125 is the ends and each 1, 2 and 5 times a power of ten between.
func series125(from, to float64) []float64 {
	out := []float64{from}
	for decade := math.Pow(10, math.Floor(math.Log10(from))); decade <= to; decade *= 10 {
		for _, m := range []float64{1, 2, 5} {
			if v := m * decade; v > from*1.0001 && v < to*0.9999 {
				out = append(out, v)
			}
		}
	}
	if to > from {
		out = append(out, to)
	}
	return out
}

// Variable is what a sweep varies.
type Variable string

// The variables.
const (
	VariableSize        Variable = "size"        // of every bundle, bytes of JSON
	VariableConnections Variable = "connections" // to the door
	VariableRate        Variable = "rate"        // orders per second
)

// Sweeping is a variable and its points, "size=1k..1M".
type Sweeping struct {
	Variable Variable
	Range
}

// UnmarshalText reads variable=range.
func (s *Sweeping) UnmarshalText(b []byte) error {
	name, points, found := strings.Cut(string(b), "=")
	switch v := Variable(name); v {
	case VariableSize, VariableConnections, VariableRate:
		s.Variable = v
	default:
		found = false
	}
	if !found {
		return fmt.Errorf("%w: sweep %q", ErrConfig, b)
	}
	return s.Range.UnmarshalText([]byte(points))
}

// Named is a flag's value for one target: "name=value".
type Named struct{ Name, Value string }

// UnmarshalText reads name=value.
func (n *Named) UnmarshalText(b []byte) error {
	name, value, found := strings.Cut(string(b), "=")
	if !found || name == "" || value == "" {
		return fmt.Errorf("%w: %q is not name=value", ErrConfig, b)
	}
	n.Name, n.Value = name, value
	return nil
}
