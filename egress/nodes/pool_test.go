package nodes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/egress/nodes/health"
	"millrace/internal/rpcapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const soon = 20 * time.Second // bound of what takes milliseconds, on a busy machine

// fakeNode is an HTTP server that answers as it is told.
type fakeNode struct {
	*httptest.Server
	answer atomic.Pointer[http.HandlerFunc]

	mu     sync.Mutex
	bodies []string
}

func newFakeNode(t *testing.T, answer http.HandlerFunc) *fakeNode {
	t.Helper()
	n := &fakeNode{}
	n.is(answer)
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		n.mu.Lock()
		n.bodies = append(n.bodies, string(b))
		n.mu.Unlock()
		(*n.answer.Load())(w, r)
	}))
	t.Cleanup(n.Close)
	return n
}

func (n *fakeNode) is(f http.HandlerFunc) { n.answer.Store(&f) }

func (n *fakeNode) got() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.bodies)
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hangsUp reads the request and closes the connection.
func hangsUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// hangs until the caller goes.
func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func newTestPool(t *testing.T, change func(*Config), uris ...string) *Pool {
	t.Helper()
	cfg := Config{
		Workers: 8, Timeout: 5 * time.Second, Connect: 2 * time.Second, MaxTries: 3, MaxAnswer: 1 << 20, Drain: time.Second,
		Balance: BalanceLeast, Queue: Queues{FastPerHigh: 2, Timeout: 5 * time.Second, DispatchTimeout: 200 * time.Millisecond},
		Health: health.DefaultConfig(),
	}
	cfg.Health.Check = health.ModeNone
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	require.NoError(t, p.Set(parsed(t, uris...)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return p
}

func parsed(t *testing.T, uris ...string) (all []*rpcapi.Node) {
	t.Helper()
	for _, u := range uris {
		n, err := rpcapi.ParseNode(u)
		require.NoError(t, err)
		all = append(all, n)
	}
	return all
}

func request(method string) *rpcapi.Call {
	return &rpcapi.Call{
		Class: rpcapi.Low, Method: method, Received: time.Now(), Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":[]}`),
	}
}

func opaque(body string) *rpcapi.Call {
	return &rpcapi.Call{Class: rpcapi.High, Received: time.Now(), Body: []byte(body)}
}

func TestACallReachesANodeUnchangedAndSoDoesTheAnswer(t *testing.T) {
	n := newFakeNode(t, says(202, "ans\nwer"))
	p := newTestPool(t, nil, n.URL)
	a, err := p.Call(t.Context(), opaque("any \x00 thing"))
	require.NoError(t, err)
	require.Equal(t, []string{"any \x00 thing"}, n.got())
	require.Equal(t, 202, a.Status)
	require.Equal(t, "ans\nwer", string(a.Body))
	require.Equal(t, n.URL, a.Node.URI)
	require.Equal(t, 1, a.Tries)
}

func TestADeadNodeCostsNoCall(t *testing.T) {
	alive := newFakeNode(t, says(200, "ok"))
	dead := httptest.NewServer(nil)
	dead.Close()
	p := newTestPool(t, nil, alive.URL, dead.URL)
	for range 300 {
		a, err := p.Call(t.Context(), request("eth_sendTransaction")) // not a byte reaches the dead one
		require.NoError(t, err)
		require.Equal(t, alive.URL, a.Node.URI)
	}
}

func TestAReadIsAskedOfAnotherNodeWhenOneHangsUp(t *testing.T) {
	for _, c := range []*rpcapi.Call{request("eth_call"), request("eth_sendRawTransaction"), opaque(`{"method":"eth_callBundle"}`), opaque("no JSON")} {
		bad, good := newFakeNode(t, hangsUp), newFakeNode(t, says(200, "ok"))
		p := newTestPool(t, nil, bad.URL, good.URL)
		for range 20 {
			a, err := p.Call(t.Context(), c)
			require.NoError(t, err)
			require.LessOrEqual(t, a.Tries, 2)
		}
		require.NotEmpty(t, bad.got())
	}
}

func TestAWriteIsNeverSentTwice(t *testing.T) {
	for _, c := range []*rpcapi.Call{request("eth_sendTransaction"), request("personal_unknown"), opaque(`{"method":"eth_sendTransaction"}`)} {
		bad := newFakeNode(t, hangsUp)
		p := newTestPool(t, nil, bad.URL)
		_, err := p.Call(t.Context(), c)
		require.ErrorIs(t, err, rpcapi.ErrUnreachable)
		require.NotContains(t, err.Error(), bad.URL)
		require.Len(t, bad.got(), 1)
	}
}

func TestAStatusOf400OrMoreIsTriedElsewhereAndThenPassedOn(t *testing.T) {
	bad := newFakeNode(t, says(479, "error\n"))
	p := newTestPool(t, nil, bad.URL)
	_, err := p.Call(t.Context(), request("eth_call"))
	var node *rpcapi.NodeError
	require.ErrorAs(t, err, &node)
	require.Equal(t, 479, node.Status)
	require.Equal(t, "error\n", string(node.Body))
	require.Equal(t, 3, node.Tries)
	require.Len(t, bad.got(), 3)
	good := newFakeNode(t, says(200, "ok"))
	require.NoError(t, p.Set(parsed(t, bad.URL, good.URL)))
	for range 20 {
		_, err = p.Call(t.Context(), request("eth_call"))
		require.NoError(t, err)
	}
}

func TestANodeThatHangsIsGivenUpInTime(t *testing.T) {
	bad, good := newFakeNode(t, hangs), newFakeNode(t, says(200, "ok"))
	p := newTestPool(t, func(c *Config) { c.Timeout = 500 * time.Millisecond }, bad.URL, good.URL)
	for range 4 {
		_, err := p.Call(t.Context(), request("eth_call"))
		require.NoError(t, err)
	}
	require.NoError(t, p.Set(parsed(t, bad.URL)))
	_, err := p.Call(t.Context(), request("eth_call"))
	require.ErrorIs(t, err, rpcapi.ErrNodeTimeout)
}

func TestACallerThatGoesFreesItsPlaceAtOnce(t *testing.T) {
	n := newFakeNode(t, hangs)
	p := newTestPool(t, func(c *Config) { c.Workers = 1 }, n.URL)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := p.Call(ctx, request("eth_call"))
		ended <- err
	}()
	require.Eventually(t, func() bool { return len(n.got()) == 1 }, soon, time.Millisecond)
	n.is(says(200, "ok"))
	cancel(gone)
	require.ErrorIs(t, <-ended, gone)
	_, err := p.Call(t.Context(), request("eth_call"))
	require.NoError(t, err)
}

func TestAFilterStaysAtItsNode(t *testing.T) {
	a, b := newFakeNode(t, says(200, "a")), newFakeNode(t, says(200, "b"))
	p := newTestPool(t, nil, a.URL, b.URL)
	c := request("eth_getFilterChanges")
	c.Node = parsed(t, b.URL)[0].Tag
	for range 20 {
		answer, err := p.Call(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, "b", string(answer.Body))
	}
	b.is(hangsUp)
	_, err := p.Call(t.Context(), c)
	require.ErrorIs(t, err, rpcapi.ErrFilterNotFound, "what it had to tell is lost")
	require.NoError(t, p.Set(parsed(t, a.URL)))
	_, err = p.Call(t.Context(), c)
	require.ErrorIs(t, err, rpcapi.ErrFilterNotFound)
}

func TestNoNodesAndNoPlacesAreToldApart(t *testing.T) {
	p := newTestPool(t, nil)
	_, err := p.Call(t.Context(), request("eth_call"))
	require.ErrorIs(t, err, rpcapi.ErrNoNode)
	n := newFakeNode(t, says(200, "ok"))
	require.NoError(t, p.Set(parsed(t, n.URL+"?_workers=0")))
	_, err = p.Call(t.Context(), request("eth_call"))
	require.ErrorIs(t, err, rpcapi.ErrNodeTimeout)
	require.Empty(t, n.got())
}

func TestWorkersBoundWhatANodeIsGiven(t *testing.T) {
	var now, most atomic.Int64
	n := newFakeNode(t, func(w http.ResponseWriter, _ *http.Request) {
		for is := now.Add(1); ; {
			if m := most.Load(); is <= m || most.CompareAndSwap(m, is) {
				break
			}
		}
		time.Sleep(5 * time.Millisecond) // what the node takes
		now.Add(-1)
		_, _ = io.WriteString(w, "ok")
	})
	p := newTestPool(t, nil, n.URL+"?_workers=4")
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			_, err := p.Call(t.Context(), request("eth_call"))
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.EqualValues(t, 4, most.Load())
}

func TestASecondNodeIsAskedWhenTheFirstTakesItsTime(t *testing.T) {
	slow, fast := newFakeNode(t, hangs), newFakeNode(t, says(200, "fast"))
	p := newTestPool(t, func(c *Config) { c.HedgeAfter = 20 * time.Millisecond }, slow.URL, fast.URL)
	for range 10 {
		a, err := p.Call(t.Context(), request("eth_call"))
		require.NoError(t, err)
		require.Equal(t, "fast", string(a.Body))
	}
	require.NotEmpty(t, slow.got())
	before := len(slow.got())
	for range 10 {
		c := request("eth_sendTransaction")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, _ = p.Call(ctx, c)
		cancel()
	}
	for _, b := range slow.got()[before:] {
		require.Contains(t, b, "eth_sendTransaction")
	}
	require.LessOrEqual(t, len(slow.got())-before+strings.Count(strings.Join(fast.got(), ""), "eth_sendTransaction"), 10, "no write is sent twice")
}

func TestAnAnswerBeyondTheBoundIsAnError(t *testing.T) {
	n := newFakeNode(t, says(200, strings.Repeat("x", 1<<20+1)))
	p := newTestPool(t, nil, n.URL)
	_, err := p.Call(t.Context(), request("eth_getLogs"))
	require.ErrorIs(t, err, rpcapi.ErrAnswerTooLarge)
	require.Len(t, n.got(), 1)
}

func TestANodeThatMustProveItselfIsNeverDialledWithoutAVerifier(t *testing.T) {
	p := newTestPool(t, nil)
	require.ErrorIs(t, p.Set(parsed(t, "https://TDX_ab@127.0.0.1:1")), ErrNoVerifier)
	require.ErrorIs(t, p.Check(t.Context(), parsed(t, "https://SEV_ab@127.0.0.1:1")[0]), ErrNoVerifier)
	require.Empty(t, p.Nodes())
}

func TestASetWithAFaultChangesNothing(t *testing.T) {
	n := newFakeNode(t, says(200, "ok"))
	p := newTestPool(t, nil, n.URL)
	require.ErrorIs(t, p.Set(parsed(t, n.URL, n.URL+"?_workers=2")), ErrSameTag)
	_, err := p.Call(t.Context(), request("eth_call"))
	require.NoError(t, err)
}

func TestCallsUnderWayEndBeforeThePoolDoes(t *testing.T) {
	release := make(chan struct{})
	n := newFakeNode(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, "ok")
	})
	cfg := Config{
		Workers: 1, Timeout: 5 * time.Second, Connect: time.Second, MaxTries: 1, MaxAnswer: 1 << 20, Drain: soon, Balance: BalanceLeast,
		Queue: Queues{Timeout: 5 * time.Second, DispatchTimeout: time.Second}, Health: health.DefaultConfig(),
	}
	cfg.Health.Check = health.ModeNone
	p, err := New(cfg, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	require.NoError(t, p.Set(parsed(t, n.URL)))
	ctx, cancel := context.WithCancel(context.Background())
	done, ends := make(chan error, 1), make(chan error, 2)
	go func() { done <- p.Run(ctx) }()
	for range 2 {
		go func() {
			_, err := p.Call(context.Background(), request("eth_call"))
			ends <- err
		}()
	}
	require.Eventually(t, func() bool { return len(n.got()) == 1 && p.Waiting(rpcapi.Low) == 1 }, soon, time.Millisecond)
	cancel()
	require.Eventually(t, func() bool {
		brief, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		_, err := p.Call(brief, request("eth_call"))
		return errors.Is(err, rpcapi.ErrStopping)
	}, soon, time.Millisecond)
	close(release)
	require.NoError(t, <-ends)
	require.NoError(t, <-ends)
	require.NoError(t, <-done)
}

