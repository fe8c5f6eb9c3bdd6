package main

import (
	"context"
	"errors"

	"millrace/loadtest"
)

// loadtestCmd sends orders to running doors and judges what became of them.
type loadtestCmd struct {
	Run     loadtestRunCmd     `cmd:"" default:"withargs" help:"Send to one door. This is the default."`
	Compare loadtestCompareCmd `cmd:"" help:"Measure several doors in turn, A B A B, and compare them pair by pair."`
	Regions loadtestRegionsCmd `cmd:"" help:"Measure nodes with an emulated network between them, and what becomes of orders when it fails."`
	Report  loadtestReportCmd  `cmd:"" help:"Make pages and plots of a saved report."`
}

// Help is the long help text.
func (loadtestCmd) Help() string {
	return `Sends signed orders that follow from a seed and prints latencies and answers. With --sink it is the builder as well: start the node with --builder.url=http://127.0.0.1:8645 and the test finds what was lost, delivered twice or, with --admin, not recorded. It reads no configuration file and no MILLRACE_ variables. Exit code 1 when a promise was broken or the test was broken off. All flags: millrace loadtest run --help.

Example: millrace loadtest --sink --admin http://127.0.0.1:8090 --rate 500 --duration 1m --html report.html`
}

// loadtestRunCmd is a test of one door.
type loadtestRunCmd struct {
	loadtest.Command `embed:""`
}

// Run runs the test; the report goes to stdout, everything else to stderr.
func (c *loadtestRunCmd) Run(ctx context.Context, a *app) error {
	c.Notes = a.stderr
	return loadtestEnd(ctx, c.Command.Run(ctx, a.stdout))
}

// loadtestCompareCmd is a comparison of several doors.
type loadtestCompareCmd struct {
	loadtest.CompareCommand `embed:""`
}

// Help is the long help text.
func (loadtestCompareCmd) Help() string {
	return `Only one target is sent to at a time; each gets the same orders. The ratio of each pair is taken first, then their median, so that a machine that changes its pace between pairs does not matter. It speaks HTTP only: any order-flow proxy can be a target. What the idle targets use meanwhile is reported.

Example: millrace loadtest compare --target a=127.0.0.1:8080 --sink a=127.0.0.1:8645 --admin a=http://127.0.0.1:8090 --pid a=123 --target b=127.0.0.1:9080 --sink b=127.0.0.1:8646 --pid b=456 --pairs 5 --html compare.html`
}

// Run compares; the report goes to stdout, everything else to stderr.
func (c *loadtestCompareCmd) Run(ctx context.Context, a *app) error {
	c.Notes = a.stderr
	return loadtestEnd(ctx, c.CompareCommand.Run(ctx, a.stdout))
}

// loadtestReportCmd makes pages of what was saved.
type loadtestReportCmd struct {
	loadtest.ReportCommand `embed:""`
}

// Run writes what is asked for.
func (c *loadtestReportCmd) Run(a *app) error {
	return loadtestEnd(context.Background(), c.ReportCommand.Run(a.stdout))
}

// errBrokenOff is a test that a signal ended.
var errBrokenOff = errors.New("the test was broken off, there is no verdict")

func loadtestEnd(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return errors.Join(errBrokenOff, err)
	case errors.Is(err, loadtest.ErrConfig):
		return usage(err)
	}
	return err
}
