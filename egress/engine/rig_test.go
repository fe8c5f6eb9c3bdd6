package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/egress/engine/chain"
	"millrace/internal/eltest"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

var errDown = errors.New("connection refused")

// wire is a Caller straight into a fake client, so that time in tests is synctest's.
type wire struct {
	f      *eltest.Fake
	secret engineapi.Secret

	mu      sync.Mutex
	down    bool
	busy    int
	overlap bool
	dials   []time.Time // of every attempt
	// before and after, if set, run around a call; an error is the call's.
	before, after func(call engineapi.Call) error
}

func (w *wire) Call(ctx context.Context, body []byte) (int, []byte, time.Time, error) {
	calls, _, err := engineapi.ParseCalls(body)
	if err != nil {
		panic(err)
	}
	w.mu.Lock()
	w.dials = append(w.dials, time.Now())
	w.busy++
	w.overlap = w.overlap || w.busy > 1
	down, before, after := w.down, w.before, w.after
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.busy--
		w.mu.Unlock()
	}()
	if before != nil {
		if err := before(calls[0]); err != nil {
			return 0, nil, time.Time{}, err
		}
	}
	if down {
		return 0, nil, time.Time{}, errDown
	}
	status, answer, err := w.serve(ctx, body)
	if err == nil && after != nil {
		err = after(calls[0])
	}
	if err != nil {
		return 0, nil, time.Time{}, err
	}
	return status, answer, time.Now(), nil
}

// serve has the client serve one request. Like a server, it goes on when the caller leaves.
func (w *wire) serve(ctx context.Context, body []byte) (status int, answer []byte, err error) {
	req := httptest.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, "/", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", w.secret.Authorization(time.Now()))
	resp := httptest.NewRecorder()
	served := make(chan error, 1)
	go func() {
		defer func() {
			if recover() != nil {
				served <- errors.New("connection lost")
			}
		}()
		w.f.ServeHTTP(resp, req)
		served <- nil
	}()
	select {
	case err := <-served:
		return resp.Code, resp.Body.Bytes(), err
	case <-ctx.Done():
		return 0, nil, context.Cause(ctx)
	}
}

func (w *wire) setDown(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
}

func (w *wire) hook(before, after func(engineapi.Call) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before, w.after = before, after
}

func (w *wire) attempts() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.dials)
}

// memory is a Log of a slice.
type memory struct {
	mu      sync.Mutex
	entries []record.Entry
	first   uint64
	changed chan struct{}
	broken  error
}

func newMemory() *memory { return &memory{first: 1, changed: make(chan struct{})} }

func (m *memory) append(request *record.Request, outcome *record.Outcome) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.first
	if n := len(m.entries); n > 0 {
		at = m.entries[n-1].Stream + 1
	}
	m.entries = append(m.entries, record.Entry{Stream: at, Stored: time.Now(), Request: request, Outcome: outcome})
	close(m.changed)
	m.changed = make(chan struct{})
	return at
}

func (m *memory) from(at uint64) ([]record.Entry, chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.entries, func(e record.Entry) bool { return e.Stream >= at && e.Stream >= m.first })
	if i < 0 {
		return nil, m.changed, m.broken
	}
	return slices.Clone(m.entries[i:]), m.changed, m.broken
}