func BenchmarkCall(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":"0x"}`)
	}))
	defer s.Close()
	cfg := Config{
		Workers: 8, Timeout: time.Second, Connect: time.Second, MaxTries: 3, MaxAnswer: 1 << 20, Balance: BalanceLeast,
		Queue: Queues{FastPerHigh: 2}, Health: health.DefaultConfig(),
	}
	p, err := New(cfg, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(b, err)
	n, err := rpcapi.ParseNode(s.URL)
	require.NoError(b, err)
	require.NoError(b, p.Set([]*rpcapi.Node{n}))
	c := request("eth_call")
	b.ReportAllocs()
	for b.Loop() {
		c.Received = time.Now()
		if _, err := p.Call(b.Context(), c); err != nil {
			b.Fatal(fmt.Errorf("call: %w", err))
		}
	}
	require.NoError(b, p.Set(nil))
}

func TestBesideThePlacesANodeAnswersWhileItIsBusy(t *testing.T) {
	release := make(chan struct{})
	n := newFakeNode(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == int64(len("busy")) {
			<-release
		}
		_, _ = io.WriteString(w, "answer")
	})
	p := newTestPool(t, nil, n.URL+"?_workers=1")
	tag := p.Nodes()[0].Tag
	done := make(chan error, 1)
	go func() {
		_, err := p.Call(t.Context(), opaque("busy"))
		done <- err
	}()
	require.Eventually(t, func() bool { return len(n.got()) == 1 }, soon, time.Millisecond)
	c := request("eth_getBlockByNumber")
	c.Node = tag
	a, err := p.Beside(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, "answer", string(a.Body))
	require.Zero(t, p.Waiting(rpcapi.High))
	close(release)
	require.NoError(t, <-done)
	n.is(says(500, "no"))
	_, err = p.Beside(t.Context(), c)
	var said *rpcapi.NodeError
	require.ErrorAs(t, err, &said)
	c.Node++
	_, err = p.Beside(t.Context(), c)
	require.ErrorIs(t, err, rpcapi.ErrNoNode)
}

