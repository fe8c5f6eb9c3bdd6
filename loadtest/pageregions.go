package loadtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/loadtest/chart"
	"millrace/loadtest/regions"
)

// mostLinks bounds the plots of a page; its tables have every link.
const mostLinks = 4

// page lays out a test over several regions.
func (r *RegionsReport) page() *page {
	p := &page{
		Kicker: kicker("Load test over regions", r.Started), Title: r.Setup.offered(), Verdict: r.judgement(),
		Warnings: fold(r.Generator.Warnings), Setup: r.Setup.list(), Tiles: r.tiles(),
		Lead: fmt.Sprintf("%s orders in %s over the network %s.", grouped(r.sent()), r.Elapsed.Round(10*time.Millisecond), r.Topology),
	}
	p.Setup = append(p.Setup, [2]string{"Topology", r.Topology})
	if r.Scenario != "" {
		p.Setup = append(p.Setup, [2]string{"Scenario", r.Scenario})
	}
	p.add("latency", "How long it takes", r.latencyFigure())
	for i, l := range r.shown() {
		if l.Series != nil {
			p.add("link-"+strconv.Itoa(i+1), l.name(), l.timeFigure())
		}
	}
	p.add("links", "What the links carried", r.linkFigure())
	if len(r.Events) > 0 {
		p.add("events", "What happened", r.eventFigure())
	}
	return p
}

func (r *RegionsReport) sent() int {
	n := 0
	for _, f := range r.Doors {
		n += f.Sent
	}
	return n
}

// shown are the links that are drawn: those between nodes first.
func (r *RegionsReport) shown() []*LinkReport {
	var far, near []*LinkReport
	for i := range r.Links {
		if l := &r.Links[i]; l.crosses() {
			far = append(far, l)
		} else {
			near = append(near, l)
		}
	}
	out := slices.Concat(far, near)
	return out[:min(len(out), mostLinks)]
}

func (r *RegionsReport) judgement() verdict {
	if err := r.Err(); err != nil {
		return verdict{"bad", strings.TrimPrefix(err.Error(), ErrViolations.Error()+": ")}
	}
	return verdict{"good", "everything arrived everywhere, once"}
}

// tiles are the key figures, of the slowest link.
func (r *RegionsReport) tiles() []tile {
	worst := r.shown()[0]
	for _, l := range r.shown() {
		if l.crosses() && l.Orders.P50 > worst.Orders.P50 {
			worst = l
		}
	}
	l := worst.Orders
	out := []tile{
		{"Latency p50", chart.Micros(float64(l.P50)), worst.name()},
		{"Latency p99", chart.Micros(float64(l.P99)), "maximum " + chart.Micros(float64(l.Max))},
	}
	if worst.Echo.Count > 0 && l.Count > 0 {
		out = append(out, tile{"Beyond the echo", signed(worst.Beyond.P50), "p50; p99 " + signed(worst.Beyond.P99)})
	}
	out = append(out, tile{"Lost", grouped(r.lost()), "of " + grouped(r.owed()) + " deliveries"})
	if r.CPU > 0 {
		out = append(out, tile{"CPU per order", chart.Micros(float64(r.PerOrder.Nanoseconds()) / 1e3), "of all nodes"})
	}
	return append(out, tile{"Links", chart.Micros(float64(per(r.LinksCPU, r.sent()).Nanoseconds()) / 1e3), "CPU an order, of the emulation"})
}

// owed is how many deliveries the accepted orders owe.
func (r *RegionsReport) owed() int {
	n := 0
	for i := range r.Links {
		n += r.Links[i].Accepted
	}
	return n
}

// brief cuts a name to the room that a line's label has.
func brief(name string) string {
	const most = 17
	if r := []rune(name); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return name
}

// signed is a difference for people.
func signed(micros int64) string {
	if micros < 0 {
		return "−" + chart.Micros(float64(-micros))
	}
	return chart.Micros(float64(micros))
}

