package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// Log is one log of the pipeline. Read calls each with what it holds behind after, oldest first, until
// there is no more, and returns the place of the last one, also with an error. A place of another life
// of the log is its beginning. One Read at a time.
type Log interface {
	Read(ctx context.Context, after order.Place, each func(order.Logged) error) (order.Place, error)
}

// Ports join an index to the rest of the system.
type Ports struct {
	// Log returns the given log.
	Log func(order.Log) Log
	// Now is the bus clock.
	Now func() time.Time
	// Full reports that the disk has no room for an index; nil: it always has.
	Full func() bool
}

// Index is the index of one process. Create it with New, then call Run once; look-ups may come at any
// time.
type Index struct {
	cfg   Config
	ports Ports
	log   *slog.Logger
	m     *metrics

	// Of the goroutine in Run.
	logs   [len(order.Logs) + 1]Log
	done   places
	kept   places // of the last write
	newest minute // no key is of a later minute, clocks permitting
	behind [order.LogLow + 1]bool
	buf    []byte

	open   sync.RWMutex // held for reading while db is in use, for writing while it comes and goes
	db     *store       // nil: not open
	oldest minute       // what is older went

	rounds rounds
}

// New returns an index that is not open yet. It fails when cfg is invalid or a port is missing.
func New(cfg Config, ports Ports, log *slog.Logger, reg prometheus.Registerer) (*Index, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Dir == "" || ports.Log == nil || ports.Now == nil {
		return nil, errors.New("trace index: no folder, log or clock")
	}
	if ports.Full == nil {
		ports.Full = func() bool { return false }
	}
	x := &Index{cfg: cfg, ports: ports, log: log, m: newMetrics(reg)}
	for _, l := range order.Logs {
		x.logs[l] = ports.Log(l)
	}
	x.rounds.init()
	return x, nil
}

// openStore opens the folder; one that is damaged is made anew.
func (x *Index) openStore(ctx context.Context) error {
	db, err := openStore(x.cfg.Dir, x.log)
	if err != nil && damaged(err) {
		x.log.LogAttrs(ctx, slog.LevelError, "trace index is damaged and made anew", slog.Any("error", err))
		if err := os.RemoveAll(x.cfg.Dir); err != nil {
			return fmt.Errorf("trace index: %w", err)
		}
		db, err = openStore(x.cfg.Dir, x.log)
	}
	if err != nil {
		return fmt.Errorf("trace index: %w", err)
	}
	x.done, x.newest, err = db.places()
	x.kept = x.done
	if err != nil {
		_ = db.close()
		return fmt.Errorf("trace index: %w", err)
	}
	x.open.Lock()
	x.db = db
	x.open.Unlock()
	return nil
}

func (x *Index) closeStore() error {
	x.open.Lock()
	defer x.open.Unlock()
	db := x.db
	x.db = nil
	return db.close()
}

// take puts one message of a log into the batch.
func (x *Index) take(b *pebble.Batch, l order.Log, e order.Logged) error {
	if l <= order.LogLow {
		x.cover(l, e.Sequence)
	}
	switch {
	case e.Order != nil:
		f := factsOf(e.Order)
		f.validated, f.sequence, f.storedAt = true, e.Sequence, e.StoredAt
		f.priority = order.Priority(l)
		return x.put(b, e.Order.Accept, &f)
	case e.Batch != nil:
		return x.takeEnds(b, e)
	}
	return nil
}

// cover keeps since when a log of validated orders was read without a gap.
func (x *Index) cover(l order.Log, sequence uint64) {
	last := x.done.at[l].Sequence
	if sequence == last+1 && x.done.since[l] != 0 {
		return
	}
	if x.done.since[l] != 0 && sequence > last {
		x.m.missed.Add(float64(sequence - last - 1))
		x.behind[l] = true
	}
	x.done.since[l] = sequence
}

// takeEnds takes a batch of terminal records. One that can't be read is `ledger verify`'s business.
func (x *Index) takeEnds(b *pebble.Batch, e order.Logged) error {
	es, err := ledger.Decode(e.Batch)
	if err != nil {
		x.m.unreadable.Inc()
		return nil //nolint:nilerr // what can't be read is counted, and must not stop the rest
	}
	for i := range es {
		a := es[i].Accept
		end := endOf(e.Target, &es[i], e.StoredAt)
		x.buf = appendOrder(x.buf[:0], a, e.Target)
		n := len(x.buf)
		x.buf = end.appendTo(x.buf, a)
		if err := b.Set(x.buf[:n], x.buf[n:], nil); err != nil {
			return err
		}
		if x.knows(&es[i]) {
			continue
		}
		f := factsIn(&es[i])
		if e.Trail != nil {
			f.trail, _ = e.Trail(a)
		}
		if err := x.put(b, a, &f); err != nil {
			return err
		}
	}
	x.m.ends.Add(float64(len(es)))
	return nil
}

// knows reports whether the order of a terminal record came by validated, so that more is known of it
// than the record tells.
func (x *Index) knows(e *ledger.Entry) bool {
	l := order.Log(e.Priority)
	if e.Sequence == 0 || l < order.LogHigh || l > order.LogLow {
		return false
	}
	return x.done.since[l] != 0 && e.Sequence >= x.done.since[l] && e.Sequence <= x.done.at[l].Sequence
}

// put stores an order's facts and its names.
func (x *Index) put(b *pebble.Batch, a order.AcceptID, f *facts) error {
	marks := f.trail.Marks
	f.txs = uint64(len(marks) / order.MarkSize)
	x.buf = appendOrder(x.buf[:0], a, "")
	n := len(x.buf)
	x.buf = f.appendTo(x.buf, a)
	if err := b.Set(x.buf[:n], x.buf[n:], nil); err != nil {
		return err
	}
	id, hash := mark(f.id[:order.MarkSize]), mark(f.hash[:order.MarkSize])
	if err := x.name(b, id, a); err != nil {
		return err
	}
	if hash != id {
		if err := x.name(b, hash, a); err != nil {
			return err
		}
	}
	if !f.replacement.IsZero() {
		if err := x.name(b, mark(f.replacement), a); err != nil {
			return err
		}
	}
	for ; len(marks) >= order.MarkSize; marks = marks[order.MarkSize:] {
		if err := x.name(b, mark(marks[:order.MarkSize]), a); err != nil {
			return err
		}
	}
	x.m.orders.Inc()
	return nil
}

func (x *Index) name(b *pebble.Batch, m mark, a order.AcceptID) error {
	x.buf = appendMark(x.buf[:0], m, a)
	return b.Set(x.buf, nil, nil)
}
