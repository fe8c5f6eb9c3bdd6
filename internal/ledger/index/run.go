package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"millrace/internal/order"
	"millrace/internal/retry"
)

const (
	// every is how often the logs are read when nobody asks.
	every = 250 * time.Millisecond
	// between is the least pause between two rounds, however many ask.
	between = 20 * time.Millisecond
	// flushEvery is how long what is written may be in memory alone. It must be read again after
	// kill -9, so it is well inside what OK keeps.
	flushEvery = 10 * time.Second
	// tidyEvery is how often age and size are looked at.
	tidyEvery = time.Minute
	// batchBytes bounds one write.
	batchBytes = 256 << 10
	// patience is the pause after a round that failed.
	patience = time.Second
)

// Run opens the folder, follows the logs until ctx ends, and closes it. A folder that another process
// has, or that can't be opened, is told once and is no failure of this process: it goes on without
// an index.
func (x *Index) Run(ctx context.Context) error {
	if err := x.openStore(ctx); err != nil {
		x.log.LogAttrs(ctx, slog.LevelError, "no trace index in this process", slog.String("dir", x.cfg.Dir), slog.Any("error", err))
		<-ctx.Done()
		return nil
	}
	x.follow(ctx)
	if err := x.closeStore(); err != nil {
		return fmt.Errorf("close trace index: %w", err)
	}
	return nil
}

// follow reads the logs round after round.
func (x *Index) follow(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	flushed, tidied, failing := time.Now(), time.Time{}, false
	for ctx.Err() == nil {
		err := x.round(ctx)
		if err == nil && time.Since(flushed) >= flushEvery {
			_, err = x.db.AsyncFlush()
			flushed = time.Now()
		}
		if err == nil && time.Since(tidied) >= tidyEvery {
			err = x.tidy(ctx)
			tidied = time.Now()
		}
		if err != nil && ctx.Err() == nil && !failing {
			x.log.LogAttrs(ctx, slog.LevelWarn, "trace index is behind", slog.Any("error", err))
		}
		failing = err != nil
		if failing {
			x.m.failures.Inc()
			retry.Pause(ctx, patience)
		}
		retry.Pause(ctx, between)
		select {
		case <-tick.C:
		case <-x.rounds.asked:
		case <-ctx.Done():
		}
	}
}

// round reads each log to its present end.
func (x *Index) round(ctx context.Context) error {
	if err := x.db.ok(); err != nil {
		return err
	}
	if x.ports.Full() {
		return errFull
	}
	n := x.rounds.begin()
	start := time.Now()
	for _, l := range order.Logs {
		if err := x.read(ctx, l); err != nil {
			return err
		}
	}
	x.warn(ctx)
	x.m.rounds.Observe(time.Since(start).Seconds())
	x.rounds.end(n)
	return nil
}

var errFull = errors.New("the disk is full")

// read takes one log to its present end, in writes of a bounded size.
func (x *Index) read(ctx context.Context, l order.Log) error {
	b := x.db.NewBatch()
	defer func() { _ = b.Close() }()
	start := x.done.at[l]
	var unwritten error
	to, err := x.logs[l].Read(ctx, start, func(e order.Logged) error {
		if unwritten = x.take(b, l, e); unwritten != nil {
			return unwritten
		}
		x.done.at[l].Sequence = e.Sequence
		if b.Len() >= batchBytes {
			unwritten = x.commit(b)
		}
		return unwritten
	})
	if unwritten == nil {
		x.done.at[l] = to
		if to != start && !b.Empty() || to.Epoch != start.Epoch {
			unwritten = x.commit(b)
		}
	}
	if unwritten != nil {
		x.done = x.kept // what the batch had is read again
	}
	if err = errors.Join(err, unwritten); err != nil {
		return fmt.Errorf("read log %s: %w", l, err)
	}
	return nil
}

// commit writes a batch with the places up to which it goes.
func (x *Index) commit(b *pebble.Batch) error {
	if err := x.db.ok(); err != nil {
		return err
	}
	x.newest = max(x.newest, minuteOf(x.ports.Now()))
	if err := b.Set(appendPlaces(nil, x.newest), x.done.encode(), nil); err != nil {
		return err
	}
	if err := x.db.Apply(b, pebble.NoSync); err != nil {
		return err
	}
	b.Reset()
	x.kept = x.done
	return nil
}

// warn tells, once per gap, that validated orders were purged before they were read.
func (x *Index) warn(ctx context.Context) {
	for l := range x.behind {
		if x.behind[l] {
			x.behind[l] = false
			x.log.LogAttrs(ctx, slog.LevelWarn, "trace index missed validated orders: they can be found by hash and id, not by their transactions",
				slog.String("log", order.Log(l).String()), slog.Uint64("before", x.done.since[l]))
		}
	}
}

// tidy drops what is too old, and the oldest when it is too much.
func (x *Index) tidy(ctx context.Context) error {
	first, ok, err := x.db.first()
	if err != nil || !ok {
		return err
	}
	before := minuteOf(x.ports.Now().Add(-x.cfg.MaxAge))
	size := x.db.bytes()
	x.m.bytes.Set(float64(size))
	if size > x.cfg.MaxBytes && x.newest > first {
		before = max(before, first+max((x.newest-first)/16, 1))
	}
	if before <= first {
		return nil
	}
	x.open.Lock()
	x.oldest = max(x.oldest, before)
	x.open.Unlock()
	return x.db.drop(ctx, before)
}

// rounds lets a look-up wait for a round that began after it was asked.
type rounds struct {
	asked chan struct{} // of size one

	mu          sync.Mutex
	begun, done uint64
	turn        chan struct{} // closed at the end of a round
}

func (r *rounds) init() { r.asked, r.turn = make(chan struct{}, 1), make(chan struct{}) }

func (r *rounds) begin() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun++
	return r.begun
}

func (r *rounds) end(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = n
	close(r.turn)
	r.turn = make(chan struct{})
}

// await waits until everything that was stored before the call has been read, or ctx ends; it reports
// which.
func (r *rounds) await(ctx context.Context) bool {
	r.mu.Lock()
	want := r.begun + 1
	r.mu.Unlock()
	for {
		select {
		case r.asked <- struct{}{}:
		default:
		}
		r.mu.Lock()
		done, turn := r.done, r.turn
		r.mu.Unlock()
		if done >= want {
			return true
		}
		select {
		case <-turn:
		case <-ctx.Done():
			return false
		}
	}
}
