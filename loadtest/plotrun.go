package loadtest

import (
	"fmt"
	"math"
	"slices"

	"millrace/loadtest/chart"
)

// Measures of the plots, units.
const (
	plotWidth = 880
	plotLeft  = 64
	plotRight = 130 // room for the labels at the ends of lines
	plotInner = plotWidth - plotLeft - plotRight
)

// figure is a plot with what stands beside it on a page: a sentence that says what it shows, and its
// numbers.
type figure struct {
	Plot  *chart.Plot
	Lead  string
	Table grid
}

// grid is a table of text.
type grid struct {
	Head []string
	Rows [][]string
}

// line is one distribution of a percentile plot.
type line struct {
	name, class string // a line without a name has no label
	points      []Quantile
	count       int64
}

// percentilePlot draws latency against the share of the orders, the last ones stretched: each nine
// takes as much room as the nine before.
func percentilePlot(id string, lines []line) *chart.Plot {
	var low, high, most float64 = math.Inf(1), 1, 10
	for _, l := range lines {
		most = max(most, float64(l.count))
		for _, q := range l.points {
			if q.Percent >= 10 {
				low = min(low, float64(max(q.Value, 1)))
			}
			high = max(high, float64(q.Value))
		}
	}
	p := chart.New(id, "Latency by percentile",
		"Latency on a logarithmic scale against the share of the orders, where 90, 99 and 99.9 percent are equally far apart.", plotWidth, 380)
	n := p.Panel(plotLeft, 40, plotInner, 280, chart.Log(1, most), chart.Log(min(low, high), high).Nice())
	n.YAxis("Latency", chart.Ticks(n.Y, 9, chart.Micros))
	ticks := percentTicks(most)
	n.XGrid(ticks)
	n.XAxis("Share of the orders that took no longer", ticks)
	var ends []chart.End
	for _, l := range lines {
		var pts []chart.Point
		for _, q := range l.points {
			pts = append(pts, chart.Point{X: rest(q.Percent, float64(l.count)), Y: float64(max(q.Value, 1))})
		}
		if len(pts) == 0 {
			continue
		}
		n.Line(l.class, pts)
		n.Marks(firstWord(l.class)+" faint", pts[:len(pts)-1], func(pt chart.Point) string {
			return fmt.Sprintf("%s: %s %% within %s", l.name, percent(100-100/pt.X), chart.Micros(pt.Y))
		})
		if l.name != "" {
			ends = append(ends, chart.End{Y: pts[len(pts)-1].Y, Class: firstWord(l.class), Text: l.name})
		}
	}
	n.Ends(ends)
	return p
}

// rest is where a percentage stands: one over the share that is above it; the maximum at the number
// of observations.
func rest(percent, count float64) float64 {
	if percent >= 100 {
		return max(count, 1)
	}
	return min(100/(100-percent), max(count, 1))
}

func percentTicks(most float64) []chart.Tick {
	ticks := []chart.Tick{{Value: 1, Label: "0 %"}, {Value: 2, Label: "50 %"}}
	for x := 10.0; x <= most; x *= 10 {
		ticks = append(ticks, chart.Tick{Value: x, Label: percent(100-100/x) + " %"})
	}
	if ticks[len(ticks)-1].Value*2 < most {
		ticks = append(ticks, chart.Tick{Value: most, Label: "all"})
	}
	return ticks
}

// percent prints a percentage with the nines that it has.
func percent(p float64) string { return fmt.Sprintf("%.6g", p) }

func firstWord(class string) string {
	for i, r := range class {
		if r == ' ' {
			return class[:i]
		}
	}
	return class
}

// strip is one panel of a plot over time.
type strip struct {
	name, class string
	values      []float64
	log         bool
	label       func(float64) string
	second      []float64 // a thin line above the first, of the same class
	end         string    // what stands at the right end; by default the median
}

