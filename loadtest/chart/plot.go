package chart

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
)

// Plot is a drawing of Width by Height units, which a page scales to its column.
type Plot struct {
	ID, Title, Desc string
	Width, Height   float64

	Rects []Rect
	Rules []Rule
	Paths []Path
	Dots  []Dot
	Texts []Text
}

// Rect is a filled rectangle.
type Rect struct {
	X, Y, W, H  float64
	Class, Note string // Note is shown on hover
}

// Rule is a straight line.
type Rule struct {
	X1, Y1, X2, Y2 float64
	Class          string
}

// Path is a line or an area.
type Path struct{ D, Class string }

// Dot is a point with a note that is shown on hover.
type Dot struct {
	X, Y, R     float64
	Class, Note string
}

// Text is a label; Anchor is start, middle or end.
type Text struct {
	X, Y                  float64
	Anchor, Class, String string
}

// New returns an empty plot.
func New(id, title, desc string, width, height float64) *Plot {
	return &Plot{ID: id, Title: title, Desc: desc, Width: width, Height: height}
}

// Label writes text.
func (p *Plot) Label(x, y float64, anchor, class, text string) {
	p.Texts = append(p.Texts, Text{X: round(x), Y: round(y), Anchor: anchor, Class: class, String: text})
}

// Rule draws a straight line.
func (p *Plot) Rule(x1, y1, x2, y2 float64, class string) {
	p.Rules = append(p.Rules, Rule{round(x1), round(y1), round(x2), round(y2), class})
}

// Box draws a rectangle.
func (p *Plot) Box(x, y, w, h float64, class, note string) {
	p.Rects = append(p.Rects, Rect{round(x), round(y), round(w), round(h), class, note})
}

// Dot draws a point.
func (p *Plot) Dot(x, y, r float64, class, note string) {
	p.Dots = append(p.Dots, Dot{round(x), round(y), r, class, note})
}

// Panel is a part of a plot with its own axes.
type Panel struct {
	plot                     *Plot
	Left, Top, Right, Bottom float64
	X, Y                     Scale
}

// Panel places two scales in a rectangle of the plot.
func (p *Plot) Panel(left, top, width, height float64, x, y Scale) *Panel {
	return &Panel{
		plot: p, Left: left, Top: top, Right: left + width, Bottom: top + height,
		X: x.place(left, left+width), Y: y.place(top+height, top),
	}
}

// Tick is a labelled value of an axis.
type Tick struct {
	Value float64
	Label string
}

// Ticks labels round values of a scale.
func Ticks(s Scale, about int, label func(float64) string) []Tick {
	values := s.Ticks(about)
	out := make([]Tick, len(values))
	for i, v := range values {
		out[i] = Tick{v, label(v)}
	}
	return out
}

// XAxis draws the ticks below the panel and what they count.
func (n *Panel) XAxis(title string, ticks []Tick) {
	p := n.plot
	p.Rule(n.Left, n.Bottom, n.Right, n.Bottom, "axis")
	for _, t := range ticks {
		x := n.X.At(t.Value)
		p.Rule(x, n.Bottom, x, n.Bottom+4, "axis")
		p.Label(x, n.Bottom+18, "middle", "tick", t.Label)
	}
	if title != "" {
		p.Label((n.Left+n.Right)/2, n.Bottom+38, "middle", "name", title)
	}
}

// YAxis draws grid lines with their values on the left, and the title above.
func (n *Panel) YAxis(title string, ticks []Tick) {
	p := n.plot
	for _, t := range ticks {
		y := n.Y.At(t.Value)
		p.Rule(n.Left, y, n.Right, y, "grid")
		p.Label(n.Left-8, y+4, "end", "tick", t.Label)
	}
	if title != "" {
		p.Label(n.Left, n.Top-12, "start", "name", title)
	}
}

// XGrid draws lines upwards from the ticks.
func (n *Panel) XGrid(ticks []Tick) {
	for _, t := range ticks {
		x := n.X.At(t.Value)
		n.plot.Rule(x, n.Top, x, n.Bottom, "grid")
	}
}

// Point is a pair of values.
type Point struct{ X, Y float64 }

// Line joins points in their order.
func (n *Panel) Line(class string, points []Point) {
	if len(points) > 0 {
		n.plot.Paths = append(n.plot.Paths, Path{n.trace(points), "line " + class})
	}
}

// Area fills what lies between points and the lower end of the scale.
func (n *Panel) Area(class string, points []Point) {
	if len(points) == 0 {
		return
	}
	last := points[len(points)-1]
	d := n.trace(points) + fmt.Sprintf("L%g %gL%g %gZ", round(n.X.At(last.X)), round(n.Bottom), round(n.X.At(points[0].X)), round(n.Bottom))
	n.plot.Paths = append(n.plot.Paths, Path{d, "area " + class})
}

// Marks puts a dot with a note on each point.
func (n *Panel) Marks(class string, points []Point, note func(Point) string) {
	for _, pt := range points {
		n.plot.Dot(n.X.At(pt.X), n.Y.At(pt.Y), 3, class, note(pt))
	}
}

func (n *Panel) trace(points []Point) string {
	var b strings.Builder
	for i, pt := range points {
		verb := "L"
		if i == 0 {
			verb = "M"
		}
		fmt.Fprintf(&b, "%s%g %g", verb, round(n.X.At(pt.X)), round(n.Y.At(pt.Y)))
	}
	return b.String()
}

// End is the label of a line at its right end.
type End struct {
	Y           float64 // value
	Class, Text string
}

// endGap is the least distance between two labels.
const endGap = 16

// Ends labels lines at the right edge, moved apart where they would lie over each other.
func (n *Panel) Ends(ends []End) {
	ys := make([]float64, len(ends))
	order := make([]int, len(ends))
	for i, e := range ends {
		ys[i], order[i] = n.Y.At(e.Y), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(ys[a], ys[b]) })
	at := math.Inf(-1)
	placed := make([]float64, len(ends))
	for _, i := range order {
		at = max(ys[i], at+endGap)
		placed[i] = at
	}
	// What was pushed out at the bottom pushes the others back.
	limit := n.Bottom + 2
	for _, i := range slices.Backward(order) {
		placed[i] = min(placed[i], limit)
		limit = placed[i] - endGap
	}
	for i, e := range ends {
		n.plot.Label(n.Right+8, placed[i]+4, "start", "end "+e.Class, e.Text)
	}
}

// round keeps a tenth of a unit.
func round(v float64) float64 { return math.Round(v*10) / 10 }

//go:embed plot.tmpl
var files embed.FS

// Templates defines "plot", which prints a *Plot inside a page, "plot-file", which prints one as a
// file of its own, and "plot-style", the style sheet of both.
func Templates() (*template.Template, error) {
	t, err := template.ParseFS(files, "plot.tmpl")
	if err != nil {
		return nil, fmt.Errorf("parse plot templates: %w", err)
	}
	return t, nil
}

// WriteFile writes the plot as an SVG file of its own.
func (p *Plot) WriteFile(w io.Writer) error {
	t, err := Templates()
	if err != nil {
		return err
	}
	if err := t.ExecuteTemplate(w, "plot-file", p); err != nil {
		return fmt.Errorf("write plot: %w", err)
	}
	return nil
}