func (m *memory) Read(_ context.Context, from uint64, f func(record.Entry) error) error {
	entries, _, err := m.from(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Follow(ctx context.Context, from uint64, f func(record.Entry) error) error {
	for {
		entries, changed, err := m.from(from)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := f(e); err != nil {
				return err
			}
			from = e.Stream + 1
		}
		if len(entries) > 0 {
			continue
		}
		if last, err := m.Last(ctx); err == nil && last+1 < from {
			return errors.New("the log began anew")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memory) First(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.first, m.broken
}

func (m *memory) Last(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.entries) == 0 {
		return 0, m.broken
	}
	return m.entries[len(m.entries)-1].Stream, m.broken
}

// expire takes everything before position at out of the log.
func (m *memory) expire(at uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.first = at
	m.entries = slices.DeleteFunc(m.entries, func(e record.Entry) bool { return e.Stream < at })
}

// bench is a primary that a test drives as a consensus client does, and the record of it.
type bench struct {
	t        *testing.T
	log      *memory
	primary  *wire
	tree     []eltest.Block // every block made
	head     eltest.Block
	epoch    uint64
	seq      atomic.Uint64
	salt     uint64
	verified bool
	// attributes adds payload attributes to forkchoices.
	attributes bool
}

func newBench(t *testing.T) *bench {
	t.Helper()
	f := eltest.NewFake(eltest.Config{Name: "PR"})
	return &bench{
		t: t, log: newMemory(), primary: &wire{f: f}, head: eltest.GenesisBlock, epoch: 1, verified: true,
		tree: []eltest.Block{eltest.GenesisBlock},
	}
}

// call dispatches a call to the primary and records both.
func (b *bench) call(body []byte) engineapi.Result {
	request, outcome := b.dispatch(body)
	b.log.append(request, nil)
	b.log.append(nil, outcome)
	return outcome.Result
}

func (b *bench) dispatch(body []byte) (*record.Request, *record.Outcome) {
	calls, _, err := engineapi.ParseCalls(body)
	require.NoError(b.t, err)
	id := record.ID{Epoch: b.epoch, Sequence: b.seq.Add(1)}
	request := record.NewRequest(id, time.Now(), calls[0])
	request.Verified = b.verified
	outcome := &record.Outcome{ID: id, Method: request.Method}
	start := time.Now()
	status, answer, _, err := b.primary.Call(b.t.Context(), body)
	outcome.Duration = time.Since(start)
	if err != nil {
		outcome.Unknown = err.Error()
		return request, outcome
	}
	outcome.HTTPStatus, outcome.Result = status, engineapi.ParseResult(status, answer)
	outcome.Eligible = status == http.StatusOK
	if request.Class == engineapi.ClassPayload {
		outcome.Built = record.ParseBuilt(request.Call().PayloadID(), answer)
	}
	return request, outcome
}

// child makes a block on parent.
func (b *bench) child(parent eltest.Block) eltest.Block {
	b.salt++
	c := eltest.Child(parent, b.salt)
	b.tree = append(b.tree, c)
	return c
}

func newPayload(block eltest.Block) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"engine_newPayloadV4","params":[%s,[],"%s",[]]}`,
		block.Number, eltest.Payload(block), common.Hash{})
}

func forkchoice(head, safe, final common.Hash, attributes string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":770007,"method":"engine_forkchoiceUpdatedV3","params":[{"headBlockHash":"%s",`+
		`"safeBlockHash":"%s","finalizedBlockHash":"%s"},%s]}`, head, safe, final, attributes)
}

func attributesFor(block eltest.Block) string {
	return fmt.Sprintf(`{"timestamp":"0x%x","prevRandao":"%s","suggestedFeeRecipient":"0x00000000000000000000000000000000000000fe",`+
		`"withdrawals":[],"parentBeaconBlockRoot":"%s"}`, block.Timestamp+12, common.Hash{1}, common.Hash{2})
}

func (b *bench) payload(block eltest.Block) engineapi.Result { return b.call(newPayload(block)) }

// choose makes a block the head.
func (b *bench) choose(block eltest.Block) engineapi.Result {
	attributes := "null"
	if b.attributes {
		attributes = attributesFor(block)
	}
	b.head = block
	return b.call(forkchoice(block.Hash, common.Hash{}, common.Hash{}, attributes))
}

// slots adds n blocks to the head, each made the head.
func (b *bench) slots(n int) {
	for range n {
		block := b.child(b.head)
		b.payload(block)
		b.choose(block)
	}
}

// kit is a replayer under test.
type kit struct {
	*bench
	client *wire
	r      *Replayer
	reg    *prometheus.Registry
	ends   []func()
	cfg    Config
	target Target
	ports  Ports
	events *events
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// events keeps divergences.
type events struct {
	mu  sync.Mutex
	all []Divergence
}

func (e *events) Publish(_ context.Context, _ string, d Divergence) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, d)
	return nil
}

func (e *events) list() []Divergence {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// cursors keeps cursors.
type cursors struct {
	mu   sync.Mutex
	at   map[string]uint64
	save func() error
}

func (c *cursors) Load(_ context.Context, target string) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[target], nil
}

func (c *cursors) Save(_ context.Context, target string, at uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.save != nil {
		if err := c.save(); err != nil {
			return err
		}
	}
	if c.at == nil {
		c.at = map[string]uint64{}
	}
	c.at[target] = at
	return nil
}

