package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// units are the suffixes of byte sizes; the longest match first.
var units = [...]struct { //nolint:gochecknoglobals // a constant table
	suffix string
	factor int64
}{
	{"kib", 1 << 10},
	{"mib", 1 << 20},
	{"gib", 1 << 30},
	{"tib", 1 << 40},
	{"kb", 1e3},
	{"mb", 1e6},
	{"gb", 1e9},
	{"tb", 1e12},
	{"k", 1 << 10},
	{"m", 1 << 20},
	{"g", 1 << 30},
	{"t", 1 << 40},
	{"b", 1},
}

// ParseBytes reads a byte size: a whole or decimal number and a unit ("10MiB", "512MB", "1.5GiB",
// "4096"). Case does not matter; a unit of one letter counts in 1024s.
func ParseBytes(s string) (int64, error) {
	number, factor := strings.ToLower(strings.TrimSpace(s)), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/factor {
			return 0, fmt.Errorf("byte size %q is out of range", s)
		}
		return n * factor, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) || strings.ContainsAny(number, "xpein_") {
		return 0, fmt.Errorf("%q is not a byte size such as 10MiB, 512MB or 4096", s)
	}
	if f *= float64(factor); f < 0 || f >= math.MaxInt64 {
		return 0, fmt.Errorf("byte size %q is out of range", s)
	}
	return int64(f), nil
}

// FormatBytes writes a size as ParseBytes reads it, in the largest binary unit that loses nothing.
func FormatBytes(n int64) string {
	for _, u := range [...]struct {
		suffix string
		factor int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n != 0 && n%u.factor == 0 {
			return strconv.FormatInt(n/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// decodeBytes is the mapper of type:"bytes".
func decodeBytes(ctx *kong.DecodeContext, target reflect.Value) error {
	t, err := ctx.Scan.PopValue("byte size")
	if err != nil {
		return err
	}
	n, err := ParseBytes(fmt.Sprint(t.Value))
	if err != nil {
		return err
	}
	target.SetInt(n)
	return nil
}
