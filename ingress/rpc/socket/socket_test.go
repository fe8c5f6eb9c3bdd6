package socket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/jsonrpc"
	"millrace/internal/rpcapi"
)

func call(id, method string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":[]}`
}

func note(id, result string) string {
	return `{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"` + id + `","result":` + result + `}}`
}

func TestMessagesReachTheDoorAndItsAnswersTheClient(t *testing.T) {
	r := open(t, echo)
	c := r.dial()
	c.send(call("1", "eth_chainId"))
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":1}`, c.read())
	c.send("[" + call("2", "a") + "," + call("3", "b") + "]")
	require.JSONEq(t, `[{"jsonrpc":"2.0","id":2,"result":2},{"jsonrpc":"2.0","id":3,"result":3}]`, c.read())
	c.send(`{`)
	require.Contains(t, c.read(), "-32700")
	require.NoError(t, c.ws.Write(t.Context(), websocket.MessageBinary, []byte(call("4", "a"))))
	require.JSONEq(t, `{"jsonrpc":"2.0","id":4,"result":4}`, c.read())
}

func TestTheAnswerToASubscriptionComesBeforeItsFirstNotification(t *testing.T) {
	r := open(t, echo)
	r.feed.early = []string{`"early"`, `"too"`}
	c := r.dial()
	id := c.subscribe(`["newHeads"]`)
	require.Equal(t, note(id, `"early"`), c.read())
	require.Equal(t, note(id, `"too"`), c.read())
	require.True(t, r.feed.send(0, `{"number":"0x1"}`))
	require.Equal(t, note(id, `{"number":"0x1"}`), c.read())
	require.Equal(t, []string{`["newHeads"]`}, r.feed.params)
}

func TestNothingFollowsTheAnswerToUnsubscribe(t *testing.T) {
	r := open(t, echo)
	c := r.dial()
	id := c.subscribe(`["newHeads"]`)
	c.send(`{"jsonrpc":"2.0","id":2,"method":"eth_unsubscribe","params":["` + id + `"]}`)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":2,"result":true}`, c.read())
	require.Equal(t, 1, r.feed.closes())
	require.False(t, r.feed.send(0, `1`))
	c.send(`{"jsonrpc":"2.0","id":3,"method":"eth_unsubscribe","params":["` + id + `"]}`)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":3,"error":{"code":-32000,"message":"subscription not found"}}`, c.read())
	c.send(`{"jsonrpc":"2.0","id":4,"method":"eth_unsubscribe"}`)
	require.Contains(t, c.read(), "-32602")
	require.Zero(t, testutil.ToFloat64(r.metrics.subscriptions))
}

func TestASubscriptionInABatchIsRefusedAndTheRestIsAnswered(t *testing.T) {
	r := open(t, echo)
	c := r.dial()
	refused := func(id string) string {
		return `{"jsonrpc":"2.0","id":` + id + `,"error":{"code":-32004,"message":"subscription in batch request is not supported"}}`
	}
	c.send("[" + call("1", "eth_subscribe") + "," + call("2", "a") + ", 7," + call(`"x"`, "eth_unsubscribe") + "]")
	// The door of this test can't read 7, so it is not asked about it alone.
	require.Contains(t, c.read(), "-32700")
	c.send("[" + call("1", "eth_subscribe") + "," + call("2", "a") + "," + call(`"x"`, "eth_unsubscribe") + "]")
	require.JSONEq(t, "["+refused("1")+","+refused(`"x"`)+`,{"jsonrpc":"2.0","id":2,"result":2}]`, c.read())
	c.send("[" + call("1", "eth_subscribe") + "]")
	require.JSONEq(t, "["+refused("1")+"]", c.read())
	c.send(`[{"jsonrpc":"2.0","method":"eth_subscribe","params":["newHeads"]}]`) // a notification: silence
	c.send(call("9", "a"))
	require.JSONEq(t, `{"jsonrpc":"2.0","id":9,"result":9}`, c.read())
}

