package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/rpcapi"
	"millrace/subjects"
)

// QueueConfig is gateway.queue where it is shared.
type QueueConfig struct {
	Timeout   time.Duration // of waiting; zero: 5 s
	MaxBytes  int64         // of each class; zero: 16 MiB
	MaxAnswer int64         // of one answer; zero: 128 MiB
	Replicas  int           // nats.replicas

	Order Order

	// Repeatable says that a call may be run twice; nil: none may.
	Repeatable func(*rpcapi.Call) bool
}

// Order is the serving order of the classes.
type Order struct {
	FastPerHigh int   // fast-track calls for each high one while there are both
	Drain       Drain // of the fast-track class
	LowEvery    int   // one low call for so many others; zero: only when there are no others
}

// Drain says whether high calls get a turn while fast-track calls wait.
type Drain uint8

// Values of Drain.
const (
	DrainFair  Drain = iota // as FastPerHigh says
	DrainFirst              // fast-track calls all go first
)

// silence is for how long who serves a call may say nothing: it was handed on once, meanwhile.
const silence = 3 * subjects.GatewayAckWait

// errTooLong is a call that exceeds a message.
var errTooLong = errors.New("call exceeds a message of the bus")

// Queue passes calls between gateways. It is safe for concurrent use.
type Queue struct {
	cfg  QueueConfig
	topo subjects.Options
	bus  Bus
	log  *slog.Logger
	m    *metrics
	id   uint64
	last atomic.Uint64 // call

	order atomic.Pointer[Order] // never changed, only replaced

	mu      sync.Mutex
	nc      *nats.Conn // nil: not opened yet
	inbox   string
	waiters map[uint64]*waiter
}

// NewQueue returns the queue of calls.
func NewQueue(cfg QueueConfig, b Bus, log *slog.Logger, reg prometheus.Registerer) *Queue {
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 16 << 20
	}
	if cfg.MaxAnswer == 0 {
		cfg.MaxAnswer = 128 << 20
	}
	q := &Queue{
		cfg: cfg, bus: b, log: log, m: newMetrics(reg), id: rand.Uint64(), waiters: make(map[uint64]*waiter), //nolint:gosec // a name
		topo: subjects.Options{GatewayTimeout: cfg.Timeout, GatewayMaxBytes: cfg.MaxBytes, Replicas: cfg.Replicas},
	}
	q.Reorder(cfg.Order)
	return q
}

// Reorder changes the order in which this process takes calls. What else is configured is the streams' and can't change
// while others use them.
func (q *Queue) Reorder(o Order) { q.order.Store(&o) }

// open returns the connection, on which answers are heard from the first call on until it is closed.
func (q *Queue) open() (*nats.Conn, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.nc != nil {
		return q.nc, nil
	}
	nc, err := q.bus.GatewayLink()
	if err != nil {
		return nil, err
	}
	inbox := nc.NewInbox()
	s, err := nc.Subscribe(inbox+".*", q.hear)
	if err != nil {
		return nil, err
	}
	if err := s.SetPendingLimits(-1, int(4*q.cfg.MaxAnswer)); err != nil {
		return nil, err
	}
	q.nc, q.inbox = nc, inbox
	return nc, nil
}

// ensure makes streams and consumers that are not there: they are in memory, and go with a server.
func (q *Queue) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	js, err := q.bus.GatewayState()
	if err != nil {
		return err
	}
	for _, c := range subjects.GatewayStreams(q.topo) {
		_, err := js.CreateOrUpdateConsumer(ctx, c.Name, subjects.GatewayConsumer())
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			if err := makeStream(ctx, js, c); err != nil {
				return fmt.Errorf("make stream %s: %w", c.Name, err)
			}
			_, err = js.CreateOrUpdateConsumer(ctx, c.Name, subjects.GatewayConsumer())
		}
		if err != nil {
			return fmt.Errorf("make consumer of %s: %w", c.Name, err)
		}
	}
	return nil
}

// makeStream makes a stream that was not there. One that came meanwhile with other sizes, as another gateway or an
// operator wants it, does as well; a bus that makes its streams itself, millrace bus, lets nobody else even try.
func makeStream(ctx context.Context, js jetstream.JetStream, c jetstream.StreamConfig) error {
	if _, err := js.CreateStream(ctx, c); err != nil && !streamExists(err) {
		return err
	}
	return nil
}

// Offer has some gateway answer the call: the answer, or rpcapi's error. When ctx ends the call is taken back. Of the
// node that answered, Tag and Label are known.
func (q *Queue) Offer(ctx context.Context, call *rpcapi.Call) (*rpcapi.Answer, error) {
	nc, err := q.open()
	if err != nil {
		return nil, fmt.Errorf("offer call: %w", err)
	}
	if call.Class < rpcapi.FastTrack || call.Class > rpcapi.Low {
		return nil, fmt.Errorf("offer call: no class: %s", call.Class)
	}
	for n := 0; ; n++ {
		a, err := q.offer(ctx, nc, call)
		if !errors.Is(err, nats.ErrNoResponders) || n > 0 {
			return a, err
		}
		if err := q.ensure(ctx); err != nil {
			return nil, fmt.Errorf("offer call: %w", err)
		}
	}
}

