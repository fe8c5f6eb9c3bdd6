package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
	"millrace/internal/retry"
)

// errFound ends a Read that found what it looked for.
var errFound = errors.New("found")

// Tape is the record as the replayers of a process see it: an index of the calls, read once for all,
// and the newest bodies.
type Tape struct {
	cfg   Config
	log   Log
	clock Clock
	slog  *slog.Logger
	also  []string

	mu      sync.Mutex
	index   *chain.Index
	read    uint64        // position of the newest entry in the index
	life    uint64        // counts the times that the log began anew
	changed chan struct{} // closed at the next change
	newest  []body        // newest last
	size    int64         // of newest
}

type body struct {
	at  uint64
	raw []byte
}

// NewTape makes a tape over log. Calls of methods that match also are kept besides those which
// replays need.
func NewTape(cfg Config, log Log, clock Clock, logger *slog.Logger, also ...string) *Tape {
	t := &Tape{cfg: cfg, log: log, clock: clock, slog: logger, also: also, changed: make(chan struct{})}
	t.index = t.fresh()
	return t
}

func (t *Tape) fresh() *chain.Index {
	x := chain.New(t.cfg.MaxCalls)
	x.Also = func(method string) bool { return matches(t.also, method) } // called under mu
	return x
}

// Reload puts another configuration in force, but for MaxCalls, which sizes the index. Calls of methods that
// match also are kept from now on.
func (t *Tape) Reload(cfg Config, also ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	cfg.MaxCalls = t.cfg.MaxCalls
	t.cfg, t.also = cfg, also
}

// Run follows the log until ctx ends. When the log fails it is tried again after a second.
func (t *Tape) Run(ctx context.Context) error {
	for {
		err := t.Sync(ctx)
		if err == nil {
			err = t.log.Follow(ctx, t.next(), func(e record.Entry) error {
				t.add(e)
				return nil
			})
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end was asked for
		}
		t.slog.LogAttrs(ctx, slog.LevelWarn, "engine record not readable", slog.Any("error", err))
		if !retry.Pause(ctx, time.Second) {
			return nil
		}
	}
}

// Sync reads what the log holds now, and forgets what it does not hold any more.
func (t *Tape) Sync(ctx context.Context) error {
	first, err := t.log.First(ctx)
	if err != nil {
		return fmt.Errorf("oldest entry of the record: %w", err)
	}
	// Read before asking: while the answer is under way, others go on reading what is newer than it.
	read := t.next() - 1
	last, err := t.log.Last(ctx)
	if err != nil {
		return fmt.Errorf("newest entry of the record: %w", err)
	}
	t.mu.Lock()
	if last < read {
		t.slog.LogAttrs(ctx, slog.LevelWarn, "engine record began anew", slog.Uint64("last", last), slog.Uint64("read", t.read))
		t.index, t.read, t.newest, t.size = t.fresh(), 0, nil, 0
		t.life++
	}
	t.index.Trim(first)
	from := max(t.read+1, first)
	t.mu.Unlock()
	err = t.log.Read(ctx, from, func(e record.Entry) error {
		t.add(e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the record: %w", err)
	}
	return nil
}

func (t *Tape) next() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.read + 1
}

// add takes an entry, unless another reader was faster.
func (t *Tape) add(e record.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Stream <= t.read {
		return
	}
	t.read = e.Stream
	t.index.Add(e)
	if r := e.Request; r != nil && worthKeeping(r) {
		t.newest = append(t.newest, body{e.Stream, r.Raw})
		t.size += int64(len(r.Raw))
		for t.size > t.cfg.MaxBodies && len(t.newest) > 1 {
			t.size -= int64(len(t.newest[0].raw))
			t.newest[0] = body{} // the array keeps what is in front of the slice
			t.newest = t.newest[1:]
		}
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// look runs f on the index; f must not keep it. The channel closes at the next change.
func (t *Tape) look(f func(x *chain.Index, now chain.Time)) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(t.index, t.now())
	return t.changed
}

// lives counts the times that the log began anew: positions of one life mean nothing in another.
func (t *Tape) lives() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.life
}

func (t *Tape) now() chain.Time {
	return chain.Time{Now: t.clock.Now(), Unknown: t.cfg.OutcomeWait, Vouched: t.cfg.VouchedWait}
}

// bodies reads recorded requests again, for one replayer. One reading of the log brings those that
// follow too, because a plan asks for them next.
type bodies struct {
	tape  *Tape
	ahead map[uint64][]byte
}

// Bounds of reading ahead.
const (
	aheadCalls = 128
	aheadBytes = 4 << 20
)

// call is the recorded request at a position, without the wish for a witness; ErrGone when the log lost it,
// and the index forgets it.
func (b *bodies) call(ctx context.Context, at uint64) (engineapi.Call, error) {
	raw := b.tape.cached(at)
	if raw == nil {
		raw = b.ahead[at]
	}
	if raw == nil {
		if err := b.read(ctx, at); err != nil {
			return engineapi.Call{}, fmt.Errorf("read entry %d: %w", at, err)
		}
		raw = b.ahead[at]
	}
	calls, batch, err := engineapi.ParseCalls(raw)
	if raw == nil || err != nil || batch || len(calls) != 1 {
		b.tape.look(func(x *chain.Index, _ chain.Time) { x.Forget(at) })
		return engineapi.Call{}, fmt.Errorf("entry %d: %w", at, ErrGone)
	}
	return calls[0].Plain()
}

// read brings the request at a position and some that follow.
func (b *bodies) read(ctx context.Context, at uint64) error {
	b.ahead = map[uint64][]byte{}
	size := 0
	err := b.tape.log.Read(ctx, at, func(e record.Entry) error {
		if r := e.Request; r != nil && (e.Stream == at || worthKeeping(r)) {
			b.ahead[e.Stream] = r.Raw
			size += len(r.Raw)
		}
		if len(b.ahead) == 0 || len(b.ahead) >= aheadCalls || size >= aheadBytes {
			return errFound // the first entry is the one asked for, or it is gone
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

func worthKeeping(r *record.Request) bool {
	return r.Class == engineapi.ClassReplay || r.Class == engineapi.ClassForkchoice
}

func (t *Tape) cached(at uint64) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.newest {
		if b.at == at {
			return b.raw
		}
	}
	return nil
}