func TestWhyThereIsNoSubscriptionIsSaidInGethsCodes(t *testing.T) {
	for err, code := range map[error]int{
		rpcapi.ErrSubscriptionKind: -32601, rpcapi.ErrSubscriptionUnsupported: -32601,
		rpcapi.ErrSubscriptionParams: -32602, rpcapi.ErrSubscriptionLimit: -32005,
		rpcapi.ErrStopping: -32603, errors.New("secret"): -32603,
	} {
		r := open(t, echo)
		r.feed.err = fmt.Errorf("%w", err)
		c := r.dial()
		c.send(`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["x"]}`)
		said := c.read()
		require.Contains(t, said, fmt.Sprintf(`"code":%d`, code))
		require.NotContains(t, said, "secret")
	}
}

type gate func(c Client, method string) *jsonrpc.Error

func (g gate) Admit(c Client, method string) *jsonrpc.Error { return g(c, method) }

func TestLimitsHoldForSubscriptionsToo(t *testing.T) {
	r := open(t, echo, func(c *Config) { c.MaxSubscriptions = 1 })
	c := r.dial()
	c.subscribe(`["newHeads"]`)
	c.send(`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}`)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"too many subscriptions"}}`, c.read())
	r.ports.Gate = gate(func(_ Client, method string) *jsonrpc.Error {
		return &jsonrpc.Error{Code: -32601, Message: "method not allowed: " + method}
	})
	c = r.dial()
	c.send(`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}`)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"method not allowed: eth_subscribe"}}`, c.read())
}

func TestCallsOfAConnectionRunAtOnceUpToTheBound(t *testing.T) {
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	r := open(t, func(_ context.Context, m []byte, c Client) []byte {
		entered <- struct{}{}
		<-leave
		return echo(t.Context(), m, c)
	}, func(c *Config) { c.MaxCalls = 2 })
	c := r.dial()
	for i := range 3 {
		c.send(call(fmt.Sprint(i), "a"))
	}
	<-entered
	<-entered
	// The third was sent, but it is not under way before a place is free.
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.received) == 3 }, patience, time.Millisecond)
	require.Empty(t, entered)
	close(leave)
	for range 3 {
		c.read()
	}
}

func TestNotificationsDoNotWaitBehindCalls(t *testing.T) {
	leave := make(chan struct{})
	r := open(t, func(_ context.Context, m []byte, c Client) []byte {
		<-leave
		return echo(t.Context(), m, c)
	})
	c := r.dial()
	id := c.subscribe(`["newHeads"]`)
	c.send(call("1", "a"))
	r.feed.send(0, `1`)
	require.Equal(t, note(id, `1`), c.read())
	close(leave)
	c.read()
}

func TestAClientThatLeavesCancelsItsCalls(t *testing.T) {
	entered, canceled := make(chan struct{}), make(chan struct{})
	r := open(t, func(ctx context.Context, _ []byte, _ Client) []byte {
		close(entered)
		<-ctx.Done()
		close(canceled)
		return nil
	})
	c := r.dial()
	c.subscribe(`["newHeads"]`)
	c.send(call("1", "a"))
	<-entered
	require.NoError(t, c.ws.CloseNow())
	<-canceled
	require.Eventually(t, func() bool { return r.feed.closes() == 1 }, patience, time.Millisecond)
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.ended[endedClient]) == 1 }, patience, time.Millisecond)
	require.Zero(t, testutil.ToFloat64(r.metrics.queued))
}

