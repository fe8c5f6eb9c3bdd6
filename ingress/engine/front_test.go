package engine

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi"
)

// What geth v1.17.8 answers on its authenticated port before it looks at the call.
func TestTheDoorRefusesAsGethDoes(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	now := time.Now()
	own := secretOf(callerSecret)
	const noContent, text = "", "text/plain; charset=utf-8"
	for _, tc := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		want, contentType        string
	}{
		{name: "another path", method: "POST", path: "/engine/v1/capabilities", status: 404},
		{name: "another path without a token", method: "GET", path: "/x", headers: []string{"Authorization: "}, status: 404},
		{name: "an upgrade on another path", method: "GET", path: "/ws", headers: []string{"Upgrade: websocket", "Connection: Upgrade"}, status: 404, want: "not found\n", contentType: text},
		{name: "no token", headers: []string{"Authorization: "}, status: 401, want: "missing token\n", contentType: text},
		{name: "no token on GET", method: "GET", headers: []string{"Authorization: "}, status: 401, want: "missing token\n", contentType: text},
		{name: "another scheme", headers: []string{"Authorization: Basic eA=="}, status: 401, want: "missing token\n", contentType: text},
		{name: "two spaces", headers: []string{"Authorization: Bearer  " + own.Mint(now)}, status: 401, contentType: text},
		{name: "lower case is fine", headers: []string{"Authorization: bearer " + own.Mint(now)}, body: rpc("1", "x", ""), status: 200, want: `{"jsonrpc":"2.0","id":1,"result":null}`, contentType: "application/json"},
		{name: "another secret", headers: []string{"Authorization: " + secretOf(1).Authorization(now)}, status: 401, want: "signature is invalid\n", contentType: text},
		{name: "stale", headers: []string{"Authorization: " + own.Authorization(now.Add(-62*time.Second))}, status: 401, want: "stale token\n", contentType: text},
		{name: "from the future", headers: []string{"Authorization: " + own.Authorization(now.Add(70*time.Second))}, status: 401, want: "future token\n", contentType: text},
		{name: "no algorithm", headers: []string{"Authorization: Bearer eyJhbGciOiJub25lIn0.eyJpYXQiOjF9."}, status: 401, want: "signing method none is invalid\n", contentType: text},
		{name: "GET", method: "GET", status: 200},
		{name: "GET with a query", method: "GET", path: "/?a=b", headers: []string{"Content-Type: "}, status: 415, want: "invalid content type, only application/json is supported\n", contentType: text},
		{name: "PUT", method: "PUT", status: 405, want: "method not allowed\n", contentType: text},
		{name: "DELETE", method: "DELETE", status: 405, want: "method not allowed\n", contentType: text},
		{name: "no content type", headers: []string{"Content-Type: "}, status: 415, want: "invalid content type, only application/json is supported\n", contentType: text},
		{name: "text", headers: []string{"Content-Type: text/plain"}, status: 415, want: "invalid content type, only application/json is supported\n", contentType: text},
		{name: "with a charset", headers: []string{"Content-Type: application/json; charset=utf-8"}, body: rpc("1", "x", ""), status: 200, want: `{"jsonrpc":"2.0","id":1,"result":null}`, contentType: "application/json"},
		{name: "an older type", headers: []string{"Content-Type: application/json-rpc"}, body: rpc("1", "x", ""), status: 200, want: `{"jsonrpc":"2.0","id":1,"result":null}`, contentType: "application/json"},
	} {
		if tc.method == "" {
			tc.method = "POST"
		}
		if tc.path == "" {
			tc.path = "/"
		}
		s, err := f.try(t.Context(), tc.method, tc.path, strings.NewReader(tc.body), tc.headers...)
		require.NoError(t, err, tc.name)
		require.Equal(t, tc.status, s.status, tc.name)
		require.Equal(t, tc.contentType, s.header.Get("Content-Type"), tc.name)
		if tc.want != "" || tc.status == 200 || tc.status == 404 {
			require.Equal(t, tc.want, s.body, tc.name)
		}
	}
	require.Len(t, p.calls(), 3, "only what was let in reached the primary")
}

