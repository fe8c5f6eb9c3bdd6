package chart

import (
	"math"
	"strconv"
)

// Scale maps values to places along one axis.
type Scale struct {
	From, To float64 // values
	Log      bool    // by powers of ten; values must be positive
	a, b     float64 // places
}

// Linear is a scale of equal steps.
func Linear(from, to float64) Scale {
	if to <= from {
		to = from + 1
	}
	return Scale{From: from, To: to}
}

// Log is a scale of equal factors. From is at least a millionth of to, so that a zero among the
// values doesn't stretch it without end.
func Log(from, to float64) Scale {
	if to <= 0 {
		to = 1
	}
	from = max(from, to*1e-6)
	if to <= from {
		from, to = from/2, from*2
	}
	return Scale{From: from, To: to, Log: true}
}

// Nice is the scale widened to its outer ticks; of a logarithmic one to 1, 2 or 5 times a power of
// ten.
func (s Scale) Nice() Scale {
	if s.Log {
		s.From, s.To = floor125(s.From), ceil125(s.To)
		return s
	}
	step := niceStep((s.To - s.From) / 4)
	s.From, s.To = math.Floor(s.From/step)*step, math.Ceil(s.To/step-1e-9)*step
	return s
}

// place puts the scale between two places.
func (s Scale) place(a, b float64) Scale {
	s.a, s.b = a, b
	return s
}

// At is the place of a value; values beyond the ends are at the ends.
func (s Scale) At(v float64) float64 {
	from, to := s.From, s.To
	if s.Log {
		v, from, to = math.Log10(max(v, from)), math.Log10(from), math.Log10(to)
	}
	t := (v - from) / (to - from)
	return s.a + min(max(t, 0), 1)*(s.b-s.a)
}

// Ticks are round values within the scale, about as many as wanted.
func (s Scale) Ticks(about int) []float64 {
	if s.Log {
		return s.logTicks(about)
	}
	step := niceStep((s.To - s.From) / float64(max(about, 1)))
	var out []float64
	for v := math.Ceil(s.From/step-1e-9) * step; v <= s.To+step*1e-9; v += step {
		out = append(out, math.Round(v/step)*step+0) // no negative zero
	}
	return out
}

// logTicks are powers of ten, with twice and five times them where there is room.
func (s Scale) logTicks(about int) []float64 {
	for _, steps := range [][]float64{{1, 2, 5}, {1, 3}, {1}} {
		var out []float64
		for d := math.Floor(math.Log10(s.From)); d <= math.Ceil(math.Log10(s.To)); d++ {
			for _, m := range steps {
				v := m * math.Pow(10, d)
				if v >= s.From*0.999 && v <= s.To*1.001 {
					out = append(out, v)
				}
			}
		}
		if len(out) <= about || len(steps) == 1 {
			return out
		}
	}
	return nil
}

func niceStep(raw float64) float64 {
	if raw <= 0 || math.IsNaN(raw) || math.IsInf(raw, 0) {
		return 1
	}
	return ceil125(raw)
}

// ceil125 is the least 1, 2 or 5 times a power of ten that is no less than v.
func ceil125(v float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*decade >= v*(1-1e-9) {
			return m * decade
		}
	}
	return 10 * decade
}

// floor125 is the greatest 1, 2 or 5 times a power of ten that is no more than v.
func floor125(v float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{10, 5, 2} {
		if m*decade <= v*(1+1e-9) {
			return m * decade
		}
	}
	return decade
}

// Number is a value with at most three digits of meaning and thousands as k, millions as M.
func Number(v float64) string {
	a := math.Abs(v)
	switch {
	case a >= 1e6:
		return short(v/1e6) + "M"
	case a >= 1e4:
		return short(v/1e3) + "k"
	}
	return short(v)
}

// Micros is a time in microseconds for people.
func Micros(v float64) string {
	a := math.Abs(v)
	switch {
	case a >= 1e6:
		return short(v/1e6) + " s"
	case a >= 1e3:
		return short(v/1e3) + " ms"
	}
	return short(v) + " µs"
}

// Bytes is a length for people, by powers of 1000.
func Bytes(v float64) string {
	a := math.Abs(v)
	switch {
	case a >= 1e9:
		return short(v/1e9) + " GB"
	case a >= 1e6:
		return short(v/1e6) + " MB"
	case a >= 1e3:
		return short(v/1e3) + " kB"
	}
	return short(v) + " B"
}

// short keeps three digits of meaning.
func short(v float64) string {
	digits := 0
	switch a := math.Abs(v); {
	case a < 0.0995 && a > 0:
		digits = 3
	case a < 9.995:
		digits = 2
	case a < 99.95:
		digits = 1
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if digits > 0 {
		for text[len(text)-1] == '0' {
			text = text[:len(text)-1]
		}
		if text[len(text)-1] == '.' {
			text = text[:len(text)-1]
		}
	}
	return text
}