func TestASlowClientIsCutAndOthersAreNot(t *testing.T) {
	r := open(t, echo, func(c *Config) { c.QueueMessages = 8 })
	slow, quick := r.dial(), r.dial()
	slow.subscribe(`["newHeads"]`)
	id := quick.subscribe(`["newHeads"]`)
	big := `"` + strings.Repeat("x", 1<<20) + `"`
	for n := 0; r.feed.send(0, big); n++ {
		require.Less(t, n, 1000)
	}
	require.False(t, r.feed.send(0, big), "after a gap nothing may follow")
	r.feed.send(1, `1`)
	require.Equal(t, note(id, `1`), quick.read())
	require.NoError(t, closing(slow, websocket.StatusPolicyViolation))
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.ended[endedSlow]) == 1 }, patience, time.Millisecond)
	require.Zero(t, testutil.ToFloat64(r.metrics.queued))
}

// closing reads to the connection's end, which must have the code.
func closing(c *client, code websocket.StatusCode) error {
	for {
		if _, err := c.next(); err != nil {
			if websocket.CloseStatus(err) != code {
				return err
			}
			return nil
		}
	}
}

func TestAnEndedSubscriptionSendsTheClientAway(t *testing.T) {
	r := open(t, echo)
	c := r.dial()
	c.subscribe(`["newHeads"]`)
	require.False(t, r.feed.delivers[0](rpcapi.Notification{Err: rpcapi.ErrSubscriptionGap}))
	require.NoError(t, closing(c, websocket.StatusTryAgainLater))
}

func TestConnectionsAreBoundedByAddressAndInAll(t *testing.T) {
	r := open(t, echo, func(c *Config) { c.MaxPerIP, c.MaxConnections = 1, 2 })
	c := r.dial()
	refused := func() int {
		_, resp, err := websocket.Dial(t.Context(), r.http.URL, nil)
		require.Error(t, err)
		return resp.StatusCode
	}
	require.Equal(t, http.StatusTooManyRequests, refused())
	require.NoError(t, c.ws.Close(websocket.StatusNormalClosure, ""))
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.open) == 0 }, patience, time.Millisecond)
	for _, ip := range []string{"192.0.2.1", "192.0.2.2"} {
		reason, _ := r.enter(netip.MustParseAddr(ip))
		require.Empty(t, reason)
	}
	require.Equal(t, http.StatusServiceUnavailable, refused())
	r.leave(netip.MustParseAddr("192.0.2.1"))
	r.leave(netip.MustParseAddr("192.0.2.2"))
	require.Empty(t, r.perIP)
	require.Equal(t, network(netip.MustParseAddr("2001:db8::1")), network(netip.MustParseAddr("2001:db8::ffff:1%eth0")))
	require.Equal(t, network(netip.MustParseAddr("::ffff:192.0.2.1")), netip.MustParseAddr("192.0.2.1"))
}

func TestAReloadKeepsConnectionsAndBoundsThoseWhoCome(t *testing.T) {
	r := open(t, echo, func(c *Config) { c.MaxSubscriptions = 1 })
	old := r.dial()
	old.subscribe(`["newHeads"]`)
	cfg := *r.cfg()
	cfg.MaxPerIP, cfg.MaxSubscriptions, cfg.MaxMessage = 2, 2, 1000
	require.NoError(t, r.Reload(cfg))
	long := `{"jsonrpc":"2.0","id":1,"method":"m","params":["` + strings.Repeat("x", 1000) + `"]}`
	old.subscribe(`["newHeads"]`)
	old.send(long)
	old.read()
	fresh := r.dial()
	_, resp, err := websocket.Dial(t.Context(), r.http.URL, nil)
	require.Error(t, err)
	require.Equal(t, http.StatusTooManyRequests, resp.StatusCode)
	fresh.send(long)
	_, err = fresh.next()
	require.Error(t, err)
	cfg.MaxCalls = 0
	require.Error(t, r.Reload(cfg))
	require.Equal(t, 32, r.cfg().MaxCalls)
}

func TestAMessageThatIsTooLargeEndsTheConnection(t *testing.T) {
	r := open(t, echo, func(c *Config) { c.MaxMessage = 100 })
	c := r.dial()
	c.send(`"` + strings.Repeat("x", 200) + `"`)
	require.NoError(t, closing(c, websocket.StatusMessageTooBig))
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.ended[endedTooBig]) == 1 }, patience, time.Millisecond)
}

