package loadtest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"millrace/loadtest/chart"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "run with -update if that is meant")
}

func render(t *testing.T, rep Printable) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, WriteHTML(&b, rep))
	return b.String()
}

func TestPageIsSelfContained(t *testing.T) {
	for name, rep := range samples() {
		text := render(t, rep)
		for _, foreign := range []string{"http://", "https://", "src=", "href", "url(", "@import", "fetch(", "<link", "<img", "<iframe"} {
			requireNot(t, text, foreign, name)
		}
		for _, own := range []string{"default-src 'none'", "prefers-color-scheme: dark"} {
			require.Positive(t, strings.Count(text, own), "%s has no %s", name, own)
		}
		for _, broken := range []string{"ZgotmplZ", "NaN", "Inf", "<woke up>", ">-0"} {
			requireNot(t, text, broken, name)
		}
	}
}

// requireNot is require.NotContains without the whole page in the message.
func requireNot(t *testing.T, page, part, name string) {
	t.Helper()
	require.Zero(t, strings.Count(page, part), "%s has %q", name, part)
}

func TestPageIsWellFormed(t *testing.T) {
	svg := regexp.MustCompile(`(?s)<svg.*?</svg>`)
	for name, rep := range samples() {
		text := render(t, rep)
		var open []string
		z := html.NewTokenizer(strings.NewReader(text))
		for {
			kind := z.Next()
			if kind == html.ErrorToken {
				require.ErrorIs(t, z.Err(), io.EOF)
				break
			}
			tok := z.Token()
			switch {
			case kind == html.StartTagToken && tok.Data != "meta":
				open = append(open, tok.Data)
			case kind == html.EndTagToken:
				require.NotEmpty(t, open, name)
				require.Equal(t, open[len(open)-1], tok.Data, name)
				open = open[:len(open)-1]
			}
		}
		require.Empty(t, open, name)
		for _, s := range svg.FindAllString(text, -1) {
			requireXML(t, s)
		}
	}
}

func requireXML(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

// The outline of a page: what a reader, or a reader's reader, finds where.
func TestPageKeepsItsStructure(t *testing.T) {
	for name, rep := range samples() {
		doc, err := html.Parse(strings.NewReader(render(t, rep)))
		require.NoError(t, err)
		var b strings.Builder
		outline(&b, doc, 0)
		golden(t, name+".page", b.String())
	}
}

func outline(b *strings.Builder, n *html.Node, depth int) {
	shown := []atom.Atom{atom.Header, atom.Main, atom.Section, atom.H1, atom.H2, atom.Figure, atom.Svg, atom.Figcaption, atom.Details, atom.Summary, atom.Table, atom.Th, atom.Dl, atom.Dt}
	for c := range n.ChildNodes() {
		next := depth
		if c.Type == html.ElementNode && (slices.Contains(shown, c.DataAtom) || c.Data == "svg") && attr(c, "scope") != "row" {
			line := strings.Repeat("  ", depth) + c.Data
			if id := attr(c, "id"); id != "" {
				line += "#" + id
			}
			if slices.Contains([]atom.Atom{atom.H1, atom.H2, atom.Th, atom.Dt, atom.Summary}, c.DataAtom) {
				line += " " + text(c)
			}
			_, _ = fmt.Fprintln(b, line)
			next++
		}
		outline(b, c, next)
	}
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	if n.Type == html.TextNode {
		return n.Data
	}
	var b strings.Builder
	for c := range n.ChildNodes() {
		b.WriteString(text(c))
	}
	return strings.TrimSpace(b.String())
}

// Whoever doesn't see a plot gets its name, what it shows, and its numbers.
func TestEveryPlotHasATextAlternativeAndItsNumbers(t *testing.T) {
	for name, rep := range samples() {
		doc, err := html.Parse(strings.NewReader(render(t, rep)))
		require.NoError(t, err)
		ids, plots := map[string]*html.Node{}, 0
		for n := range doc.Descendants() {
			if id := attr(n, "id"); id != "" {
				require.Nil(t, ids[id], "%s: two elements %s", name, id)
				ids[id] = n
			}
		}
		for n := range doc.Descendants() {
			for id := range strings.FieldsSeq(attr(n, "aria-labelledby")) {
				require.NotNil(t, ids[id], "%s: %s", name, id)
				require.NotEmpty(t, text(ids[id]), id)
			}
			if n.Data != "figure" {
				continue
			}
			plots++
			var rows, images int
			for d := range n.Descendants() {
				switch d.Data {
				case "svg":
					images++
					require.Equal(t, "img", attr(d, "role"))
				case "tr":
					rows++
				}
			}
			require.Equal(t, 1, images, name)
			require.Greater(t, rows, 1, name)
		}
		require.Positive(t, plots, name)
	}
}

// plots are all plots of all kinds of reports.
func plots(t *testing.T) map[string]*chart.Plot {
	t.Helper()
	out := map[string]*chart.Plot{}
	for name, rep := range samples() {
		p, err := newPage(rep)
		require.NoError(t, err)
		for _, s := range p.Sections {
			if s.Plot != nil {
				out[name+" "+s.ID] = s.Plot
			}
		}
	}
	return out
}

// Labels neither lie over each other nor leave the drawing; a letter is about 7 wide and 12 high.
func TestLabelsDoNotOverlap(t *testing.T) {
	type box struct {
		left, right, top, bottom float64
		text                     string
	}
	for name, p := range plots(t) {
		var boxes []box
		for _, l := range p.Texts {
			w := 6.6 * float64(utf8.RuneCountInString(l.String))
			left := map[string]float64{"start": l.X, "middle": l.X - w/2, "end": l.X - w}[l.Anchor]
			b := box{left, left + w, l.Y - 9, l.Y + 2, l.String}
			require.GreaterOrEqual(t, b.left, 0.0, "%s: %q", name, l.String)
			require.LessOrEqual(t, b.right, p.Width, "%s: %q", name, l.String)
			require.LessOrEqual(t, b.bottom, p.Height, "%s: %q", name, l.String)
			for _, o := range boxes {
				apart := b.right <= o.left || o.right <= b.left || b.bottom <= o.top || o.bottom <= b.top
				require.True(t, apart, "%s: %q lies over %q", name, l.String, o.text)
			}
			boxes = append(boxes, b)
		}
		require.NotEmpty(t, boxes, name)
	}
}

func TestPlotsAreFilesOfTheirOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "plots")
	require.NoError(t, WritePlots(dir, sampleReport(500, 1)))
	files, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	require.NoError(t, err)
	require.Len(t, files, 4)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		requireXML(t, string(b))
		require.Contains(t, string(b), `xmlns="http://www.w3.org/2000/svg"`)
	}
}

