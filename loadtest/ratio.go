package loadtest

import (
	"math"
	"slices"
	"time"
)

// Better says in which direction a measure improves.
type Better string

// The directions.
const (
	BetterLower  Better = "lower"
	BetterHigher Better = "higher"
)

// PairValue is one pair's raw values and their ratio.
type PairValue struct {
	Pair   int     `json:"pair"`
	Target float64 `json:"target"`
	Base   float64 `json:"base"`
	Ratio  float64 `json:"ratio"` // target / base
}

// Ratio compares one measure of a target with the base's, pair by pair.
type Ratio struct {
	Measure string      `json:"measure"`
	Unit    string      `json:"unit"`
	Better  Better      `json:"better"`
	Target  string      `json:"target"`
	Pairs   []PairValue `json:"pairs"`
	// Median is the median of the pairs' ratios, not the ratio of medians; Min and Max are their
	// ends. All are zero without a pair in which both values were measured.
	Median float64 `json:"median_of_ratios"`
	Min    float64 `json:"min_ratio"`
	Max    float64 `json:"max_ratio"`
	// TargetMedian and BaseMedian are the medians of the raw values.
	TargetMedian float64 `json:"target_median"`
	BaseMedian   float64 `json:"base_median"`
}

// measure is one figure of a leg that targets are compared by.
type measure struct {
	name, unit string
	better     Better
	of         func(*Report) float64 // zero: not measured
}

// measures are what a comparison shows, most telling first.
func measures() []measure {
	us := func(of func(f FlowReport) int64) func(*Report) float64 {
		return func(r *Report) float64 { return float64(of(r.Flows[0])) }
	}
	micro := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return []measure{
		{"CPU per accepted order", "µs", BetterLower, func(r *Report) float64 { return micro(r.PerOrder) }},
		{"CPU per delivered order", "µs", BetterLower, func(r *Report) float64 { return micro(r.PerDelivered) }},
		{"wire to wire p50", "µs", BetterLower, us(func(f FlowReport) int64 { return f.Wire.P50 })},
		{"wire to wire p90", "µs", BetterLower, us(func(f FlowReport) int64 { return f.Wire.P90 })},
		{"wire to wire p99", "µs", BetterLower, us(func(f FlowReport) int64 { return f.Wire.P99 })},
		{"wire to wire max", "µs", BetterLower, us(func(f FlowReport) int64 { return f.Wire.Max })},
		{"answer p50", "µs", BetterLower, us(func(f FlowReport) int64 { return f.Answer.P50 })},
		{"answer p99", "µs", BetterLower, us(func(f FlowReport) int64 { return f.Answer.P99 })},
		{"accepted orders", "/s", BetterHigher, func(r *Report) float64 { return r.acceptedRate() }},
		{"peak RSS", "bytes", BetterLower, func(r *Report) float64 { return float64(r.PeakRSS) }},
	}
}

// ratios compares each target with the base in every measure; legs of a pair belong together.
func ratios(legs []Leg, targets []string, base string) []Ratio {
	type at struct {
		target string
		pair   int
	}
	by := map[at]*Report{}
	pairs := map[int]bool{}
	for _, l := range legs {
		by[at{l.Target, l.Pair}] = l.Report
		pairs[l.Pair] = true
	}
	order := make([]int, 0, len(pairs))
	for p := range pairs {
		order = append(order, p)
	}
	slices.Sort(order)
	var out []Ratio
	for _, target := range targets {
		if target == base {
			continue
		}
		for _, m := range measures() {
			r := Ratio{Measure: m.name, Unit: m.unit, Better: m.better, Target: target}
			for _, p := range order {
				t, b := by[at{target, p}], by[at{base, p}]
				if t == nil || b == nil {
					continue
				}
				r.add(p, m.of(t), m.of(b))
			}
			if r.finish() {
				out = append(out, r)
			}
		}
	}
	return out
}

// add keeps a pair in which both were measured.
func (r *Ratio) add(pair int, target, base float64) {
	if target > 0 && base > 0 {
		r.Pairs = append(r.Pairs, PairValue{Pair: pair, Target: target, Base: base, Ratio: target / base})
	}
}

// finish computes the summary; false when there is no pair.
func (r *Ratio) finish() bool {
	var rs, ts, bs []float64
	for _, p := range r.Pairs {
		rs, ts, bs = append(rs, p.Ratio), append(ts, p.Target), append(bs, p.Base)
	}
	if len(rs) == 0 {
		return false
	}
	r.Median, r.TargetMedian, r.BaseMedian = median(rs), median(ts), median(bs)
	r.Min, r.Max = slices.Min(rs), slices.Max(rs)
	return true
}

// median of values, the mean of the middle two of an even number; NaN of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