func (r *RegionsReport) latencyFigure() figure {
	var lines []line
	t := grid{Head: []string{"", "count", "p50", "p90", "p99", "p99.9", "maximum"}}
	row := func(name string, l Latency) {
		t.Rows = append(t.Rows, []string{
			name, grouped(int(l.Count)), chart.Micros(float64(l.P50)), chart.Micros(float64(l.P90)), chart.Micros(float64(l.P99)),
			chart.Micros(float64(l.P999)), chart.Micros(float64(l.Max)),
		})
	}
	shown := r.shown()
	for i, l := range shown {
		lines = append(lines, line{brief(l.name()), class(i), l.OrderCurve, l.Orders.Count})
		if l.Echo.Count > 0 {
			lines = append(lines, line{brief("echo to " + l.To), "mute dash", l.EchoCurve, l.Echo.Count})
		}
	}
	for i := range r.Links {
		l := &r.Links[i]
		row(l.name(), l.Orders)
		if !l.crosses() {
			continue
		}
		row("echo "+l.name(), l.Echo)
		if l.Orders.Count == 0 {
			continue
		}
		t.Rows = append(t.Rows, []string{"beyond the echo", "", signed(l.Beyond.P50), signed(l.Beyond.P90), signed(l.Beyond.P99), signed(l.Beyond.P999), ""})
	}
	return figure{
		Plot: percentilePlot("latency", lines), Table: t,
		Lead: "Orders from the moment they are sent to one node to the moment the builder behind another has read them, and a TCP echo through the same link, one way. What is beyond the echo is the nodes' part.",
	}
}

func (l *LinkReport) timeFigure() figure {
	s := l.Series
	seconds := make([]float64, len(s.Delivered))
	t := grid{Head: []string{"second", "delivered /s", "p50", "p99", "echo", "Mbit/s"}}
	for i := range seconds {
		seconds[i] = (float64(i) + .5) * s.Step
		t.Rows = append(t.Rows, []string{
			fmt.Sprintf("%.2f", float64(i)*s.Step), chart.Number(s.Delivered[i]), chart.Micros(s.P50[i]), chart.Micros(s.P99[i]),
			chart.Micros(s.Echo[i]), fmt.Sprintf("%.1f", s.Bits[i]/1e6),
		})
	}
	strips := []strip{
		{name: "Delivered per second", class: "c3", values: s.Delivered, label: chart.Number},
		{name: "Latency, p50 and p99", class: "c1", values: s.P50, second: s.P99, label: chart.Micros, log: true},
	}
	if l.crosses() {
		strips = append(strips,
			strip{name: "Echo, by when it was sent", class: "mute", values: s.Echo, label: chart.Micros, log: true},
			strip{name: "Mbit per second", class: "c2", values: s.Bits, label: func(v float64) string { return chart.Number(v / 1e6) }})
	}
	lead := "The way to the builder of the same node."
	if l.crosses() {
		lead = "The link is " + spell(l.Conditions) + "."
	}
	return figure{
		Plot:  timePlot("link-"+l.From+"-"+l.To, "Over time: "+l.name(), "Deliveries per second, latency, echo and bandwidth of one link, below each other over the seconds of the run.", seconds, strips),
		Table: t, Lead: lead + fmt.Sprintf(" Every point is %.2g seconds; orders are drawn when they arrived.", s.Step),
	}
}

// spell is the conditions of a link in words.
func spell(c regions.Conditions) string {
	text := c.Delay.String() + " one way"
	if c.Jitter > 0 {
		text += " ± " + c.Jitter.String()
	}
	text += ", " + c.Bandwidth.String()
	if c.ResetEvery > 0 {
		text += ", reset every " + c.ResetEvery.String()
	}
	return text
}

func (r *RegionsReport) linkFigure() figure {
	t := grid{Head: []string{"link", "accepted", "delivered", "lost", "duplicate", "repeated", "bytes", "mean", "peak", "connections", "resets"}}
	for i := range r.Links {
		l := &r.Links[i]
		t.Rows = append(t.Rows, []string{
			l.name(), grouped(l.Accepted), grouped(l.Delivered), grouped(l.Lost), grouped(l.Duplicates), grouped(l.Repeats),
			chart.Bytes(float64(l.Bytes)), bits(l.Bandwidth), bits(l.Peak), strconv.Itoa(l.Connections), strconv.Itoa(l.Resets),
		})
	}
	return figure{Table: t, Lead: "Accepted by one node's door, delivered to the builder behind the other. Repeated ones carried the mark of an order that may have been sent before; duplicates did not."}
}

func (r *RegionsReport) eventFigure() figure {
	t := grid{Head: []string{"second", "event"}}
	for _, e := range r.Events {
		t.Rows = append(t.Rows, []string{fmt.Sprintf("%.2f", e.At.Seconds()), told(e)})
	}
	return figure{Table: t, Lead: "Done by the scenario, when it had been done."}
}
