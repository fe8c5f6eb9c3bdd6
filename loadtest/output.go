package loadtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Printable is a report of any kind.
type Printable interface {
	WriteTable(w io.Writer) error
	WriteJSON(w io.Writer) error
}

var (
	_ Printable = (*Report)(nil)
	_ Printable = (*Comparison)(nil)
	_ Printable = (*Sweep)(nil)
)

// Output says where a report goes.
type Output struct {
	JSON bool   `name:"json" help:"Print the report as JSON."`
	Save string `name:"save" placeholder:"FILE" help:"Write the report as JSON to a file, from which 'loadtest report' makes pages and plots."`
	HTML string `name:"html" placeholder:"FILE" help:"Write the report as one self-contained page."`
}

// print writes a report wherever it is wanted.
func (o Output) print(stdout io.Writer, rep Printable) error {
	if o.Save != "" {
		if err := writeFile(o.Save, rep.WriteJSON); err != nil {
			return err
		}
	}
	if o.HTML != "" {
		if err := writeFile(o.HTML, func(w io.Writer) error { return WriteHTML(w, rep) }); err != nil {
			return err
		}
	}
	if o.JSON {
		return rep.WriteJSON(stdout)
	}
	return rep.WriteTable(stdout)
}

// writeFile writes a file in one go, so that a failed page leaves none behind.
func writeFile(name string, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil { //nolint:gosec // a report is for everyone
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// encode writes v as indented JSON.
func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// ReadReport reads a saved report of any kind.
func ReadReport(r io.Reader) (Printable, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var rep Printable
	switch head.Schema {
	case SchemaRun:
		rep = &Report{}
	case SchemaCompare:
		rep = &Comparison{}
	case SchemaSweep:
		rep = &Sweep{}
	case SchemaRegions:
		rep = &RegionsReport{}
	default:
		return nil, fmt.Errorf("read report: %w: schema %q", ErrConfig, head.Schema)
	}
	if err := json.Unmarshal(b, rep); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	return rep, nil
}

// ReportCommand makes pages and plots of a saved report as a subcommand.
type ReportCommand struct {
	File string `arg:"" help:"Report saved with --save."`
	HTML string `name:"html" placeholder:"FILE" help:"Write one self-contained page."`
	SVG  string `name:"svg" placeholder:"DIR" help:"Write each plot as a file of its own."`
	JSON bool   `name:"json" help:"Print the report as JSON."`
}

// Run writes the page and the plots, and prints the report.
func (c *ReportCommand) Run(stdout io.Writer) error {
	b, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	rep, err := ReadReport(bytes.NewReader(b))
	if err != nil {
		return err
	}
	if c.SVG != "" {
		if err := WritePlots(c.SVG, rep); err != nil {
			return err
		}
	}
	return Output{JSON: c.JSON, HTML: c.HTML}.print(stdout, rep)
}
