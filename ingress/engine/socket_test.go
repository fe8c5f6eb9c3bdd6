package engine

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// shake opens a WebSocket with the given token.
func (f *front) shake(authorization string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(f.url(), "http"), &websocket.DialOptions{
		HTTPClient: f.client, HTTPHeader: http.Header{"Authorization": {authorization}},
	})
	if err == nil {
		c.SetReadLimit(64 << 20)
		f.t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, resp, err
}

func (f *front) socket() *websocket.Conn {
	f.t.Helper()
	c, _, err := f.shake(token())
	require.NoError(f.t, err)
	return c
}

func write(t *testing.T, c *websocket.Conn, body string) {
	t.Helper()
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(body)))
}

func read(t *testing.T, c *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	kind, b, err := c.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, websocket.MessageText, kind)
	return string(b)
}

func TestAWebSocketsMessagesAreCallsLikeAnyOther(t *testing.T) {
	asked, answered := sample(t)
	p := newPrimary(t, primarySecret)
	n := 0
	p.set(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		_, _ = w.Write(answered[n])
		n++
	})
	f := open(t, p)
	c := f.socket()
	for i, body := range asked {
		write(t, c, string(body))
		require.Equal(t, string(answered[i]), read(t, c))
		g := p.calls()[i]
		require.Equal(t, string(body), string(g.body))
		require.NoError(t, p.secret.Verify(g.header.Get("Authorization"), time.Now()))
		require.Equal(t, "application/json", g.header.Get("Content-Type"))
	}
	require.Len(t, f.book.asked(), len(asked))
	require.True(t, f.book.asked()[0].Verified)
	require.Equal(t, 200, f.book.outcome(t, uint64(len(asked))).HTTPStatus)
	require.NoError(t, c.Close(websocket.StatusNormalClosure, ""))
	require.NotContains(t, string(f.book.encoded()), "eyJ")
}

func TestAWebSocketsHandshakeIsCheckedAsACallIs(t *testing.T) {
	f := open(t, newPrimary(t, primarySecret))
	now := time.Now()
	for text, value := range map[string]string{
		"missing token":        "",
		"stale token":          secretOf(callerSecret).Authorization(now.Add(-62 * time.Second)),
		"signature is invalid": secretOf(3).Authorization(now),
	} {
		_, resp, err := f.shake(value)
		require.Error(t, err)
		require.Equal(t, 401, resp.StatusCode, text)
		b := make([]byte, 64)
		n, _ := resp.Body.Read(b)
		require.Equal(t, text+"\n", string(b[:n]))
	}
	require.Empty(t, f.book.asked())
}

func TestAForwardingDoorHasNoWebSockets(t *testing.T) {
	f := open(t, newPrimary(t, primarySecret), forwarding)
	_, resp, err := f.shake(token())
	require.Error(t, err)
	require.Equal(t, 400, resp.StatusCode)
	require.Equal(t, 1, counter(t, f, "millrace_engine_auth_refusals_total", "reason", refusedSocket))
}

func TestASlowCallDoesNotHoldUpAWebSocket(t *testing.T) {
	p := newPrimary(t, primarySecret)
	goOn := make(chan struct{})
	p.set(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		if strings.Contains(string(body), "slow") {
			<-goOn
		}
		_, _ = w.Write(results(body, "null"))
	})
	f := open(t, p)
	c := f.socket()
	write(t, c, rpc("1", "slow", ""))
	for i := range 2 * socketCalls {
		write(t, c, rpc(strconv.Itoa(i+2), "x", ""))
		require.Contains(t, read(t, c), fmt.Sprintf(`"id":%d,`, i+2))
	}
	close(goOn)
	require.Contains(t, read(t, c), `"id":1,`)
	for i, r := range f.book.asked() {
		require.Equal(t, uint64(i+1), r.Sequence)
		require.Equal(t, strconv.Itoa(i+1), string(r.Call().ID), "dispatched in the order of arrival")
	}
}

