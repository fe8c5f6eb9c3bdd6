//go:build e2e

package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

// TestTheDoorIsIndistinguishableFromGeth sends the same requests to a real geth and to a door before
// it: status, content type and bytes are the same, whatever it is.
func TestTheDoorIsIndistinguishableFromGeth(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	binary, err := eltest.BuildGeth(ctx)
	require.NoError(t, err)
	secret := secretOf(callerSecret)
	geth := eltest.NewGeth(eltest.GethConfig{Binary: binary, Dir: t.TempDir(), Genesis: "../../internal/eltest/testdata/genesis-mini.json", Secret: secret})
	require.NoError(t, geth.Start(ctx))
	t.Cleanup(geth.Stop)
	f := made(t, geth.URL(), func(c *Config) { c.PrimaryJWTSecret = "" }).run()

	for _, tc := range requests(secret) {
		direct := tc.send(t, f.client, geth.URL())
		proxied := tc.send(t, f.client, "http://"+f.Addr().String())
		require.Equal(t, direct.status, proxied.status, tc.name)
		require.Equal(t, direct.body, proxied.body, tc.name)
		require.Equal(t, direct.header.Get("Content-Type"), proxied.header.Get("Content-Type"), tc.name)
		require.Equal(t, direct.header.Get("X-Content-Type-Options"), proxied.header.Get("X-Content-Type-Options"), tc.name)
		t.Logf("%s: %d %.80q", tc.name, direct.status, direct.body)
	}
	for _, body := range odd() {
		if !json.Valid([]byte(body)) {
			continue // geth words a parse error otherwise on its WebSockets than over HTTP
		}
		require.Equal(t, overSocket(t, geth.URL(), body), overSocket(t, "http://"+f.Addr().String(), body), "%.80s", body)
	}
}

// asked is one HTTP request.
type asked struct {
	name, method, path, body string
	headers                  []string
}

func (a asked) send(t *testing.T, c *http.Client, url string) said {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), a.method, url+a.path, strings.NewReader(a.body))
	require.NoError(t, err)
	req.Header.Set("Authorization", token())
	req.Header.Set("Content-Type", "application/json")
	for _, h := range a.headers {
		name, value, _ := strings.Cut(h, ": ")
		if req.Header.Set(name, value); value == "" {
			req.Header.Del(name)
		}
	}
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return said{resp.StatusCode, string(b), resp.Header}
}

// odd are bodies that are answered the same today and tomorrow.
func odd() []string {
	long := strings.TrimSuffix(strings.Repeat(`{"jsonrpc":"2.0","id":"n","method":"eth_chainId"},`, engineapi.MaxBatch+1), ",")
	return []string{
		rpc("1", "eth_chainId", ""), rpc(`"x"`, "eth_chainId", ""), rpc("1.50", "eth_chainId", ""),
		rpc("1", "eth_nothing", ""), rpc("1", "web3_clientVersion", ""), rpc("1", "eth_subscribe", `"newHeads"`),
		rpc("1", "engine_newPayloadV1", ""), rpc("1", "engine_forkchoiceUpdatedV3", ""), rpc("1", "engine_getPayloadV3", `"0x0000000000000001"`),
		forkchoice("1", zero, "null"), forkchoice("2", hashA, "null"), newPayload("3", hashA, hashB),
		"[]", "[" + rpc("1", "eth_chainId", "") + "," + rpc("2", "eth_nothing", "") + "]", "[1,2]", "[" + long + "]",
		"null", "{}", `"x"`, "{", "[1,", "\x00", `{"jsonrpc":"2.0","method":"eth_chainId"}`,
	}
}

func requests(secret engineapi.Secret) []asked {
	now := time.Now()
	auth := func(value string) []string { return []string{"Authorization: " + value} }
	out := []asked{
		{name: "no token", method: "POST", headers: auth("")},
		{name: "another scheme", method: "POST", headers: auth("Basic eDp5")},
		{name: "no segments", method: "POST", headers: auth("Bearer x")},
		{name: "not base64", method: "POST", headers: auth("Bearer ?.?.?")},
		{name: "two spaces", method: "POST", headers: auth("Bearer  " + secret.Mint(now))},
		{name: "upper case", method: "POST", headers: auth("BEARER " + secret.Mint(now)), body: rpc("1", "eth_chainId", "")},
		{name: "another secret", method: "POST", headers: auth(secretOf(1).Authorization(now))},
		{name: "stale", method: "POST", headers: auth(secret.Authorization(now.Add(-90 * time.Second)))},
		{name: "future", method: "POST", headers: auth(secret.Authorization(now.Add(90 * time.Second)))},
		{name: "alg none", method: "POST", headers: auth("Bearer eyJhbGciOiJub25lIn0.eyJpYXQiOjF9.")},
		{name: "alg HS512", method: "POST", headers: auth("Bearer eyJhbGciOiJIUzUxMiJ9.eyJpYXQiOjF9.AAAA")},
		{name: "other path", method: "POST", path: "/engine/v1/capabilities"},
		{name: "other path, no token", method: "GET", path: "/x", headers: auth("")},
		{name: "upgrade elsewhere", method: "GET", path: "/ws", headers: []string{"Upgrade: websocket", "Connection: Upgrade"}},
		{name: "GET", method: "GET"},
		{name: "GET without a token", method: "GET", headers: auth("")},
		{name: "GET with a query", method: "GET", path: "/?a=b", headers: []string{"Content-Type: "}},
		{name: "HEAD", method: "HEAD"},
		{name: "PUT", method: "PUT", body: rpc("1", "eth_chainId", "")},
		{name: "DELETE", method: "DELETE"},
		{name: "PATCH", method: "PATCH", body: rpc("1", "eth_chainId", "")},
		{name: "OPTIONS", method: "OPTIONS"},
		{name: "no content type", method: "POST", headers: []string{"Content-Type: "}},
		{name: "text", method: "POST", headers: []string{"Content-Type: text/plain"}},
		{name: "json with charset", method: "POST", headers: []string{"Content-Type: application/json; charset=utf-8"}, body: rpc("1", "eth_chainId", "")},
		{name: "json-rpc", method: "POST", headers: []string{"Content-Type: application/json-rpc"}, body: rpc("1", "eth_chainId", "")},
		{name: "empty", method: "POST"},
		{name: "gzip is not offered", method: "POST", headers: []string{"Accept-Encoding: gzip"}, body: rpc("1", "eth_chainId", "")},
	}
	for _, body := range odd() {
		out = append(out, asked{name: fmt.Sprintf("body %.60q", body), method: "POST", body: body})
	}
	return out
}

// overSocket is the answer to a message on a WebSocket of its own; empty when none comes before that
// of a call behind it.
func overSocket(t *testing.T, url, body string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(url, "http"), &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {token()}}})
	require.NoError(t, err)
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(16 << 20)
	require.NoError(t, c.Write(ctx, websocket.MessageText, []byte(body)))
	if body == `{"jsonrpc":"2.0","method":"eth_chainId"}` || strings.Contains(body, "eth_subscribe") {
		return "" // a notification; and what geth has on its WebSockets alone
	}
	_, b, err := c.Read(ctx)
	if err != nil {
		return "closed"
	}
	return string(b)
}
