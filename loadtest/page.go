package loadtest

import (
	"embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/loadtest/chart"
)

//go:embed page.tmpl
var pageFiles embed.FS

// page is what the template prints.
type page struct {
	Kicker, Title, Lead string
	Verdict             verdict
	Warnings            []string
	Tiles               []tile
	Sections            []section
	Setup               [][2]string
}

// verdict is the outcome in a word; Class is good, bad or open.
type verdict struct{ Class, Text string }

// tile is one key figure.
type tile struct{ Label, Value, Note string }

// section is one figure with its heading, or a table alone.
type section struct {
	ID, Title string
	figure
}

// WriteHTML writes a report as one self-contained page, which reads nothing from anywhere.
func WriteHTML(w io.Writer, rep Printable) error {
	p, err := newPage(rep)
	if err != nil {
		return err
	}
	t, err := chart.Templates()
	if err == nil {
		t, err = t.ParseFS(pageFiles, "page.tmpl")
	}
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	if err := t.ExecuteTemplate(w, "page", p); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// WritePlots writes each plot of a report as an SVG file into a directory, which it makes.
func WritePlots(dir string, rep Printable) error {
	p, err := newPage(rep)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // plots are for everyone
		return fmt.Errorf("write plots: %w", err)
	}
	for _, s := range p.Sections {
		if s.Plot == nil {
			continue
		}
		if err := writeFile(filepath.Join(dir, s.ID+".svg"), s.Plot.WriteFile); err != nil {
			return err
		}
	}
	return nil
}

func newPage(rep Printable) (*page, error) {
	switch r := rep.(type) {
	case *Report:
		if len(r.Flows) > 0 {
			return r.page(), nil
		}
	case *Comparison:
		if len(r.Legs) > 0 {
			return r.page(), nil
		}
	case *Sweep:
		if len(r.Points) > 0 {
			return r.page(), nil
		}
	case *RegionsReport:
		if len(r.Links) > 0 {
			return r.page(), nil
		}
	}
	return nil, fmt.Errorf("%w: a report of nothing", ErrConfig)
}

func (p *page) add(id, title string, f figure) {
	p.Sections = append(p.Sections, section{ID: id, Title: title, figure: f})
}

// mostWarnings bounds the warnings of a page; a report holds all.
const mostWarnings = 8

// fold leaves out what is too much to be read.
func fold(warnings []string) []string {
	if len(warnings) <= mostWarnings {
		return warnings
	}
	return append(slices.Clone(warnings[:mostWarnings-1]), fmt.Sprintf("and %d more of the kind", len(warnings)-mostWarnings+1))
}

// kicker is the line above the title.
func kicker(kind string, started time.Time) string {
	return kind + " · " + started.UTC().Format("2 January 2006, 15:04 UTC")
}

// offered is the load in words.
func (s Setup) offered() string {
	if s.Rate == 0 {
		return fmt.Sprintf("As fast as %d connections go", s.Connections)
	}
	return fmt.Sprintf("%s orders per second over %d connections", chart.Number(s.Rate), s.Connections)
}

// Rows of the setup that a sweep may vary.
const (
	rowRate        = "Rate"
	rowConnections = "Connections"
	rowSize        = "Sizes of bundles"
)

// list is the setup for people.
func (s Setup) list() [][2]string {
	size := "published distribution (p50 3 kB, p90 19 kB, p99 40 kB)"
	if s.Size > 0 {
		size = chart.Bytes(float64(s.Size))
	}
	rate := "closed loop"
	if s.Rate > 0 {
		rate = fmt.Sprintf("%s per second, %s spacing", chart.Number(s.Rate), s.Spacing)
	}
	out := [][2]string{
		{rowRate, rate},
		{rowConnections, strconv.Itoa(s.Connections)},
		{"Duration", time.Duration(s.Seconds * float64(time.Second)).String()},
		{rowSize, size},
		{"Mix", s.Mix},
		{"Corpus", fmt.Sprintf("seed %d from order %d", s.Seed, s.First)},
		{"Machine", fmt.Sprintf("%d cores, %s", s.Cores, s.Platform)},
	}
	if len(s.Doors) > 0 {
		out = append(out, [2]string{"Doors", strings.Join(s.Doors, ", ")})
	}
	return out
}

// judgement is the check as a verdict.
func (r *Report) judgement() verdict {
	switch {
	case r.Check == nil:
		return verdict{"open", "answers only, nothing checked"}
	case r.Check.OK():
		return verdict{"good", "every promise kept"}
	}
	n := 0
	for _, k := range r.Check.Breaks {
		n += k
	}
	return verdict{"bad", fmt.Sprintf("%d promises broken", n)}
}
