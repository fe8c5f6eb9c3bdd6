package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

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