// timePlot draws strips below each other over the same seconds.
func timePlot(id, title, desc string, seconds []float64, strips []strip) *chart.Plot {
	const height, gap = 74, 40
	p := chart.New(id, title, desc, plotWidth, float64(len(strips))*(height+gap)+52)
	end := 1.0
	if len(seconds) > 0 {
		end = seconds[len(seconds)-1]
	}
	for i, s := range strips {
		top := 34 + float64(i)*(height+gap)
		all := slices.Concat(s.values, s.second)
		y := chart.Linear(0, max(slices.Max(append(all, 0)), 1e-9)).Nice()
		if s.log {
			y = chart.Log(smallest(all), slices.Max(append(all, 1))).Nice()
		}
		n := p.Panel(plotLeft, top, plotInner, height, chart.Linear(0, end), y)
		n.YAxis(s.name, chart.Ticks(y, 3, s.label))
		ticks := chart.Ticks(n.X, 10, chart.Number)
		if i == len(strips)-1 {
			n.XAxis("Seconds since the start", ticks)
		} else {
			n.XAxis("", nil)
		}
		s.draw(n, seconds)
	}
	return p
}

func (s strip) draw(n *chart.Panel, seconds []float64) {
	pair := func(values []float64) []chart.Point {
		var pts []chart.Point
		for i, v := range values {
			if !s.log || v > 0 {
				pts = append(pts, chart.Point{X: seconds[i], Y: v})
			}
		}
		return pts
	}
	pts := pair(s.values)
	if !s.log {
		n.Area(s.class, pts)
	}
	n.Line(s.class, pts)
	n.Line(s.class+" thin", pair(s.second))
	if len(pts) == 0 {
		return
	}
	if len(s.second) > 0 {
		upper := pair(s.second)
		n.Ends([]chart.End{
			{Y: pts[len(pts)-1].Y, Class: s.class, Text: "p50"},
			{Y: upper[len(upper)-1].Y, Class: s.class, Text: "p99"},
		})
		return
	}
	end := s.end
	if end == "" {
		end = "median " + s.label(middle(s.values))
	}
	n.Ends([]chart.End{{Y: middle(s.values), Class: s.class, Text: end}})
}

// middle is the median; zero of none.
func middle(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return median(values)
}

// smallest is the least positive value.
func smallest(values []float64) float64 {
	low := math.Inf(1)
	for _, v := range values {
		if v > 0 {
			low = min(low, v)
		}
	}
	if math.IsInf(low, 1) {
		return 1
	}
	return low
}

// stagePlot draws p50 and p99 of each stage on one logarithmic scale.
func stagePlot(stages []Stage) *chart.Plot {
	const row = 30
	low, high := math.Inf(1), 1.0
	for _, s := range stages {
		low, high = min(low, max(s.P50, 1)), max(high, s.P99, s.Mean)
	}
	p := chart.New("stages", "Time per stage", "Median, mean and 99th percentile of each stage on a logarithmic scale.", plotWidth, float64(len(stages))*row+84)
	n := p.Panel(190, 24, plotWidth-190-166, float64(len(stages))*row, chart.Log(min(low, high), high).Nice(), chart.Linear(0, 1))
	ticks := chart.Ticks(n.X, 8, chart.Micros)
	n.XGrid(ticks)
	n.XAxis("Time in the stage", ticks)
	for i, s := range stages {
		y := 24 + (float64(i)+.5)*row
		class := "c1"
		if s.Name == "total" {
			class = "c2"
		}
		name := s.Part + " · " + s.Name
		if s.Name == "total" {
			name = s.Part
		}
		p.Label(178, y+4, "end", "value", name)
		p.Rule(n.X.At(s.P50), y, n.X.At(s.P99), y, "span "+class)
		p.Dot(n.X.At(s.P99), y, 4.5, class+" hollow", fmt.Sprintf("%s: 99 %% within %s", name, chart.Micros(s.P99)))
		p.Dot(n.X.At(s.P50), y, 5, class, fmt.Sprintf("%s: half within %s", name, chart.Micros(s.P50)))
		p.Label(plotWidth-142, y+4, "start", "tick", chart.Micros(s.P50)+" · "+chart.Micros(s.P99))
	}
	p.Label(plotWidth-142, 14, "start", "name", "p50 · p99")
	return p
}
