package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEndLabelsMakeRoomForEachOther(t *testing.T) {
	p := New("p", "A plot", "What it shows.", 400, 200)
	n := p.Panel(50, 20, 200, 100, Linear(0, 1), Linear(0, 100))
	n.Ends([]End{{Y: 50, Text: "a"}, {Y: 51, Text: "b"}, {Y: 0, Text: "c"}, {Y: 1, Text: "d"}, {Y: 100, Text: "e"}})
	y := map[string]float64{}
	for _, l := range p.Texts {
		y[l.String] = l.Y
	}
	require.Less(t, y["e"], y["b"])
	require.InDelta(t, endGap, y["a"]-y["b"], 0.2, "the higher value stays above")
	require.GreaterOrEqual(t, y["c"]-y["d"], float64(endGap)-0.2)
	require.LessOrEqual(t, y["c"], n.Bottom+7)
}

func TestPlotIsAFileOfItsOwn(t *testing.T) {
	p := New("p", "Less < more", "What it shows & how.", 400, 200)
	n := p.Panel(50, 20, 200, 100, Linear(0, 10), Linear(0, 100))
	n.XAxis("Seconds", Ticks(n.X, 4, Number))
	n.YAxis("Value", Ticks(n.Y, 4, Number))
	n.XGrid(nil)
	pts := []Point{{0, 1}, {5, 50}, {10, 100}}
	n.Line("c1", pts)
	n.Area("c1", pts)
	n.Line("c1", nil)
	n.Area("c1", nil)
	n.Marks("c1", pts, func(pt Point) string { return Number(pt.Y) })
	p.Box(1, 2, 3, 4, "bar", "a \"note\"")
	var b bytes.Buffer
	require.NoError(t, p.WriteFile(&b))
	require.Contains(t, b.String(), "Less &lt; more")
	require.Contains(t, b.String(), `d="M50 119L150 70L250 20"`)
	d := xml.NewDecoder(strings.NewReader(b.String()))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
}

func BenchmarkPlot(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		p := New("p", "A plot", "What it shows.", 400, 200)
		n := p.Panel(50, 20, 200, 100, Linear(0, 120), Linear(0, 100))
		var pts []Point
		for i := range 120 {
			pts = append(pts, Point{float64(i), float64(i % 100)})
		}
		n.Line("c1", pts)
		n.Area("c1", pts)
	}
}
