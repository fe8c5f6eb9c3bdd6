package loadtest

import "io"

// WriteHTML writes a report as one self-contained page.
func WriteHTML(w io.Writer, rep Printable) error { return nil }

// WritePlots writes each plot of a report as an SVG file into a directory.
func WritePlots(dir string, rep Printable) error { return nil }
