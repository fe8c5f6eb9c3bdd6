package engine

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
)

// Everything at once: callers over HTTP and a WebSocket, some of whom leave, a replayer, promotions,
// a primary that comes and goes. Afterwards every call has a sequence of its own and an outcome, and
// nothing is held.
func TestNothingIsLostOrHeldHoweverThePartsMeet(t *testing.T) {
	w := newTwin(t)
	f := w.door
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	var wg sync.WaitGroup
	every := func(do func(n int)) {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				do(n)
			}
		})
	}
	for range 3 {
		every(func(n int) {
			short, cancel := context.WithTimeout(ctx, time.Duration(n%5+1)*time.Millisecond)
			defer cancel()
			_, _ = f.try(short, "POST", "/", strings.NewReader(forkchoice(strconv.Itoa(n), hashA, `{"timestamp":"0x1"}`)))
			_, _ = f.try(ctx, "POST", "/", strings.NewReader("["+newPayload("1", hashA, zero)+","+rpc("2", "eth_syncing", "")+"]"))
			_, _ = f.try(ctx, "POST", "/", strings.NewReader(rpc("3", "engine_getPayloadV1", `"0x01"`)))
		})
	}
	every(func(int) { overtaken(ctx, t, f) })
	every(func(int) { talk(ctx, f) })
	every(func(n int) {
		to := Target{Name: "direct", URL: w.direct.URL(), JWTSecret: f.cfg.JWTSecret}
		if n%2 == 1 {
			to = Target{Name: "proxied", URL: w.proxied.URL(), JWTSecret: f.cfg.JWTSecret}
		}
		_ = f.SetPrimary(ctx, to)
	})
	every(func(int) {
		w.proxied.Fail(eltest.Fault{Times: 2, Lost: true})
		w.direct.Fail(eltest.Fault{Times: 1, Latency: 5 * time.Millisecond})
		w.proxied.Kill()
		if err := w.proxied.Start(); err != nil {
			t.Error(err)
		}
		tick := time.NewTimer(20 * time.Millisecond)
		defer tick.Stop()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	})
	wg.Wait()
	require.NoError(t, f.stop())

	asked := f.book.asked()
	require.Greater(t, len(asked), 100)
	require.Len(t, f.book.outcomes, len(asked))
	for i, r := range asked {
		require.Equal(t, uint64(i+1), r.Sequence)
		require.Contains(t, f.book.outcomes, r.ID)
	}
	require.False(t, slices.ContainsFunc(f.order.targets, func(to *target) bool { return to.moving != 0 || to.still != nil }))
	require.Empty(t, f.order.order)
	require.Nil(t, f.order.replay)
	require.Zero(t, f.budget.used())
	require.LessOrEqual(t, len(f.order.targets), 3)
}

// overtaken replays one forkchoice; errors are of the kinds that a replayer knows.
func overtaken(ctx context.Context, t *testing.T, f *front) {
	t.Helper()
	status, _, _, err := f.Replay(ctx, f.Term(), f.Generation(), []byte(forkchoice("9", hashB, "null")))
	var failed *sendError
	if err != nil && !errors.Is(err, ErrOvertaken) && !errors.As(err, &failed) && ctx.Err() == nil {
		t.Errorf("replay: %d, %v", status, err)
	}
}

// talk makes a few calls over a WebSocket of its own and leaves without a word.
func talk(ctx context.Context, f *front) {
	c, _, err := f.shake(token())
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	for range 5 {
		if c.Write(ctx, websocket.MessageText, []byte(forkchoice("1", hashA, "null"))) != nil {
			return
		}
	}
	_, _, _ = c.Read(ctx)
}
