package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
	"millrace/internal/wire"
)

// canned answers every call at once with the same answer.
type canned struct {
	status int
	body   []byte
	got    []byte
	drop   bool // what comes is not kept
}

func (c *canned) Do(_ context.Context, _ time.Time, r *wire.Request) (wire.Answer, wire.Sent, error) {
	if len(r.Body) > 0 && !c.drop {
		c.got = bytes.Clone(r.Body)
	}
	if c.status == 0 {
		return wire.Answer{}, wire.Sent{}, io.ErrUnexpectedEOF
	}
	return wire.Answer{
		Status: c.status, Header: http.Header{"Content-Type": {contentTypeJSON}}, Body: append(r.Into[:0], c.body...),
	}, wire.Sent{Began: true}, nil
}

// FuzzDoor sends anything through the whole handler, with anything as the primary's answer.
func FuzzDoor(f *testing.F) {
	for _, body := range []string{
		forkchoice("1", hashA, "null"), newPayload("2", hashA, zero), "[" + rpc("1", "x", "") + ",2]", "", "{", "[]",
		rpc("1", "engine_getClientVersionV1", "{}"), "[" + strings.Repeat("{},", 2001) + "{}]", `{"id":[1],"method":"engine_getPayloadV1","params":["0x1"]}`,
	} {
		f.Add(http.MethodPost, "/", "", contentTypeJSON, []byte(body), uint16(200), []byte(`{"jsonrpc":"2.0","id":1,"result":[]}`))
		f.Add(http.MethodPost, "/", "", contentTypeJSON, []byte(body), uint16(0), []byte(`[{"id":1,"result":[{}]},{"id":2,"error":{}}]`))
	}
	f.Add(http.MethodGet, "/x", "Bearer eyJ.eyJ.x", "text/plain", []byte(nil), uint16(401), []byte("stale token"))
	d := made(f, "http://127.0.0.1:1", func(c *Config) { c.MaxBody = 1 << 16 })
	d.Versions("a", [][]byte{[]byte(`{"code":"A"}`)})
	f.Fuzz(func(t *testing.T, method, path, authorization, contentType string, body []byte, status uint16, answered []byte) {
		d.book.requests, d.book.outcomes, d.order.sequence = nil, map[record.ID]*record.Outcome{}, 0
		c := &canned{status: int(status), body: answered}
		if c.status != 0 {
			c.status = 200 + c.status%400
		}
		d.order.primary.client = c
		r, err := http.NewRequest(method, "http://door/", bytes.NewReader(body))
		if err != nil {
			return
		}
		r.URL.Path = path
		if authorization == "" {
			authorization = token()
		}
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		d.handler(t.Context()).ServeHTTP(w, r)

		require.Zero(t, d.budget.used())
		require.Zero(t, d.order.primary.moving)
		asked := d.book.asked()
		require.Len(t, d.book.outcomes, len(asked))
		for i, q := range asked {
			require.Equal(t, uint64(i+1), q.Sequence)
			require.True(t, q.OmittedSize > 0 || len(q.Raw) > 0)
			require.Contains(t, d.book.outcomes, q.ID)
		}
		if c.got != nil {
			require.Equal(t, body, c.got)
		}
		switch _, batch, err := engineapi.ParseCalls(body); {
		case len(asked) == 0 || c.status == 0:
			if w.Header().Get("Content-Type") == contentTypeJSON && w.Body.Len() > 0 && len(body) > 0 && c.got == nil {
				require.True(t, json.Valid(w.Body.Bytes()), "what the door says itself is JSON")
			}
			if c.status == 0 && len(asked) > 0 {
				require.Equal(t, 502, w.Code)
				require.True(t, w.Body.Len() == 0 || json.Valid(w.Body.Bytes()))
			}
		case err == nil && !batch && asked[0].Method != engineapi.MethodClientVersion:
			require.Equal(t, c.status, w.Code)
			require.Equal(t, string(answered), w.Body.String())
		}
	})
}

// FuzzMatch assigns any batch's answer to any batch.
func FuzzMatch(f *testing.F) {
	f.Add([]byte(`[{"id":1,"method":"a"},{"method":"b"}]`), []byte(`[{"id":1},{"id":2}]`))
	f.Add([]byte(`[{"id":1},{"id":1},{"id":2}]`), []byte(`[{"id":2},{"id":1},{"id":"x"}]`))
	f.Fuzz(func(t *testing.T, asked, answered []byte) {
		calls, batch, err := engineapi.ParseCalls(asked)
		if err != nil || !batch {
			return
		}
		elements, _, err := engineapi.ParseCalls(answered)
		if err != nil {
			return
		}
		out := make([][]byte, len(calls))
		match(calls, elements, out)
		used := 0
		for i, o := range out {
			if o != nil {
				used++
				require.NotNil(t, calls[i].ID, "a notification has no answer")
			}
		}
		require.LessOrEqual(t, used, len(elements))
	})
}
