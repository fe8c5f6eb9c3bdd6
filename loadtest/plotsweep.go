package loadtest

import (
	"fmt"
	"math"

	"millrace/loadtest/chart"
)

// sweepPanel is one measure of a sweep.
type sweepPanel struct {
	name  string
	of    func(*Report) float64
	upper func(*Report) float64 // a thin line above, such as a higher percentile; may be nil
	label func(float64) string
	log   bool
}

func sweepPanels() []sweepPanel {
	return []sweepPanel{
		{name: "CPU per accepted order", of: func(r *Report) float64 { return float64(r.PerOrder.Microseconds()) }, label: chart.Micros, log: true},
		{name: "Accepted per second", of: func(r *Report) float64 { return r.acceptedRate() }, label: chart.Number, log: true},
		{
			name: "Latency, p50 and p99 (thin)", of: func(r *Report) float64 { return float64(r.latency().P50) },
			upper: func(r *Report) float64 { return float64(r.latency().P99) }, label: chart.Micros, log: true,
		},
		{name: "Peak RSS", of: func(r *Report) float64 { return float64(r.PeakRSS) }, label: chart.Bytes},
	}
}

// latency is wire to wire, or of the answers where no sink was.
func (r *Report) latency() Latency {
	f := r.Flows[0]
	if f.Wire.Count == 0 {
		return f.Answer
	}
	return f.Wire
}

// axisOf is the name of a variable on an axis and how its values read.
func (v Variable) axis() (title string, label func(float64) string) {
	switch v {
	case VariableSize:
		return "Size of a bundle", chart.Bytes
	case VariableConnections:
		return "Connections", chart.Number
	case VariableRate:
		return "Offered orders per second", chart.Number
	}
	return string(v), chart.Number
}

// sweepPlot draws the measures of a sweep in two columns, a line per target.
func sweepPlot(s *Sweep) *chart.Plot {
	const w, h, colGap, rowGap, left, right = 310, 190, 130, 96, 62, 64
	p := chart.New("sweep", "Cost against "+string(s.Variable), "Four measures against the "+string(s.Variable)+", a line for each target.", plotWidth, 2*h+rowGap+104)
	title, label := s.Variable.axis()
	low, high := s.Points[0].Value, s.Points[0].Value
	for _, pt := range s.Points {
		low, high = min(low, pt.Value), max(high, pt.Value)
	}
	x := chart.Log(low, high)
	if s.Variable == VariableRate {
		x = chart.Linear(0, high)
	}
	panels := sweepPanels()
	if s.Variable == VariableRate {
		panels[1].log = false
	}
	for i, m := range panels {
		from, to := math.Inf(1), 1e-9
		s.each(m.of, func(_ string, _, v float64) { from, to = min(from, v), max(to, v) })
		if m.upper != nil {
			s.each(m.upper, func(_ string, _, v float64) { to = max(to, v) })
		}
		y := chart.Linear(0, to).Nice()
		if m.log {
			y = chart.Log(min(from, to), to).Nice()
		}
		n := p.Panel(left+float64(i%2)*(w+colGap), 36+float64(i/2)*(h+rowGap), w, h, x, y)
		n.YAxis(m.name, chart.Ticks(y, 6, m.label))
		n.XAxis(title, chart.Ticks(x, 6, label))
		if s.Variable == VariableRate && i == 1 {
			n.Line("mute dash thin", []chart.Point{{X: 0, Y: 0}, {X: min(high, y.To), Y: min(high, y.To)}})
		}
		s.draw(n, m, label)
	}
	return p
}

// draw draws one measure of every target.
func (s *Sweep) draw(n *chart.Panel, m sweepPanel, label func(float64) string) {
	var ends []chart.End
	for i, t := range s.Targets {
		var pts, up []chart.Point
		s.each(m.of, func(name string, x, v float64) {
			if name == t {
				pts = append(pts, chart.Point{X: x, Y: v})
			}
		})
		if len(pts) == 0 {
			continue
		}
		n.Line(class(i), pts)
		if m.upper != nil {
			s.each(m.upper, func(name string, x, v float64) {
				if name == t {
					up = append(up, chart.Point{X: x, Y: v})
				}
			})
			n.Line(class(i)+" thin", up)
		}
		n.Marks(class(i), pts, func(pt chart.Point) string { return fmt.Sprintf("%s at %s: %s", t, label(pt.X), m.label(pt.Y)) })
		name := t
		if len(s.Targets) == 1 {
			name = m.label(pts[len(pts)-1].Y)
		}
		ends = append(ends, chart.End{Y: pts[len(pts)-1].Y, Class: class(i), Text: name})
	}
	n.Ends(ends)
}

// each calls f with every measured value.
func (s *Sweep) each(of func(*Report) float64, f func(target string, x, v float64)) {
	for _, p := range s.Points {
		for _, l := range p.Legs {
			if v := of(l.Report); v > 0 {
				f(l.Target, p.Value, v)
			}
		}
	}
}
