package replay

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
)

// door is a Door to a server that answers by f.
func door(tb testing.TB, mark string, f http.HandlerFunc) *Door {
	tb.Helper()
	s := httptest.NewServer(f)
	tb.Cleanup(s.Close)
	d, err := NewDoor(s.URL, mark, 0)
	require.NoError(tb, err)
	tb.Cleanup(d.Close)
	return d
}

func TestDoorGetsTheSendersBytesAndSignature(t *testing.T) {
	o := plain(t, 1, 0).Order
	o.Signature = "X-Buildernet-Signature: 0xab:0xcd"
	d := door(t, "", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) == string(o.Body) && r.Header.Get("X-Buildernet-Signature") == "0xab:0xcd" &&
			r.Header.Get(HeaderSignature) == "" && r.Header.Get(HeaderMark) == "" {
			_, _ = io.WriteString(w, `{"id":1,"jsonrpc":"2.0","result":{"bundleHash":"`+common.Hash{5}.Hex()+`","receivedTimestampMs":1.5}}`)
		}
	})
	require.NoError(t, d.Probe(t.Context()))
	require.Equal(t, Answer{Outcome: Accepted, Hash: common.Hash{5}}, d.Send(t.Context(), Request{Order: o}))
}

func TestAnswersOfADoor(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   Answer
	}{
		{200, `{"result":"` + common.Hash{7}.Hex() + `"}`, Answer{Outcome: Accepted, Hash: common.Hash{7}}},
		{200, `{"result":null}`, Answer{Outcome: Accepted}},
		{400, `{"error":{"code":-32602,"message":"Invalid params","data":"intrinsic gas too low"}}`, Answer{Outcome: Refused, Reason: "intrinsic gas too low"}},
		{400, `{"error":{"code":-32603,"message":"Invalid signature","data":"high s"}}`, Answer{Outcome: Refused, Reason: "Invalid signature: high s"}},
		{404, `{"error":{"code":-32601,"message":"Method not found: x"}}`, Answer{Outcome: Refused, Reason: "Method not found: x"}},
		{429, `{"error":{"code":-32603,"message":"Rate limited"}}`, Answer{Outcome: Busy, Reason: "Rate limited", RetryAfter: time.Second}},
		{503, `{"error":{"code":-32603,"message":"Overloaded"}}`, Answer{Outcome: Busy, Reason: "Overloaded", RetryAfter: time.Second}},
		{200, `{"error":{"code":-32603,"message":"Overloaded"}}`, Answer{Outcome: Busy, Reason: "Overloaded", RetryAfter: time.Second}},
		{502, `<html>`, Answer{Outcome: Busy, Reason: "http 502 without an answer", RetryAfter: time.Second}},
		{403, `{"error":{"code":-32603,"message":"Invalid replay credential"}}`, Answer{Outcome: Lost, Reason: "Invalid replay credential"}},
		{500, ``, Answer{Outcome: Lost, Reason: "http 500 without an answer"}},
		{413, `length limit exceeded`, Answer{Outcome: Lost, Reason: "http 413 without an answer"}},
		{302, `{}`, Answer{Outcome: Lost, Reason: "http 302"}},
	} {
		d := door(t, "", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		require.Equal(t, c.want, d.Send(t.Context(), Request{Order: plain(t, 1, 0).Order}), c.body)
	}
	require.Equal(t, maxRetryAfter, retryAfter("3600"))
	require.Zero(t, retryAfter("Fri, 31 Dec 1999 23:59:59 GMT"))
}

func TestADoorThatIsNotThereIsALoss(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	d, err := NewDoor(s.URL, "", 1)
	require.NoError(t, err)
	require.Equal(t, Answer{Outcome: Lost, Reason: "no connection"}, d.Send(t.Context(), Request{Order: plain(t, 1, 0).Order}))
	cut := door(t, "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	require.Equal(t, Answer{Outcome: Lost, Reason: "connection lost"}, cut.Send(t.Context(), Request{Order: plain(t, 1, 0).Order}))
	for _, bad := range []string{"", "ftp://x", "http://", "127.0.0.1:80"} {
		_, err := NewDoor(bad, "", 1)
		require.ErrorIs(t, err, ErrConfig, bad)
	}
}

// With a credential nothing may go out before the door has said that it marks what it gets.
func TestRule20ADoorThatDoesNotMarkGetsNothing(t *testing.T) {
	live := door(t, "secret", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"result":null}`) })
	require.ErrorIs(t, live.Probe(t.Context()), ErrUnmarked)
	require.Equal(t, Lost, live.Send(t.Context(), Request{Order: plain(t, 1, 0).Order}).Outcome)

	closed := door(t, "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	require.ErrorIs(t, closed.Probe(t.Context()), ErrForbidden)

	marking := door(t, "secret", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(HeaderMark) == "secret" {
			w.Header().Set(HeaderMark, MarkAccepted)
		}
		_, _ = io.WriteString(w, `{"result":null}`)
	})
	require.NoError(t, marking.Probe(t.Context()))
	require.Equal(t, Accepted, marking.Send(t.Context(), Request{Order: plain(t, 1, 0).Order}).Outcome)
}

func FuzzJudge(f *testing.F) {
	f.Add(200, []byte(`{"result":{"bundleHash":"0x00"}}`))
	f.Add(400, []byte(`{"error":{"code":-32602,"message":"Invalid params","data":"x"}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a := judge(status, body)
		require.NotZero(t, a.Outcome)
		require.True(t, a.Outcome == Accepted || a.Reason != "" || bytes.Contains(body, []byte("error")))
		require.LessOrEqual(t, len(printable(a.Reason)), 3*maxReason)
	})
}

func TestReportIsReadableForPeopleAndPrograms(t *testing.T) {
	rep := run(t, Config{}, tape{plain(t, 1, 0), plain(t, 2, time.Second)}, &target{})
	var text, data bytes.Buffer
	require.NoError(t, rep.WriteText(&text))
	for _, part := range []string{"2 read, 2 chosen", "accepted     2", "lost         0", "eth_sendBundle 2", "medium 2"} {
		require.Contains(t, text.String(), part)
	}
	require.NoError(t, rep.WriteJSON(&data))
	var back Report
	require.NoError(t, json.Unmarshal(data.Bytes(), &back))
	require.Equal(t, rep.Counts, back.Counts)
}
