package cache

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// outcome is what a caller got.
type outcome struct {
	body   string
	source rpcapi.Source
	err    error
	tries  int
}

// crowd asks the same for many callers at once.
type crowd struct {
	*fixture
	method, params string
	class          rpcapi.Class
	// release lets the node answer.
	release chan struct{}
	mu      sync.Mutex
	fetched int
	ended   error // of the fetch's context
	body    string
	fail    error
	wg      sync.WaitGroup
}

func newCrowd(t *testing.T, method, params string) *crowd {
	t.Helper()
	return &crowd{
		fixture: newFixture(t, Config{Coalesce: true}), method: method, params: params, class: rpcapi.Low,
		release: make(chan struct{}), body: `{"id":7,"result":"0x1"}`,
	}
}

func (c *crowd) fetch(ctx context.Context) (*rpcapi.Answer, error) {
	c.mu.Lock()
	c.fetched++
	c.mu.Unlock()
	select {
	case <-c.release:
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended = context.Cause(ctx)
		return nil, c.ended
	}
	if c.fail != nil {
		return nil, c.fail
	}
	return &rpcapi.Answer{Status: 200, Tries: 3, Body: []byte(c.body)}, nil
}

// join makes a caller with that id.
func (c *crowd) join(ctx context.Context, id int) *outcome {
	var o outcome
	class := c.class
	c.wg.Go(func() {
		var a *rpcapi.Answer
		a, o.source, o.err = c.Do(ctx, &rpcapi.Call{Class: class}, rpcapi.Lookup(c.method), []byte(c.params),
			[]byte(strconv.Itoa(id)), c.fetch)
		if a != nil {
			o.body, o.tries = string(a.Body), a.Tries
			clear(a.Body)
		}
	})
	synctest.Wait()
	return &o
}

func TestIdenticalCallsUnderWayShareOneAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "eth_call", `[{"to":"0x1"}]`)
		first := c.join(t.Context(), 7)
		others := []*outcome{c.join(t.Context(), 8), c.join(t.Context(), 9)}
		close(c.release)
		c.wg.Wait()
		require.Equal(t, 1, c.fetched)
		require.Equal(t, outcome{body: `{"id":7,"result":"0x1"}`, source: rpcapi.SourceBypass, tries: 3}, *first)
		for i, o := range others {
			require.Equal(t, outcome{body: `{"id":` + strconv.Itoa(8+i) + `,"result":"0x1"}`, source: rpcapi.SourceCoalesced, tries: 3}, *o)
		}
		require.Empty(t, c.flights.by)
		require.Zero(t, c.entries.EstimatedSize(), "nothing is kept")
	})
}

func TestAnAnswerWithoutAnIDIsSharedAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "eth_call", `[{"to":"0x1"}]`)
		c.body = `<html>`
		first, second := c.join(t.Context(), 7), c.join(t.Context(), 8)
		close(c.release)
		c.wg.Wait()
		require.Equal(t, `<html>`, first.body)
		require.Equal(t, `<html>`, second.body)
	})
}

func TestNothingIsSharedThatMayDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "eth_getTransactionCount", `["0x1","pending"]`)
		c.join(t.Context(), 1)
		c.join(t.Context(), 2)
		require.Equal(t, 2, c.fetched, "what is pending")
		c.params = `["0x1"]`
		c.join(t.Context(), 3)
		c.chain.at(101, 64)
		c.join(t.Context(), 4)
		require.Equal(t, 4, c.fetched, "what began before the head came")
		c.class = rpcapi.FastTrack
		c.join(t.Context(), 5)
		require.Equal(t, 5, c.fetched, "what waits in a slower queue")
		close(c.release)
		c.wg.Wait()
		require.Empty(t, c.flights.by)
	})
}

