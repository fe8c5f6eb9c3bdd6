package main

import (
	"context"
	"errors"

	"millrace/loadtest"
)

// loadtestCmd sends orders to a running door and judges what became of them.
type loadtestCmd struct {
	loadtest.Command `embed:""`
}

// Help is the long help text.
func (loadtestCmd) Help() string {
	return `Sends signed orders that follow from a seed and prints latencies and answers. With --sink it is the builder as well: start the node with --builder.url=http://127.0.0.1:8645 and the test finds what was lost, delivered twice or, with --admin, not recorded. It reads no configuration file and no MILLRACE_ variables. Exit code 1 when a promise was broken or the test was broken off.

Example: millrace loadtest --sink --admin http://127.0.0.1:8090 --rate 500 --duration 1m`
}

// errBrokenOff is a test that a signal ended.
var errBrokenOff = errors.New("the test was broken off, there is no verdict")

// Run runs the test; the report goes to stdout, everything else to stderr.
func (c *loadtestCmd) Run(ctx context.Context, a *app) error {
	c.Notes = a.stderr
	err := c.Command.Run(ctx, a.stdout)
	switch {
	case ctx.Err() != nil:
		return errors.Join(errBrokenOff, err)
	case errors.Is(err, loadtest.ErrConfig):
		return usage(err)
	}
	return err
}
