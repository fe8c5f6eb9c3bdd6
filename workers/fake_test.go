package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
	"millrace/subjects"
)

var errDown = fmt.Errorf("%w: down", order.ErrUnavailable)

// store is what outlives a process: the streams and buckets.
type store struct {
	mu       sync.Mutex
	now      time.Time
	ok       map[string]*order.Order // by message id: a second copy is not stored
	claims   map[string][]byte       // by the same id: whichever comes first
	records  map[order.AcceptID]ledger.Entry
	trails   map[order.AcceptID]*order.Trail // of the records
	refusals map[order.ID]*order.Reason
	marks    map[order.AcceptID]int // to the life that set it
	verdicts []order.Verdict
	trail    []string // the effects, in order
	// fail, if set, is asked before and after each effect takes place.
	fail func(effect string, done bool) error
}

func newStore() *store {
	return &store{
		now: testNow, ok: map[string]*order.Order{}, claims: map[string][]byte{}, records: map[order.AcceptID]ledger.Entry{}, trails: map[order.AcceptID]*order.Trail{},
		refusals: map[order.ID]*order.Reason{}, marks: map[order.AcceptID]int{},
	}
}

// effect does f unless the store fails before it; it may fail after it, too. Other workers may do what
// they do before and after it, but not meanwhile.
func (s *store) effect(ctx context.Context, name string, f func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.fail != nil {
		if err := s.fail(name, false); err != nil {
			return err
		}
	}
	s.mu.Lock()
	f()
	s.trail = append(s.trail, name)
	s.mu.Unlock()
	if s.fail != nil {
		return s.fail(name, true)
	}
	return nil
}

func (s *store) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// fakeBus is one process life's access to the store.
type fakeBus struct {
	*store
	life    int
	consume func(ctx context.Context, slots int, h handler) error
}

type handler = func(context.Context, order.Delivery, func()) (func(context.Context) error, error)

func (b *fakeBus) Now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *fakeBus) ConsumeIn(ctx context.Context, slots int, h func(context.Context, order.Delivery, func()) (func(context.Context) error, error)) error {
	return b.consume(ctx, slots, h)
}

func (b *fakeBus) PublishOK(ctx context.Context, o *order.Order) (r order.Receipt, err error) {
	err = b.effect(ctx, "ok", func() {
		id := subjects.OKMsgID(o)
		if b.ok[id] != nil || b.claims[id] != nil {
			r.Duplicate = true
			return
		}
		c := *o
		b.ok[id] = &c
	})
	return r, err
}

func (b *fakeBus) RecordRejected(ctx context.Context, o *order.Order, entry []byte) error {
	return b.effect(ctx, "record", func() {
		es, err := ledger.Decode(entry)
		if err != nil || len(es) != 1 || es[0].Priority != o.Priority || es[0].Accept != o.Accept {
			panic("bad record")
		}
		if _, ok := b.records[o.Accept]; !ok {
			b.records[o.Accept] = es[0]
		}
		b.trails[o.Accept] = o.Trail
	})
}

func (b *fakeBus) ClaimEnd(ctx context.Context, o *order.Order, entry []byte) (claimed []byte, err error) {
	id := subjects.OKMsgID(o)
	err = b.effect(ctx, "claim", func() {
		if _, recorded := b.records[o.Accept]; b.ok[id] != nil || recorded && b.claims[id] == nil {
			return
		}
		if b.claims[id] == nil {
			b.claims[id] = entry
		}
		claimed = b.claims[id]
	})
	return claimed, err
}

func (b *fakeBus) Recorded(ctx context.Context, o *order.Order) (recorded bool, err error) {
	err = b.effect(ctx, "look", func() { _, recorded = b.records[o.Accept] })
	return recorded, err
}

func (b *fakeBus) PutRefusal(ctx context.Context, id order.ID, r *order.Reason) error {
	return b.effect(ctx, "refusal", func() { b.refusals[id] = r })
}

func (b *fakeBus) SendVerdict(ctx context.Context, _ string, v order.Verdict) error {
	return b.effect(ctx, "verdict", func() { b.verdicts = append(b.verdicts, v) })
}

func (b *fakeBus) MarkSuspect(ctx context.Context, a order.AcceptID) (already bool, err error) {
	err = b.effect(ctx, "mark", func() {
		life, ok := b.marks[a]
		already = ok && life != b.life
		b.marks[a] = b.life // taken over: asked again, it would not tell any more
	})
	return already, err
}

func (b *fakeBus) ClearSuspect(ctx context.Context, a order.AcceptID) error {
	return b.effect(ctx, "clear", func() { delete(b.marks, a) })
}

func (b *fakeBus) ports() Ports {
	return Ports{Source: b, Publisher: b, Recorder: b, Ends: b, Refusals: b, Verdicts: b, Suspects: b, Clock: b}
}

// rulesFunc is Rules by a function.
type rulesFunc func(raw []byte, kind order.Kind, now time.Time) (order.TxInfo, error)

func (f rulesFunc) Check(raw []byte, kind order.Kind, now time.Time) (order.TxInfo, error) {
	return f(raw, kind, now)
}

func (f rulesFunc) Warm() {}

// anything are rules that refuse nothing.
var anything = rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) { return order.TxInfo{}, nil })

// process is one process life: a worker and its bus.
type process struct {
	*Worker
	bus *fakeBus
}

func start(tb testing.TB, s *store, life int, rules Rules) process {
	tb.Helper()
	b := &fakeBus{store: s, life: life}
	w, err := New(Config{SignerCache: cacheConfig()}, b.ports(), rules, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(tb, err)
	return process{w, b}
}

// deliver runs one delivery to its verdict, as the source does; errDied when the process died.
func (p process) deliver(d order.Delivery) error {
	err := errDied
	done := make(chan struct{})
	go func() {
		defer close(done)
		finish, herr := p.handle(context.Background(), d, func() {})
		if herr == nil && finish != nil {
			herr = finish(context.Background())
		}
		err = herr
	}()
	<-done
	return err
}

var errDied = errors.New("process died")

// die ends the calling process life as kill -9 would, as far as the store can tell: what it was doing
// goes no further.
func die() { runtime.Goexit() }