func TestAnErrorIsSharedUnderEachCallersIDAndNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "eth_chainId", `[]`)
		require.NoError(t, c.Reconfigure(Config{MaxBytes: 1 << 20, Coalesce: true}))
		c.fail = &rpcapi.NodeError{Status: 500, Body: []byte(`{"id":7,"error":{}}`)}
		c.join(t.Context(), 7)
		second := c.join(t.Context(), 8)
		close(c.release)
		c.wg.Wait()
		var node *rpcapi.NodeError
		require.ErrorAs(t, second.err, &node)
		require.JSONEq(t, `{"id":8,"error":{}}`, string(node.Body))
		require.Equal(t, `{"id":7,"error":{}}`, string(c.fail.(*rpcapi.NodeError).Body)) //nolint:testifylint,forcetypeassert,errorlint // set above
		require.Zero(t, c.entries.EstimatedSize())
		require.ErrorIs(t, underID(rpcapi.ErrQueueFull, nil), rpcapi.ErrQueueFull)
		plain := &rpcapi.NodeError{Body: []byte("error")}
		require.Same(t, plain, underID(plain, []byte("8")))
	})
}

func TestOneWhoLeavesEndsNothingForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "eth_chainId", `[]`)
		gone := errors.New("gone")
		ctx, leave := context.WithCancelCause(t.Context())
		first := c.join(ctx, 7)
		ctx2, leave2 := context.WithCancelCause(t.Context())
		second := c.join(ctx2, 8)
		third := c.join(t.Context(), 9)
		leave(gone)
		leave2(gone)
		synctest.Wait()
		require.NoError(t, c.ended)
		require.ErrorIs(t, second.err, gone)
		close(c.release)
		c.wg.Wait()
		require.NoError(t, first.err, "it asked for all, and got the answer, too")
		require.JSONEq(t, `{"id":9,"result":"0x1"}`, third.body)
	})
}

func TestTheLastOneWhoLeavesEndsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "eth_chainId", `[]`)
		gone := errors.New("gone")
		ctx, leave := context.WithCancelCause(t.Context())
		first, second := c.join(ctx, 7), c.join(ctx, 8)
		leave(gone)
		synctest.Wait()
		require.ErrorIs(t, c.ended, gone)
		require.ErrorIs(t, first.err, gone)
		require.ErrorIs(t, second.err, gone)
		require.Empty(t, c.flights.by)
		third := c.join(t.Context(), 9)
		require.Equal(t, 2, c.fetched, "who comes later asks anew")
		close(c.release)
		c.wg.Wait()
		require.NoError(t, third.err)
	})
}

func TestAPanicStrandsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "eth_chainId", `[]`)
		c.wg.Go(func() {
			defer func() { _ = recover() }()
			_, _, _ = c.Do(t.Context(), &rpcapi.Call{Class: c.class}, rpcapi.Lookup(c.method), nil, []byte("7"),
				func(context.Context) (*rpcapi.Answer, error) { <-c.release; panic("x") })
		})
		synctest.Wait()
		second := c.join(t.Context(), 8)
		close(c.release)
		c.wg.Wait()
		require.ErrorIs(t, second.err, ErrAborted)
		require.Empty(t, c.flights.by)
	})
}

func TestManyCallersRace(t *testing.T) {
	x := newFixture(t, Config{MaxBytes: 1 << 20, Coalesce: true})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				ctx, leave := context.WithCancel(t.Context())
				if n%7 == i {
					leave()
				}
				if n%50 == 0 {
					x.chain.at(uint64(100+n%100), 64)
				}
				id := strconv.Itoa(i)
				a, _, err := x.Do(ctx, &rpcapi.Call{Class: rpcapi.Low}, rpcapi.Lookup("eth_blockNumber"), nil, []byte(id),
					func(ctx context.Context) (*rpcapi.Answer, error) {
						return &rpcapi.Answer{Status: 200, Body: []byte(`{"id":` + id + `,"result":"0x1"}`)}, ctx.Err()
					})
				if err == nil && string(a.Body) != `{"id":`+id+`,"result":"0x1"}` {
					t.Errorf("answer %s to %s", a.Body, id)
				}
				leave()
			}
		})
	}
	wg.Wait()
	require.Empty(t, x.flights.by)
}
