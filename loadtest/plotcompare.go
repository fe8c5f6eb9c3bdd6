package loadtest

import (
	"fmt"
	"math"

	"millrace/loadtest/chart"
)

// classes are the colours of targets, in their order.
func class(i int) string { return []string{"c1", "c2", "c3", "c4"}[i%4] }

// ratioPlot draws each measure's ratios: a dot per pair, a mark at their median, and a line where
// both are equal.
func ratioPlot(id, target, base string, ratios []Ratio) *chart.Plot {
	const row, left, right = 34, 210, 180
	low, high := 0.5, 1.5 // so that there are ticks on both sides of one
	for _, r := range ratios {
		low, high = min(low, r.Min), max(high, r.Max)
	}
	p := chart.New(id, fmt.Sprintf("%s divided by %s", target, base),
		"For each measure the ratio of every pair and their median; one means equal.", plotWidth, float64(len(ratios))*row+108)
	n := p.Panel(left, 44, plotWidth-left-right, float64(len(ratios))*row, chart.Log(low*0.95, high*1.05), chart.Linear(0, 1))
	ticks := ratioTicks(n.X)
	n.XGrid(ticks)
	n.XAxis("Ratio "+target+" / "+base+", each pair a dot", ticks)
	p.Rule(n.X.At(1), n.Top-6, n.X.At(1), n.Bottom, "one")
	p.Label(n.X.At(1)-6, 20, "end", "tick", "← "+target+" less")
	p.Label(n.X.At(1)+6, 20, "start", "tick", "more →")
	p.Label(plotWidth-right+14, 34, "start", "name", "Median of ratios")
	for i, r := range ratios {
		y := 44 + (float64(i)+.5)*row
		class := r.class()
		p.Label(left-14, y+4, "end", "value", r.Measure)
		p.Rule(n.X.At(r.Min), y, n.X.At(r.Max), y, "span "+class)
		for _, v := range r.Pairs {
			p.Dot(n.X.At(v.Ratio), y, 4, class+" faint", fmt.Sprintf("pair %d: %s / %s = %.2f", v.Pair, value(v.Target, r.Unit), value(v.Base, r.Unit), v.Ratio))
		}
		p.Rule(n.X.At(r.Median), y-9, n.X.At(r.Median), y+9, "tickmark "+class)
		p.Label(plotWidth-right+14, y+4, "start", "end "+class, fmt.Sprintf("%.2f× %s", r.Median, r.word()))
	}
	return p
}

// even is how close to one a ratio counts as equal.
const even = 0.03

// word says what the median means.
func (r Ratio) word() string {
	good := r.Median < 1
	if r.Better == BetterHigher {
		good = r.Median > 1
	}
	switch {
	case math.Abs(r.Median-1) <= even:
		return "even"
	case good:
		return "better"
	}
	return "worse"
}

func (r Ratio) class() string {
	return map[string]string{"even": "mute", "better": "c3", "worse": "bad"}[r.word()]
}

func ratioTicks(s chart.Scale) []chart.Tick {
	var out []chart.Tick
	for _, v := range []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 5, 10, 20, 50, 100} {
		if v >= s.From && v <= s.To && (v != 0.7 && v != 1.5 || s.To/s.From < 30) {
			out = append(out, chart.Tick{Value: v, Label: chart.Number(v) + "×"})
		}
	}
	return out
}

// value is a raw value for people.
func value(v float64, unit string) string {
	switch unit {
	case "µs":
		return chart.Micros(v)
	case "bytes":
		return chart.Bytes(v)
	}
	return chart.Number(v) + " " + unit
}

// barPlot draws the medians of the raw values side by side, each measure on its own scale.
func barPlot(names []string, rows []barRow) *chart.Plot {
	const bar, gap, left, right = 18, 18, 210, 150
	row := float64(len(names)*bar + gap)
	p := chart.New("bars", "Medians side by side", "Median of the raw values of every target; each measure has its own scale from zero.",
		plotWidth, float64(len(rows))*row+16)
	for i, r := range rows {
		top := 10 + float64(i)*row
		p.Label(left-14, top+row/2-2, "end", "value", r.measure)
		for k, v := range r.values {
			w := (plotWidth - left - right) * v / r.most()
			y := top + float64(k*bar)
			p.Box(left, y, max(w, 1), bar-3, "bar "+class(k), names[k]+": "+value(v, r.unit))
			p.Label(left+max(w, 1)+8, y+bar-6, "start", "value", value(v, r.unit))
			if i == 0 {
				p.Label(plotWidth-right+72, y+bar-6, "start", "end "+class(k), names[k])
			}
		}
		p.Rule(left, top-4, left, top+row-gap+1, "axis")
	}
	return p
}

// barRow is one measure's median for each target.
type barRow struct {
	measure, unit string
	values        []float64
}

func (r barRow) most() float64 {
	m := 1e-9
	for _, v := range r.values {
		m = max(m, v)
	}
	return m
}

// bars are the medians of a comparison's measures.
func (c *Comparison) bars() []barRow {
	var out []barRow
	for _, m := range measures() {
		r := barRow{measure: m.name, unit: m.unit}
		measured := false
		for _, t := range c.Targets {
			var vs []float64
			for _, l := range c.Legs {
				if l.Target == t {
					vs = append(vs, m.of(l.Report))
				}
			}
			v := middle(vs)
			measured = measured || v > 0
			r.values = append(r.values, v)
		}
		if measured {
			out = append(out, r)
		}
	}
	return out
}
