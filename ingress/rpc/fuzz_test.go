package rpc

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// FuzzPrio sends any bytes: they arrive as they are, or are too large, and nothing stays reserved.
func FuzzPrio(f *testing.F) {
	for _, body := range []string{"", "foo", "[]", request("1", "eth_callBundle", "")} {
		f.Add([]byte(body), "")
	}
	f.Add([]byte("x"), "gzip")
	d := made(f, DialectPrio, func(c *Config, _ *Ports) { c.MaxBody = 2000 })
	routes := d.handler()
	f.Fuzz(func(t *testing.T, body []byte, encoding string) {
		before := len(d.node.calls())
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(string(body)))
		req.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, req)
		require.Zero(t, d.budget.inUse.Load())
		require.Zero(t, d.inflight.Load())
		calls := d.node.calls()
		if len(body) > 2000 {
			require.Equal(t, 400, w.Code)
			require.Len(t, calls, before)
			return
		}
		require.Equal(t, 200, w.Code)
		require.Equal(t, string(body), string(calls[len(calls)-1].Body))
	})
}

// FuzzJSONRPC sends any bytes: there is one answer in JSON, or none to notifications, and nothing stays reserved.
func FuzzJSONRPC(f *testing.F) {
	for _, body := range []string{
		"", "{}", "[]", "[{}]", request("1", "eth_call", ""), request("null", "eth_newFilter", "{}"), `{"jsonrpc":"2.0","method":"a"}`,
		"[" + request("1", "eth_getFilterChanges", `"0x1abcd1234"`) + "," + request(`"x"`, "eth_subscribe", "") + ",7]",
		request("1", "eth_sendRawTransaction", `"0x01"`), strings.Repeat("[", 200), "[1,2,3,4,5,6]",
	} {
		f.Add([]byte(body), `{"jsonrpc":"2.0","id":1,"result":"0x1"}`, false)
	}
	f.Add([]byte("["+request("1", "a", "")+"]"), "<html>", false)
	f.Add([]byte(request("1", "a", "")), `{"id":1,"error":{"code":-1}}`, true)
	d := made(f, DialectJSONRPC, func(c *Config, _ *Ports) { c.MaxBody, c.BatchMax = 2000, 5 })
	routes := d.handler()
	f.Fuzz(func(t *testing.T, body []byte, answer string, fails bool) {
		d.node.says(answer)
		if fails {
			d.node.fails(&rpcapi.NodeError{Status: 500, Body: []byte(answer)})
		}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(string(body)))
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, req)
		require.Zero(t, d.budget.inUse.Load())
		require.Zero(t, d.inflight.Load())
		if w.Code == http.StatusNoContent {
			require.Empty(t, w.Body.String())
			return
		}
		if len(body) > 2000 {
			require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
		}
		if w.Body.String() != answer { // a single answer is the node's business
			require.True(t, json.Valid(w.Body.Bytes()), w.Body.String())
		}
	})
}