func (q *Queue) offer(ctx context.Context, nc *nats.Conn, call *rpcapi.Call) (*rpcapi.Answer, error) {
	w := &waiter{q: q, class: call.Class, done: make(chan result, 1)}
	id := callID{q.id, q.last.Add(1)}
	wire := wireCall{id: id, repeat: repeatNever, inbox: q.inbox + "." + strconv.FormatUint(id.number, 36), call: *call}
	if q.cfg.Repeatable != nil && q.cfg.Repeatable(call) {
		wire.repeat = repeatOnce
	}
	b, err := wire.append(make([]byte, 0, callHead+256+len(call.Body)))
	if err == nil && int64(len(b)) > nc.MaxPayload() {
		err = errTooLong
	}
	if err != nil {
		return nil, fmt.Errorf("offer call: %w", err)
	}
	q.mu.Lock()
	q.waiters[id.number] = w
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		delete(q.waiters, id.number)
		q.mu.Unlock()
	}()
	q.m.offered[call.Class].Inc()
	// The store's acknowledgement comes to where the answer comes: nobody waits for it alone.
	err = nc.PublishMsg(&nats.Msg{Subject: subjects.GatewayCalls(call.Class.String()), Reply: wire.inbox, Data: b})
	if err != nil {
		return nil, fmt.Errorf("offer call: %w", err)
	}
	return q.await(ctx, nc, w, id, call)
}

// await waits for the end of a call that was offered.
func (q *Queue) await(ctx context.Context, nc *nats.Conn, w *waiter, id callID, call *rpcapi.Call) (*rpcapi.Answer, error) {
	received := call.Received
	if received.IsZero() {
		received = time.Now()
	}
	timer := time.NewTimer(time.Until(received.Add(q.cfg.Timeout)))
	defer timer.Stop()
	for {
		select {
		case r := <-w.done:
			return r.answer, r.err
		case <-ctx.Done():
			q.cancel(ctx, nc, id)
			return nil, context.Cause(ctx)
		case <-timer.C:
		}
		heard := w.heard()
		if heard.IsZero() {
			q.cancel(ctx, nc, id)
			return nil, rpcapi.ErrQueueTimeout
		}
		left := silence - time.Since(heard)
		if left <= 0 {
			q.cancel(ctx, nc, id)
			return nil, rpcapi.ErrUnreachable
		}
		timer.Reset(left)
	}
}

func (q *Queue) cancel(ctx context.Context, nc *nats.Conn, id callID) {
	if err := nc.Publish(subjects.GatewayCancel, id.append(nil)); err != nil {
		q.log.LogAttrs(ctx, slog.LevelDebug, "call could not be taken back", slog.Any("error", err))
	}
}

// result is how a call ended.
type result struct {
	answer *rpcapi.Answer
	err    error
}

// waiter is a call whose end is awaited.
type waiter struct {
	q     *Queue
	class rpcapi.Class
	done  chan result // of one

	mu     sync.Mutex
	last   time.Time // somebody who serves it was heard
	ended  bool
	whole  []byte
	next   uint16 // part
	server uint32 // whose parts they are
}

func (w *waiter) heard() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

func (w *waiter) end(a *rpcapi.Answer, err error) {
	if !w.ended {
		w.ended = true
		w.done <- result{a, err}
	}
}

// hear takes what comes for the calls of this process.
func (q *Queue) hear(m *nats.Msg) {
	n, err := strconv.ParseUint(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], 36, 64)
	q.mu.Lock()
	w := q.waiters[n]
	q.mu.Unlock()
	if err != nil || w == nil {
		return // its caller is gone
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(m.Data) == 0: // the status of a request that nobody takes
		w.end(nil, nats.ErrNoResponders)
	case m.Data[0] == '{':
		w.stored(m.Data)
	default:
		w.part(m.Data)
	}
}

// Errors of the server when there is no room.
const (
	codeStoreFailed = 10077 // the stream is full
	codeNoResources = 10023
	codeNoMemory    = 10028
)

// stored reads the store's acknowledgement.
func (w *waiter) stored(b []byte) {
	var ack struct {
		Error *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	switch err := json.Unmarshal(b, &ack); {
	case err != nil:
		w.end(nil, fmt.Errorf("offer call: %w", err))
	case ack.Error == nil:
		// Now it can be found: who is idle looks.
		_ = w.q.nc.Publish(subjects.GatewayNews, []byte{byte(w.class)})
	case ack.Error.Code == codeStoreFailed, ack.Error.Code == codeNoResources, ack.Error.Code == codeNoMemory:
		w.q.m.full[w.class].Inc()
		w.end(nil, rpcapi.ErrQueueFull)
	default:
		w.end(nil, fmt.Errorf("offer call: the bus refused it: %s", ack.Error.Description))
	}
}

// part takes a message of whoever serves the call.
func (w *waiter) part(b []byte) {
	p, ok := decodePart(b)
	if !ok {
		return
	}
	w.last = time.Now()
	if p.count == 0 {
		return // it is at work
	}
	if p.index == 0 {
		w.whole, w.next, w.server = nil, 0, p.server
	}
	if p.index != w.next || p.server != w.server {
		return // one got lost, or it is of somebody who was thought dead
	}
	if int64(len(w.whole)+len(p.data)) > w.q.cfg.MaxAnswer+answerHead+partHead {
		w.end(nil, rpcapi.ErrAnswerTooLarge)
		return
	}
	w.next++
	if p.count == 1 {
		w.whole = bytes.Clone(p.data)
	} else {
		w.whole = append(w.whole, p.data...)
	}
	if w.next == p.count {
		w.end(decodeResult(w.whole))
	}
}
