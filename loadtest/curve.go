package loadtest

import (
	"github.com/HdrHistogram/hdrhistogram-go"
)

// Quantile is one point of a latency distribution.
type Quantile struct {
	Percent float64 `json:"percent"`
	Value   int64   `json:"us"`
}

// curve is the distribution of h at the same percentages in every run: ten steps up to 90 and ten in
// each nine more, as far as there are observations to tell them apart; the maximum is at 100.
func curve(h *hdrhistogram.Histogram) []Quantile {
	total := h.TotalCount()
	if total == 0 {
		return nil
	}
	var out []Quantile
	for rest := 100.0; ; rest /= 10 {
		for step := range 9 {
			above := rest * float64(10-step) / 10 // percent of the observations above
			if above/100*float64(total) < 1 {
				return append(out, Quantile{Percent: 100, Value: h.Max()})
			}
			p := 100 - above
			out = append(out, Quantile{Percent: p, Value: h.ValueAtQuantile(p)})
		}
	}
}
