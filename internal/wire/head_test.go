package wire

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/wire/scripted"
)

func TestAHeadIsWrittenAsNetHTTPWritesIt(t *testing.T) {
	for _, method := range []string{"POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"} {
		for _, rawURL := range []string{"http://peer", "https://Peer:8645/a%2Fb/c%20d?key=1", "http://[::1]:1/", "http://bücher.example/ü?q"} {
			u := mustParse(t, rawURL)
			for _, agent := range []string{"", "millrace"} {
				constant := http.Header{"Content-Type": {"a/b"}, "User-Agent": {agent}, "X": {"1", "2"}}
				h, err := NewHead(method, u, constant)
				require.NoError(t, err)
				for _, body := range []string{"", "body"} {
					r := &http.Request{Method: method, URL: u, Host: u.Host, Header: constant, ContentLength: int64(len(body))}
					if body != "" {
						r.Body = io.NopCloser(strings.NewReader(body))
					}
					var want bytes.Buffer
					require.NoError(t, r.Write(&want))
					require.Equal(t, want.String(), string(AppendEnd(h.Append(nil, len(body))))+body)
				}
			}
		}
	}
}

func TestTheUserOfAURLBecomesBasicAuthentication(t *testing.T) {
	h, err := NewHead("POST", mustParse(t, "http://user:p%40ss@peer/"), nil)
	require.NoError(t, err)
	require.Contains(t, string(h.Append(nil, 0)), "\r\nAuthorization: Basic dXNlcjpwQHNz\r\n")
}

func TestWhatIsNoHeadIsRefusedWithoutRepeatingIt(t *testing.T) {
	_, err := NewHead("GET", mustParse(t, "http://user:secret@xn--\u00fc/"), nil)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
	_, err = NewHead("GET\n", mustParse(t, "http://x/"), nil)
	require.ErrorIs(t, err, ErrHeader)
	_, err = NewHead("GET", mustParse(t, "http://x"), http.Header{"A": {"b\nc"}})
	require.ErrorIs(t, err, ErrHeader)
}

func FuzzAppendHeader(f *testing.F) {
	for _, s := range []string{"a\tb ü", "a\r\nX: y", "a\nb", "a\x00", "a\x7f", "", " x "} {
		f.Add("Name", s)
	}
	f.Add("a b", "x")
	f.Add("a:", "x")
	f.Fuzz(func(t *testing.T, name, value string) {
		b, err := AppendHeader([]byte("GET / HTTP/1.1\r\nHost: x\r\n"), name, value)
		if err != nil {
			require.ErrorIs(t, err, ErrHeader)
			require.Equal(t, "GET / HTTP/1.1\r\nHost: x\r\n", string(b))
			return
		}
		require.Equal(t, 3, bytes.Count(b, []byte("\n")))
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(AppendEnd(b))))
		if http.CanonicalHeaderKey(name) == "Host" || http.CanonicalHeaderKey(name) == "Content-Length" || http.CanonicalHeaderKey(name) == "Transfer-Encoding" {
			return
		}
		require.NoError(t, err)
		require.Equal(t, strings.Trim(value, " \t"), r.Header.Get(name))
	})
}

func BenchmarkHead(b *testing.B) {
	h, err := NewHead("POST", mustParse(b, "http://peer:8551/"), http.Header{"Content-Type": {"application/json"}})
	require.NoError(b, err)
	token := strings.Repeat("x", 120)
	var head []byte
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		head, _ = AppendHeader(h.Append(head[:0], n), "Authorization", token)
		head = AppendEnd(head)
	}
}

// BenchmarkDo is one call after the other; the peer's side is included.
func BenchmarkDo(b *testing.B) {
	p := newPeer(b, scripted.Serve(b, func(s *scripted.Conn) {
		for s.Request() != nil {
			s.Say(yes)
		}
	}))
	r := p.request([]byte("{}"))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := p.Do(b.Context(), time.Now().Add(patience), r); err != nil {
			b.Fatal(err)
		}
	}
}