func TestADrainSendsTheRepliesUnderWayAndThenGoesAway(t *testing.T) {
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	r := open(t, func(_ context.Context, m []byte, c Client) []byte {
		entered <- struct{}{}
		<-leave
		return echo(t.Context(), m, c)
	}, func(c *Config) { c.MaxCalls = 1 })
	c, idle := r.dial(), r.dial()
	c.send(call("1", "a"))
	<-entered
	c.send(call("2", "a")) // waits for a place, which the drain takes or it gets: answered or not, never half
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	require.NoError(t, closing(idle, websocket.StatusGoingAway))
	_, resp, err := websocket.Dial(t.Context(), r.http.URL, nil)
	require.Error(t, err)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	close(leave)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":1}`, c.read())
	require.NoError(t, closing(c, websocket.StatusGoingAway))
	require.NoError(t, <-stopped)
}

func TestADrainThatTakesTooLongIsCut(t *testing.T) {
	entered := make(chan struct{})
	r := open(t, func(ctx context.Context, _ []byte, _ Client) []byte {
		close(entered)
		<-ctx.Done()
		return nil
	}, func(c *Config) { c.Drain = time.Millisecond })
	c := r.dial()
	c.send(call("1", "a"))
	<-entered
	require.NoError(t, r.stop())
}

func TestAClientThatDoesNotAnswerPingsIsDead(t *testing.T) {
	r := open(t, echo, func(c *Config) { c.PingEvery, c.DeadAfter = 5*time.Millisecond, 20*time.Millisecond })
	r.dial() // nobody reads, so nobody answers a ping
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.ended[endedDead]) == 1 }, patience, time.Millisecond)
}

func TestAClientThatAnswersPingsIsAlive(t *testing.T) {
	r := open(t, echo, func(c *Config) { c.PingEvery, c.DeadAfter = 20*time.Millisecond, 5*time.Second })
	pings := make(chan struct{}, 100)
	ws, _, err := websocket.Dial(t.Context(), r.http.URL, &websocket.DialOptions{
		OnPingReceived: func(context.Context, []byte) bool { pings <- struct{}{}; return true },
	})
	require.NoError(t, err)
	go func() { _, _, _ = ws.Read(context.WithoutCancel(t.Context())) }()
	for range 5 {
		<-pings
	}
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.open), 0)
	require.NoError(t, ws.CloseNow())
}

func TestManyClientsSubscribeAndLeaveAtOnce(t *testing.T) {
	r := open(t, echo)
	// Each client asks for a round to everyone, so that nobody drowns.
	rounds := make(chan struct{})
	var sender, clients sync.WaitGroup
	sender.Go(func() {
		for range rounds {
			r.feed.mu.Lock()
			all := r.feed.delivers
			r.feed.mu.Unlock()
			for _, d := range all {
				d(rpcapi.Notification{Result: []byte(`1`)})
			}
		}
	})
	for range 8 {
		clients.Go(func() {
			for range 5 {
				if err := visit(t.Context(), r.http.URL, rounds); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	close(rounds)
	sender.Wait()
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.open) == 0 }, patience, time.Millisecond)
	require.Zero(t, testutil.ToFloat64(r.metrics.subscriptions))
	require.Zero(t, testutil.ToFloat64(r.metrics.queued))
}

// visit subscribes, takes two results and leaves without a word.
func visit(ctx context.Context, url string, rounds chan<- struct{}) error {
	ws, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	err = ws.Write(ctx, websocket.MessageText, []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}`))
	for n := 0; n < 3 && err == nil; n++ {
		if n > 0 {
			rounds <- struct{}{}
		}
		_, _, err = ws.Read(ctx)
	}
	return err
}
