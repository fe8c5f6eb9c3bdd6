package post

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/egress"
	"millrace/internal/order"
)

// theirs is the same request as net/http writes it.
func theirs(t *testing.T, rawURL string, a egress.Attempt, signature string, now time.Time) string {
	t.Helper()
	u, err := ParseURL(rawURL)
	require.NoError(t, err)
	h := http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {"millrace"},
		HeaderPriority: {a.Order.Priority.String()}, HeaderSentAt: {strconv.FormatInt(now.UnixMicro(), 10)}, HeaderSignature: {signature},
	}
	if a.Repeat || a.Number > 1 {
		h[HeaderRepeat] = []string{"1"}
	}
	if a.Order.Traceparent != "" {
		h["Traceparent"] = []string{a.Order.Traceparent}
	}
	if u.User != nil {
		password, _ := u.User.Password()
		h["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))}
	}
	r := &http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, Header: h,
		ContentLength: int64(len(a.Order.Body)), Body: io.NopCloser(bytes.NewReader(a.Order.Body)),
	}
	var b bytes.Buffer
	require.NoError(t, r.Write(&b))
	return b.String()
}

func TestARequestIsWrittenAsNetHTTPWritesIt(t *testing.T) {
	plain, bare := anOrder(), anOrder()
	bare.Traceparent, bare.Priority, bare.Body = "", order.PriorityLow, bytes.Repeat([]byte("x"), 12345)
	now := time.Now()
	for _, url := range []string{
		"http://builder", "http://Builder:8645", "https://builder/", "https://user:p%40ss@builder/a%2Fb/c%20d?key=1&x=%0a", "http://builder?q",
		"http://user@builder/rpc", "http://:p@builder/rpc", "http://[::1]:8645/rpc", "http://[fe80::1%25eth0]/rpc", "http://bücher.example:1/ü",
		"http://builder/#fragment", "http://builder//x", "http://builder:/x",
	} {
		u, err := ParseURL(url)
		require.NoError(t, err)
		h, err := newHead(u)
		require.NoError(t, err)
		for _, a := range []egress.Attempt{{Order: plain, Number: 1}, {Order: bare, Number: 1, Repeat: true}, {Order: bare, Number: 2}} {
			ours := string(h.append(nil, a, "0x1:0x2", now)) + string(a.Order.Body)
			require.Equal(t, theirs(t, url, a, "0x1:0x2", now), ours)
		}
	}
	u, err := ParseURL("http://builder")
	require.NoError(t, err)
	h, err := newHead(u)
	require.NoError(t, err)
	b := h.append(make([]byte, 0, 1024), egress.Attempt{Order: plain, Number: 2}, "0x1:0x2", now)
	require.Zero(t, testing.AllocsPerRun(100, func() { b = h.append(b[:0], egress.Attempt{Order: plain, Number: 2}, "0x1:0x2", now) }))
}

func TestAHostThatIsNoneIsRefusedAtTheStart(t *testing.T) {
	s, err := NewSigner("")
	require.NoError(t, err)
	u, err := ParseURL("http://user:secret@xn--\u00fc/")
	require.NoError(t, err)
	_, err = New(Config{URL: u, Timeout: time.Second, InFlight: 1}, s, wallClock{})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
}

func TestWhatWouldEndAHeaderIsNotSent(t *testing.T) {
	for _, tp := range []string{"a\r\nX: y", "a\nb", "a\x00", "a\x7f"} {
		b := newPoster(t, "http://127.0.0.1:1")
		o := anOrder()
		o.Traceparent = tp
		r := b.Send(t.Context(), egress.Attempt{Order: o, Number: 1})
		require.Equal(t, egress.Unreachable, r.Verdict)
		require.Equal(t, errTraceparent.Error(), r.Text)
		require.Zero(t, b.peer.Stats().Open)
	}
}
