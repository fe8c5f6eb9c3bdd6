package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/rpcapi"
)

type doer = func(context.Context, *rpcapi.Call) (*rpcapi.Answer, error)

func testQueue(tb testing.TB, s *natstest.Server, change ...func(*QueueConfig)) *Queue {
	tb.Helper()
	cfg := QueueConfig{Order: Order{FastPerHigh: 2}, Repeatable: func(c *rpcapi.Call) bool { return c.Method != "write" }}
	for _, f := range change {
		f(&cfg)
	}
	return NewQueue(cfg, port(tb, s), quiet(), prometheus.NewRegistry())
}

// places lets so many calls run at a time.
func places(n int, do doer) (func(context.Context) error, doer) {
	taken := make(chan struct{}, n)
	free := func(ctx context.Context) error {
		select {
		case taken <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return free, func(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
		defer func() { <-taken }()
		return do(ctx, c)
	}
}

func serve(tb testing.TB, q *Queue, n int, do doer) {
	tb.Helper()
	free, do := places(n, do)
	background(tb, func(ctx context.Context) error { return q.Serve(ctx, free, do) })
}

func echo(_ context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
	return &rpcapi.Answer{Status: 200, Body: bytes.Clone(c.Body), Node: &rpcapi.Node{Tag: 7, Label: "node"}, Tries: 1}, nil
}

func call(class rpcapi.Class, body string) *rpcapi.Call {
	return &rpcapi.Call{Class: class, Body: []byte(body), Method: "read", Received: time.Now()}
}

func TestACallOfOneProcessIsAnsweredByAnother(t *testing.T) {
	s := natstest.Start(t)
	a, b := testQueue(t, s), testQueue(t, s)
	serve(t, b, 4, echo)
	for class := rpcapi.FastTrack; class <= rpcapi.Low; class++ {
		got, err := a.Offer(t.Context(), call(class, "body of "+class.String()))
		require.NoError(t, err)
		require.Equal(t, "body of "+class.String(), string(got.Body))
		require.Equal(t, &rpcapi.Node{Tag: 7, Label: "node"}, got.Node)
	}
}

func TestAnAnswerThatExceedsAMessageComesWhole(t *testing.T) {
	s := natstest.Start(t)
	a, b := testQueue(t, s), testQueue(t, s)
	large := bytes.Repeat([]byte("0123456789"), 3<<20)
	serve(t, b, 1, func(context.Context, *rpcapi.Call) (*rpcapi.Answer, error) {
		return &rpcapi.Answer{Status: 200, Body: large}, nil
	})
	got, err := a.Offer(t.Context(), call(rpcapi.High, "x"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(large, got.Body))
}

func TestErrorsTravel(t *testing.T) {
	s := natstest.Start(t)
	a, b := testQueue(t, s), testQueue(t, s)
	wants := append(causes(), ErrElsewhere)
	serve(t, b, 1, func(_ context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
		if c.Body[0] == 'n' {
			return nil, &rpcapi.NodeError{Status: 479, Body: []byte("no"), Tries: 3}
		}
		if err := wants[c.Body[0]]; !errors.Is(err, ErrElsewhere) {
			return nil, fmt.Errorf("wrapped: %w", rpcapi.Tried(err, int(c.Body[0])))
		}
		return nil, errors.New("something else")
	})
	for i, want := range wants {
		_, err := a.Offer(t.Context(), call(rpcapi.Low, string(rune(i))))
		require.ErrorIs(t, err, want)
		if !errors.Is(want, ErrElsewhere) {
			require.Equal(t, i, rpcapi.TriesOf(err))
		}
	}
	_, err := a.Offer(t.Context(), call(rpcapi.Low, "n"))
	var node *rpcapi.NodeError
	require.ErrorAs(t, err, &node)
	require.Equal(t, &rpcapi.NodeError{Status: 479, Body: []byte("no"), Tries: 3}, node)
}

// offerAll offers calls one after the other, each once the one before is stored, and waits for all.
func offerAll(t *testing.T, q *Queue, wait *sync.WaitGroup, calls ...*rpcapi.Call) {
	t.Helper()
	js := q.bus.(*testBus).js
	for _, c := range calls {
		before := waiting(t, js, c.Class)
		wait.Go(func() { _, _ = q.Offer(t.Context(), c) })
		require.Eventually(t, func() bool { return waiting(t, js, c.Class) > before }, soon, tick)
	}
}

func TestAFastTrackCallOvertakesLowOnesOfOtherProcesses(t *testing.T) {
	s := natstest.Start(t)
	a, b, c := testQueue(t, s), testQueue(t, s), testQueue(t, s)
	var mu sync.Mutex
	var order []string
	begun, release := make(chan struct{}, 16), make(chan struct{})
	serve(t, c, 1, func(_ context.Context, call *rpcapi.Call) (*rpcapi.Answer, error) {
		mu.Lock()
		order = append(order, string(call.Body))
		mu.Unlock()
		begun <- struct{}{}
		<-release
		return &rpcapi.Answer{Status: 200}, nil
	})
	var all sync.WaitGroup
	all.Go(func() { _, _ = a.Offer(t.Context(), call(rpcapi.Low, "l0")) })
	await(t, begun)
	offerAll(t, a, &all, call(rpcapi.Low, "l1"), call(rpcapi.Low, "l2"))
	offerAll(t, b, &all, call(rpcapi.High, "h1"), call(rpcapi.High, "h2"),
		call(rpcapi.FastTrack, "f1"), call(rpcapi.FastTrack, "f2"), call(rpcapi.FastTrack, "f3"))
	close(release)
	all.Wait()
	require.Equal(t, "l0 f1 f2 h1 f3 h2 l1 l2", strings.Join(order, " "))
}

func TestAFullClassIsRefusedAndTheOthersAreNot(t *testing.T) {
	s := natstest.Start(t)
	a := testQueue(t, s, func(c *QueueConfig) { c.MaxBytes, c.Timeout = 64<<10, 2*time.Second })
	var all sync.WaitGroup
	all.Go(func() { _, _ = a.Offer(t.Context(), call(rpcapi.Low, strings.Repeat("x", 40<<10))) })
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := a.Offer(ctx, call(rpcapi.Low, strings.Repeat("x", 40<<10)))
		return errors.Is(err, rpcapi.ErrQueueFull)
	}, soon, tick)
	require.Positive(t, testutil.ToFloat64(a.m.full[rpcapi.Low]))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := a.Offer(ctx, call(rpcapi.FastTrack, strings.Repeat("x", 40<<10)))
	require.ErrorIs(t, err, context.DeadlineExceeded, "it waits")
	all.Wait()
}

func TestACallThatNobodyTakesTimesOut(t *testing.T) {
	s := natstest.Start(t)
	a := testQueue(t, s, func(c *QueueConfig) { c.Timeout = 300 * time.Millisecond })
	_, err := a.Offer(t.Context(), call(rpcapi.High, "x"))
	require.ErrorIs(t, err, rpcapi.ErrQueueTimeout)
}

func TestACallerThatGoesAwayTakesItsCallBack(t *testing.T) {
	s := natstest.Start(t)
	a, b := testQueue(t, s), testQueue(t, s)
	begun, ended := make(chan string, 4), make(chan error, 4)
	serve(t, b, 1, func(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
		begun <- string(c.Body)
		if string(c.Body) == "last" {
			return &rpcapi.Answer{Status: 200}, nil
		}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _, _ = a.Offer(ctx, call(rpcapi.High, "running")) })
	require.Equal(t, "running", await(t, begun))
	waitingCtx, giveUp := context.WithCancel(t.Context())
	gaveUp := make(chan struct{})
	go func() {
		defer close(gaveUp)
		_, _ = a.Offer(waitingCtx, call(rpcapi.High, "waiting"))
	}()
	require.Eventually(t, func() bool { return waiting(t, a.bus.(*testBus).js, rpcapi.High) == 2 }, soon, tick)
	giveUp()
	<-gaveUp // it has taken its call back
	cancel()
	require.ErrorIs(t, await(t, ended), context.Canceled)
	_, err := a.Offer(t.Context(), call(rpcapi.High, "last"))
	require.NoError(t, err)
	require.Equal(t, "last", await(t, begun), "what waited was never run")
	all.Wait()
}

func TestACallOfAProcessThatDiesIsRunAgainOnlyIfItMayBe(t *testing.T) {
	s := natstest.Start(t)
	a, dying, b := testQueue(t, s), testQueue(t, s), testQueue(t, s)
	begun, release := make(chan struct{}, 4), make(chan struct{})
	serve(t, dying, 2, func(context.Context, *rpcapi.Call) (*rpcapi.Answer, error) {
		begun <- struct{}{}
		<-release
		return nil, rpcapi.ErrStopping
	})
	t.Cleanup(func() { close(release) })
	results := make(chan error, 2)
	write := call(rpcapi.High, "w")
	write.Method = "write"
	answers := make(chan error, 2)
	go func() { _, err := a.Offer(context.Background(), call(rpcapi.High, "r")); answers <- err }()
	go func() { _, err := a.Offer(context.Background(), write); results <- err }()
	await(t, begun)
	await(t, begun)
	dying.bus.(*testBus).nc.Close()
	serve(t, b, 2, echo)
	require.NoError(t, await(t, answers))
	require.ErrorIs(t, await(t, results), rpcapi.ErrUnreachable)
}

func TestTheQueueComesBackWithTheServer(t *testing.T) {
	s := natstest.Start(t)
	a, b := testQueue(t, s), testQueue(t, s)
	serve(t, b, 1, echo)
	_, err := a.Offer(t.Context(), call(rpcapi.Low, "x"))
	require.NoError(t, err)
	s.Restart(t)
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), soon/10) // the answer to one may be lost meanwhile
		defer cancel()
		_, err := a.Offer(ctx, call(rpcapi.Low, "x"))
		return err == nil
	}, soon, tick)
}

func TestServeFinishesWhatItTook(t *testing.T) {
	s := natstest.Start(t)
	a, b := testQueue(t, s), testQueue(t, s)
	begun, release := make(chan struct{}), make(chan struct{})
	free, do := places(1, func(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
		close(begun)
		<-release
		return echo(ctx, c)
	})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, free, do) }()
	answered := make(chan error, 1)
	go func() { _, err := a.Offer(context.Background(), call(rpcapi.Low, "x")); answered <- err }()
	await(t, begun)
	stop()
	close(release)
	require.NoError(t, await(t, answered))
	require.NoError(t, await(t, served))
}

func BenchmarkOfferServe(b *testing.B) {
	s := natstest.Start(b)
	from, to := testQueue(b, s), testQueue(b, s)
	serve(b, to, 8, echo)
	c := call(rpcapi.FastTrack, `{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{},"latest"]}`)
	b.ReportAllocs()
	for b.Loop() {
		c := *c
		c.Received = time.Now()
		_, err := from.Offer(b.Context(), &c)
		require.NoError(b, err)
	}
}