func TestANodeThatStaysTakesItsWeightAndWebSocketAnew(t *testing.T) {
	n := newFakeNode(t, says(200, "x"))
	p := newTestPool(t, nil, n.URL)
	again := parsed(t, n.URL)
	again[0].Weight, again[0].WS = 3, again[0].URL
	require.NoError(t, p.Set(again))
	require.Same(t, again[0], p.Nodes()[0])
	require.Same(t, again[0], p.Status()[0].Node)
	a, err := p.Call(t.Context(), request("eth_gasPrice"))
	require.NoError(t, err, "its connections are kept")
	require.Equal(t, "x", string(a.Body))
}

func TestARetryGoesToANodeThatIsThoughtDeadRatherThanToTheOneThatFailed(t *testing.T) {
	a, b := newFakeNode(t, says(200, "alive")), newFakeNode(t, says(479, "no"))
	p := newTestPool(t, nil, a.URL, b.URL)
	tag := parsed(t, a.URL)[0].Tag
	p.judge(tag, health.Verdict{}) // not healthy
	answer, err := p.Call(t.Context(), request("eth_gasPrice"))
	require.NoError(t, err)
	require.Equal(t, "alive", string(answer.Body))
	require.Equal(t, 2, answer.Tries)
}

func TestWhatANodeSaidIsNotForgottenOverOneThatIsNotThere(t *testing.T) {
	a, b, c := newFakeNode(t, says(200, "x")), newFakeNode(t, says(200, "x")), newFakeNode(t, says(479, "no"))
	p := newTestPool(t, nil, a.URL, b.URL, c.URL)
	for _, dead := range []*fakeNode{a, b} {
		p.judge(parsed(t, dead.URL)[0].Tag, health.Verdict{})
		dead.Close()
	}
	_, err := p.Call(t.Context(), request("eth_gasPrice"))
	var said *rpcapi.NodeError
	require.ErrorAs(t, err, &said)
	require.Equal(t, "no", string(said.Body))
	require.Equal(t, 3, said.Tries)
}