func TestI11ACallThatTheDoorRefusedIsNeitherSentNorRecorded(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	for range 3 {
		require.Equal(t, 401, f.call(forkchoice("1", hashA, "null"), "Authorization: "+secretOf(9).Authorization(time.Now())).status)
	}
	require.Empty(t, p.calls())
	require.Empty(t, f.book.asked())
	require.Equal(t, 3, counter(t, f, "millrace_engine_auth_refusals_total", "reason", "signature"))
	require.Equal(t, 1, strings.Count(f.log.String(), "engine call refused"), "one line, however many")
}

func TestABodyAboveTheLimitIsRefused(t *testing.T) {
	f := open(t, newPrimary(t, primarySecret), func(c *Config) { c.MaxBody = 1 << 10 })
	exact := rpc("1", "x", `"`+strings.Repeat("a", 1024-len(rpc("1", "x", `""`)))+`"`)
	require.Len(t, exact, 1024)
	require.Equal(t, 200, f.call(exact).status)
	s := f.call(exact + " ")
	require.Equal(t, 413, s.status)
	require.Equal(t, "content length too large (1025>1024)\n", s.body)
	chunked, err := f.try(t.Context(), "POST", "/", io.MultiReader(strings.NewReader(exact), strings.NewReader(" ")))
	require.NoError(t, err)
	require.Equal(t, 413, chunked.status)
	f.settled()
}

func TestBodiesInFlightAreBounded(t *testing.T) {
	f := open(t, newPrimary(t, primarySecret), func(c *Config) { c.MaxBody, c.InflightBytes = 1<<20, 1<<20 })
	f.settled()
	require.True(t, f.budget.take(1<<20))
	s := f.call(rpc("1", "x", ""))
	require.Equal(t, 503, s.status)
	require.Contains(t, s.body, `"code":-32603`)
	f.budget.release(1 << 20)
	require.Equal(t, 200, f.call(rpc("1", "x", "")).status)
	f.settled()
}

func TestALongBodyOfUnknownLengthArrivesWhole(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	long := rpc("1", "x", `"`+strings.Repeat("b", 3<<20)+`"`)
	s, err := f.try(t.Context(), "POST", "/", io.MultiReader(strings.NewReader(long)))
	require.NoError(t, err)
	require.Equal(t, 200, s.status)
	require.Equal(t, long, string(p.calls()[0].body))
	f.settled()
}

func TestABodyThatStopsComingIsAnsweredAsGethDoes(t *testing.T) {
	f := made(t, newPrimary(t, primarySecret).URL)
	f.reading = 100 * time.Millisecond
	f.run()
	conn := f.dial()
	_, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", token())
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"read timeout"}}`, string(b))
	require.Empty(t, f.book.asked())
}

func TestABatchAboveTheLimitIsAnsweredAsGethDoes(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	batch := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"jsonrpc":"2.0","id":"a","method":"x"},`, n), ",") + "]"
	}
	require.Equal(t, 200, f.call(batch(engineapi.MaxBatch)).status)
	require.Len(t, p.calls(), 1)
	s := f.call(batch(engineapi.MaxBatch + 1))
	require.Equal(t, 200, s.status)
	require.JSONEq(t, `[{"jsonrpc":"2.0","id":"a","error":{"code":-32600,"message":"batch too large"}}]`, s.body)
	require.Len(t, p.calls(), 1)
}

func TestWhatIsNoCallGoesToThePrimaryAllTheSame(t *testing.T) {
	p := newPrimary(t, primarySecret)
	p.says(200, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}`)
	f := open(t, p)
	for _, body := range []string{"", "{", "[]", "null", `"x"`, "\x00\xff", "[1,", `{"method":1}`} {
		s := f.call(body)
		require.Equal(t, 200, s.status, body)
		require.Contains(t, s.body, "parse error", body)
		calls := p.calls()
		require.Equal(t, body, string(calls[len(calls)-1].body))
	}
}

// counter is the value of the metric with one label of that value.
func counter(tb testing.TB, f *front, name, label, value string) int {
	tb.Helper()
	families, err := f.reg.Gather()
	require.NoError(tb, err)
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return int(sum)
}