func newKit(b *bench, cfg eltest.Config) *kit {
	if cfg.Name == "" {
		cfg.Name = "SE"
	}
	k := &kit{bench: b, client: &wire{f: eltest.NewFake(cfg)}, cfg: DefaultConfig(), events: &events{}}
	k.target = Target{Name: "second", Role: Secondary, Address: "http://second:8551", Caller: k.client}
	k.ports = Ports{
		Clock: wallClock{}, Divergences: k.events, Cursors: &cursors{},
		Chain: NewPrimaryChain(k.cfg, b.primary),
	}
	return k
}

// start runs a replayer over a tape of its own until stop or the end of the test.
func (k *kit) start() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.t.Context()))
	tape := NewTape(k.cfg, k.log, wallClock{}, discard(), k.target.Also...)
	k.reg = prometheus.NewRegistry()
	r, err := New(k.cfg, k.target, tape, k.ports, NewMetrics(k.reg), discard())
	require.NoError(k.t, err)
	k.r = r
	var wg sync.WaitGroup
	wg.Go(func() { _ = tape.Run(ctx) })
	wg.Go(func() { _ = r.Run(ctx) })
	k.ends = append(k.ends, func() {
		cancel()
		wg.Wait()
	})
}

func (k *kit) stop() {
	for _, end := range k.ends {
		end()
	}
	k.client.f.Recover() // what hangs ends
	k.ends = nil
}

// after lets time pass, in which everything that can happen does.
func (k *kit) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// caughtUp waits until client and primary have one head, and is how it ended.
func (k *kit) caughtUp(within time.Duration) Status {
	k.t.Helper()
	for range 100 {
		k.after(within / 100)
		if k.client.f.Head() == k.primary.f.Head() && k.r.Status().State == Live {
			break
		}
	}
	s := k.r.Status()
	require.Equal(k.t, k.primary.f.Head().Number, k.client.f.Head().Number, "state %s %s", s.State, s.Reason)
	require.Equal(k.t, k.primary.f.Head(), k.client.f.Head(), "state %s %s", s.State, s.Reason)
	require.Equal(k.t, Live, s.State, s.Reason)
	return s
}

// inBubble runs a test on virtual time.
func inBubble(t *testing.T, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newBench(t)) })
}

// judgeCalls checks what a client that follows may be sent, in the order that it was sent: I2, I3,
// I4, I5 and I6.
func judgeCalls(t *testing.T, b *bench, calls []eltest.Seen, start common.Hash) {
	t.Helper()
	bodies := map[string][]uint64{}
	for _, e := range b.log.entries {
		if e.Request != nil && e.Request.Class == engineapi.ClassForkchoice {
			body, err := e.Request.Call().WithoutAttributes()
			require.NoError(t, err)
			bodies[string(body)] = append(bodies[string(body)], e.Request.Sequence)
		}
	}
	valid := map[common.Hash]bool{start: true}
	parents := map[common.Hash]common.Hash{}
	for _, block := range b.tree {
		parents[block.Hash] = block.Parent
	}
	for h := start; h != (common.Hash{}); h = parents[h] {
		valid[h] = true
	}
	last := uint64(0)
	above := map[common.Hash]int{}
	for _, s := range calls {
		switch s.Call.Class() {
		case engineapi.ClassPayload:
			require.Fail(t, "I2: getPayload was sent")
		case engineapi.ClassReplay:
			p, err := s.Call.Payload()
			require.NoError(t, err)
			require.True(t, valid[p.Parent], "I4: parent of block %d was not valid", p.Number)
			if engineapi.ParseResult(s.HTTPStatus, s.Answer).Verdict() == engineapi.Valid {
				if !valid[p.Hash] {
					above[p.Hash] = above[p.Parent] + 1
				}
				valid[p.Hash] = true
				require.LessOrEqual(t, above[p.Hash], chain.DefaultCheckpoint, "I6: payloads without a forkchoice")
			}
		case engineapi.ClassForkchoice:
			f, err := s.Call.Forkchoice()
			require.NoError(t, err)
			require.False(t, f.Attributes, "I2: attributes were sent")
			require.Equal(t, 2, f.Arity, "I2: arity")
			require.True(t, valid[f.Head], "I5: head was not valid")
			clear(above)
			if own := strings.Contains(string(s.Call.Raw), `"jsonrpc":"2.0","id":770007,`); own {
				at := slices.IndexFunc(bodies[string(s.Call.Raw)], func(n uint64) bool { return n >= last })
				require.GreaterOrEqual(t, at, 0, "I3: forkchoice out of order")
				last = bodies[string(s.Call.Raw)][at]
			}
		default:
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
