package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"millrace/internal/bus"
	"millrace/internal/bus/enginelog"
	calls "millrace/internal/engineapi/record"
	"millrace/internal/telemetry"
)

// errNotStored is an import of which a part was lost.
var errNotStored = errors.New("the capture is not stored whole")

// engineImportCmd puts a capture into a record.
type engineImportCmd struct {
	settings `embed:""`
	Input    string `arg:"" name:"input" help:"File of JSON lines, as engine export writes them."`
}

// Help is the long help text.
func (engineImportCmd) Help() string {
	return `Stores calls and answers under an epoch of their own, with now as their place in the record and the capture's times as those of the calls. Needs nats.url, or nats.store_dir of a process that does not run: it embeds the server meanwhile. engine.primary of the configuration is not called.

Import into a record of its own: the replayers of a process that uses the record would take the last forkchoice in it for the consensus client's.`
}

// Run stores the capture.
func (c *engineImportCmd) Run(ctx context.Context, a *app) error {
	// It is read twice: of a file with a fault nothing is stored, and none is held in memory.
	var missing losses
	if _, err := readCapture(c.Input, 1, missing.add, func(*calls.Request, *calls.Outcome) error { return ctx.Err() }); err != nil {
		return err
	}
	cfg := &c.Keys
	cfg.complete()
	if !cfg.Engine.enabled() {
		cfg.Engine.Door.Primary = "http://127.0.0.1:8551" // declares the streams; nothing is sent there
	}
	if err := cfg.validate(0); err != nil {
		return usage(err)
	}
	log, err := telemetry.NewLog(a.stderr, cfg.Log)
	if err != nil {
		return usage(err)
	}
	reg := telemetry.NewRegistry(build())
	cfg.NATS.Role = "engine"
	b, err := bus.Dial(ctx, cfg.NATS, cfg.topology(), log.Logger, reg)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	defer b.Close() //nolint:contextcheck // closing has bounds of its own
	epoch, err := enginelog.NewState(b, log.Logger).ClaimEpoch(ctx)
	if err != nil {
		return err
	}
	rec, err := enginelog.New(cfg.Engine.Spool, b, log.Logger, reg)
	if err != nil {
		return usage(err)
	}
	n, err := store(ctx, rec, c.Input, epoch)
	if err != nil {
		return fmt.Errorf("%w, after %d calls as epoch %d: %w", errNotStored, n, epoch, err)
	}
	if !missing.none() {
		fmt.Fprintf(a.stderr, "the capture says: %s\n", &missing)
	}
	_, err = fmt.Fprintf(a.stdout, "%d calls imported as epoch %d\n", n, epoch)
	return err
}

// store hands a capture to a recorder that runs only for it, no faster than it is stored. It fails as soon
// as a record is lost.
func store(ctx context.Context, rec *enginelog.Recorder, path string, epoch uint64) (n uint64, err error) {
	recording, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(recording)
	g.Go(func() error { return rec.Run(recording) })
	g.Go(func() error {
		defer stop() // it ends when what it was given is stored
		n, err = readCapture(path, epoch, func(calls.Lost) {}, func(q *calls.Request, o *calls.Outcome) error { return storeCall(ctx, rec, q, o) })
		if err != nil {
			return err
		}
		if err := rec.Settled(ctx); err != nil {
			return err
		}
		return lostNone(rec)
	})
	return n, g.Wait()
}

// storeCall records one call when there is room for it.
func storeCall(ctx context.Context, rec *enginelog.Recorder, q *calls.Request, o *calls.Outcome) error {
	if err := rec.Room(ctx, int64(len(q.Raw))); err != nil {
		return err
	}
	rec.Request(q)
	if err := rec.Room(ctx, 0); err != nil {
		return err
	}
	rec.Outcome(o)
	return lostNone(rec)
}

func lostNone(rec *enginelog.Recorder) error {
	if n := rec.Lost(); n > 0 {
		return fmt.Errorf("%d records were lost, see engine.spool_max and record.engine", n)
	}
	return nil
}