func TestWhatAWebSocketHasNoStatusForIsAnErrorUnderTheCallersID(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	c := f.socket()
	p.says(401, "stale token\n")
	write(t, c, rpc(`"a"`, "x", ""))
	require.JSONEq(t, `{"jsonrpc":"2.0","id":"a","error":{"code":-32603,"message":"the primary execution client answered HTTP 401"}}`, read(t, c))
	p.says(200, "")
	write(t, c, `{"jsonrpc":"2.0","method":"note"}`) // has no answer
	p.set(func(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) })
	require.Eventually(t, func() bool { return len(f.book.asked()) == 2 }, patience, time.Millisecond)
	f.book.outcome(t, 2)
	write(t, c, rpc("3", "x", ""))
	require.Contains(t, read(t, c), messageUnreachable)
	write(t, c, "["+strings.TrimSuffix(strings.Repeat(`{"id":4,"method":"x"},`, 2001), ",")+"]")
	require.JSONEq(t, `[{"jsonrpc":"2.0","id":4,"error":{"code":-32600,"message":"batch too large"}}]`, read(t, c))
}

func TestAMessageAboveTheLimitEndsItsWebSocket(t *testing.T) {
	f := open(t, newPrimary(t, primarySecret), func(c *Config) { c.MaxBody = 1 << 10 })
	c := f.socket()
	write(t, c, strings.Repeat("x", 1<<11))
	_, _, err := c.Read(t.Context())
	require.Equal(t, websocket.StatusMessageTooBig, websocket.CloseStatus(err))
	f.settled()
}

func TestAStoppingDoorAnswersAWebSocketsCallsAndSaysGoodbye(t *testing.T) {
	p := newPrimary(t, primarySecret)
	came, goOn := make(chan struct{}), make(chan struct{})
	p.set(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		close(came)
		<-goOn
		_, _ = w.Write(results(body, "7"))
	})
	f := open(t, p)
	c := f.socket()
	write(t, c, rpc("1", "x", ""))
	<-came
	stopped := make(chan error, 1)
	go func() { stopped <- f.stop() }()
	require.Eventually(t, func() bool { return f.Healthy() != nil }, patience, time.Millisecond)
	close(goOn)
	require.Contains(t, read(t, c), `"result":7`)
	_, _, err := c.Read(t.Context())
	require.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(err))
	require.NoError(t, <-stopped)
}

func TestACallOutlivesItsWebSocket(t *testing.T) {
	p := newPrimary(t, primarySecret)
	came, goOn := make(chan struct{}), make(chan struct{})
	p.set(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		close(came)
		<-goOn
		_, _ = w.Write(results(body, valid))
	})
	f := open(t, p)
	c := f.socket()
	write(t, c, newPayload("1", hashA, zero))
	<-came
	require.NoError(t, c.CloseNow())
	close(goOn)
	require.Equal(t, 200, f.book.outcome(t, 1).HTTPStatus)
}

func TestAStoppingDoorDoesNotWaitForAMessageWithoutAPlace(t *testing.T) {
	p := newPrimary(t, primarySecret)
	goOn := make(chan struct{})
	p.set(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		<-goOn
		_, _ = w.Write(results(body, "7"))
	})
	f := open(t, p, func(c *Config) { c.DrainTimeout = time.Hour })
	c := f.socket()
	for i := range socketCalls + 2 {
		write(t, c, rpc(strconv.Itoa(i), "x", ""))
	}
	require.Eventually(t, func() bool { return len(p.calls()) == socketCalls }, patience, time.Millisecond)
	stopped := make(chan error, 1)
	go func() { stopped <- f.stop() }()
	require.Eventually(t, func() bool { return f.Healthy() != nil }, patience, time.Millisecond)
	close(goOn)
	answers := 0
	for {
		if _, _, err := c.Read(t.Context()); err != nil {
			require.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(err))
			break
		}
		answers++
	}
	require.GreaterOrEqual(t, answers, socketCalls)
	require.NoError(t, <-stopped)
	require.Len(t, f.book.outcomes, len(f.book.asked()))
}