func TestEmptyReportHasNoPage(t *testing.T) {
	for _, rep := range []Printable{&Report{}, &Comparison{}, &Sweep{}, &RegionsReport{}} {
		require.ErrorIs(t, WriteHTML(io.Discard, rep), ErrConfig)
	}
}

// A report of answers alone, of an order or two, is a page as well.
func TestSmallReportsHaveAPage(t *testing.T) {
	rep := summarizeAll([]string{"a"}, nil, nil)
	rep.Series = newSeries(nil, nil, rep.Started, 0)
	rep.Usage = &UsageSeries{}
	require.Contains(t, render(t, rep), "nothing checked")
	rep.Usage = nil
	rep.Series = nil
	require.NotContains(t, render(t, rep), "NaN")
	c := &Comparison{Targets: []string{"a", "b"}, Base: "b", Legs: []Leg{{Target: "a", Pair: 1, Report: rep}, {Target: "b", Pair: 1, Report: rep}}}
	require.NotContains(t, render(t, c), "NaN")
	require.NotContains(t, render(t, &RegionsReport{Links: []LinkReport{{From: "a", To: "b", Series: newLinkTimes(rep.Started, 0).series()}}}), "NaN")
	s := &Sweep{Variable: VariableSize, Targets: []string{"a"}, Points: []SweepPoint{{Value: 1, Legs: []Leg{{Target: "a", Report: rep}}}}}
	require.NotContains(t, render(t, s), "NaN")
}

// Tools read these: a field may be added, never taken away or given another type.
func TestReportsKeepTheirSchema(t *testing.T) {
	for name, rep := range map[string]Printable{"run": samples()["run"], "compare": samples()["compare"], "sweep": samples()["ramp"], "regions": samples()["regions"]} {
		var b bytes.Buffer
		require.NoError(t, rep.WriteJSON(&b))
		first := b.String()
		var v any
		require.NoError(t, json.Unmarshal(b.Bytes(), &v))
		seen := map[string]bool{}
		paths(seen, "", v)
		list := make([]string, 0, len(seen))
		for p := range seen {
			list = append(list, p)
		}
		slices.Sort(list)
		golden(t, name+".schema", strings.Join(list, "\n")+"\n")

		back, err := ReadReport(&b)
		require.NoError(t, err)
		var again bytes.Buffer
		require.NoError(t, back.WriteJSON(&again))
		require.Equal(t, first, again.String())
	}
}

// paths collects every path of a document with the type that is found there; keys that are data
// count as one.
func paths(seen map[string]bool, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			for _, open := range []string{".answers", ".outcomes", ".breaks", ".examples", ".saturation"} {
				if strings.HasSuffix(at, open) {
					k = "*"
				}
			}
			paths(seen, at+"."+k, x)
		}
	case []any:
		for _, x := range v {
			paths(seen, at+"[]", x)
		}
	default:
		seen[fmt.Sprintf("%s %T", at, v)] = true
	}
}

func TestReportsThatNobodyWrote(t *testing.T) {
	for _, text := range []string{"", "{", "{}", `{"schema":"other/1"}`, `{"schema":"` + SchemaRun + `","flows":7}`} {
		_, err := ReadReport(strings.NewReader(text))
		require.Error(t, err, text)
	}
}

func TestTablesSayWhatPagesSay(t *testing.T) {
	for name, want := range map[string][]string{
		"run":     {"wire p50", "every promise kept", "warning: the generator", "ingress verify", "woke up"},
		"compare": {"median of ratios", "CPU per accepted order", "v1b", "warning:"},
		"regions": {"virginia > frankfurt", "beyond the echo", "restart frankfurt, which failed: gone", "1 orders lost between nodes"},
		"ramp":    {"kept up with", "accepted/s", "v1b"},
	} {
		var b bytes.Buffer
		require.NoError(t, samples()[name].WriteTable(&b))
		for _, w := range want {
			require.Contains(t, b.String(), w, name)
		}
	}
}
