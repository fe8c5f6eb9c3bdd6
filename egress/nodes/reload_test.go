package nodes

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// gate holds every call until it is opened.
type gate chan struct{}

func (g gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-g:
		_, _ = io.WriteString(w, "ok")
	case <-r.Context().Done():
	}
}

// reload changes the configuration in force.
func reload(t *testing.T, p *Pool, change func(*Config)) {
	t.Helper()
	cfg := *p.cfg()
	change(&cfg)
	require.NoError(t, p.Reload(cfg))
}

// under makes calls in the background; each sends how it ended.
func under(t *testing.T, p *Pool, calls int) <-chan error {
	t.Helper()
	ends := make(chan error, calls)
	for range calls {
		go func() {
			_, err := p.Call(t.Context(), opaque("x"))
			ends <- err
		}()
	}
	return ends
}

func allEnd(t *testing.T, ends <-chan error, calls int) {
	t.Helper()
	for range calls {
		require.NoError(t, <-ends)
	}
}

func TestPlacesGrowAndShrinkUnderCallsAndCutNone(t *testing.T) {
	g := make(gate)
	n := newFakeNode(t, g.ServeHTTP)
	p := newTestPool(t, func(c *Config) { c.Workers = 4 }, n.URL)
	tag := p.Nodes()[0].Tag
	ends := under(t, p, 8)
	at := func(busy, waiting int) func() bool {
		return func() bool { return p.Load()[tag].Busy == busy && p.Waiting(rpcapi.High) == waiting }
	}
	require.Eventually(t, at(4, 4), soon, time.Millisecond)
	reload(t, p, func(c *Config) { c.Workers = 1 })
	require.True(t, at(4, 4)(), "those that run and those that wait stay")
	require.Equal(t, 1, p.Load()[tag].Places)
	reload(t, p, func(c *Config) { c.Workers = 6 })
	require.True(t, at(6, 2)(), "two of those that wait have a place at once")
	close(g)
	allEnd(t, ends, 8)
	require.Len(t, n.got(), 8, "each was sent once")
}

func TestASmallerQueueDrains(t *testing.T) {
	g := make(gate)
	n := newFakeNode(t, g.ServeHTTP)
	p := newTestPool(t, func(c *Config) { c.Workers = 1 }, n.URL)
	ends := under(t, p, 4)
	require.Eventually(t, func() bool { return p.Waiting(rpcapi.High) == 3 }, soon, time.Millisecond)
	reload(t, p, func(c *Config) { c.Queue.HighMax = 1 })
	_, err := p.Call(t.Context(), opaque("one too many"))
	require.ErrorIs(t, err, rpcapi.ErrQueueFull)
	close(g)
	allEnd(t, ends, 4)
}

func TestTriesTimeoutAndHedgeHoldFromTheReloadOn(t *testing.T) {
	slow, fine := newFakeNode(t, hangs), newFakeNode(t, says(200, "fine"))
	p := newTestPool(t, func(c *Config) { c.MaxTries = 1 }, slow.URL)
	reload(t, p, func(c *Config) { c.Timeout = 50 * time.Millisecond })
	_, err := p.Call(t.Context(), request("eth_call"))
	require.ErrorIs(t, err, rpcapi.ErrNodeTimeout)
	require.Len(t, slow.got(), 1)
	reload(t, p, func(c *Config) { c.MaxTries = 2 })
	_, err = p.Call(t.Context(), request("eth_call"))
	require.ErrorIs(t, err, rpcapi.ErrNodeTimeout)
	require.Len(t, slow.got(), 3)
	require.Equal(t, 2, rpcapi.TriesOf(err), "it says how many nodes were asked")
	require.NoError(t, p.Set(parsed(t, slow.URL, fine.URL)))
	reload(t, p, func(c *Config) { c.Timeout, c.HedgeAfter = soon, time.Millisecond })
	for range 20 {
		a, err := p.Call(t.Context(), request("eth_call"))
		require.NoError(t, err)
		require.Equal(t, "fine", string(a.Body))
	}
}

func TestAHedgedCallsBytesAreTheCallersAgainWhenItReturns(t *testing.T) {
	a, b := newFakeNode(t, says(200, "a")), newFakeNode(t, says(200, "b"))
	p := newTestPool(t, func(c *Config) { c.HedgeAfter = time.Nanosecond }, a.URL, b.URL)
	for range 50 {
		c := request("eth_call")
		_, err := p.Call(t.Context(), c)
		require.NoError(t, err)
		clear(c.Body) // the race detector sees who still reads them
	}
	for _, body := range append(a.got(), b.got()...) {
		if body != "" { // cut off before it was sent
			require.Equal(t, string(request("eth_call").Body), body)
		}
	}
}

func TestATryUnderWayHasTheTimeItBeganWith(t *testing.T) {
	g := make(gate)
	n := newFakeNode(t, g.ServeHTTP)
	p := newTestPool(t, nil, n.URL)
	ends := under(t, p, 1)
	require.Eventually(t, func() bool { return len(n.got()) == 1 }, soon, time.Millisecond)
	reload(t, p, func(c *Config) { c.Timeout, c.MaxTries = time.Nanosecond, 1 })
	_, err := p.Call(t.Context(), opaque("late"))
	require.ErrorIs(t, err, rpcapi.ErrNodeTimeout)
	close(g)
	allEnd(t, ends, 1)
}

func TestAFaultyReloadChangesNothing(t *testing.T) {
	n := newFakeNode(t, says(200, "ok"))
	p := newTestPool(t, nil, n.URL)
	for _, change := range []func(*Config){
		func(c *Config) { c.Workers = 0 },
		func(c *Config) { c.Workers, c.Queue.HighMax = 1, -1 },
		func(c *Config) { c.Workers, c.Health.Rise = 1, 0 },
	} {
		cfg := *p.cfg()
		change(&cfg)
		require.Error(t, p.Reload(cfg))
		require.Equal(t, 8, p.Load()[p.Nodes()[0].Tag].Places)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	_, err := p.Call(ctx, opaque("x"))
	require.NoError(t, err)
}
