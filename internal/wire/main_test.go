package wire

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// most is the bound of an answer in the tests, of its head and of its body.
const most = 64 << 10

func mustParse(tb testing.TB, s string) *url.URL {
	tb.Helper()
	u, err := url.Parse(s)
	require.NoError(tb, err)
	return u
}

// peered is a peer, and what it is asked with.
type peered struct {
	*Peer
	head    *Head
	timeout time.Duration
}

func newPeer(tb testing.TB, rawURL string, changes ...func(*Config)) *peered {
	tb.Helper()
	cfg := Config{
		MaxConns: 8, IdleTimeout: 28 * time.Second, ConnectTimeout: 800 * time.Millisecond, MaxHead: most, MaxBody: most,
	}
	for _, change := range changes {
		change(&cfg)
	}
	u := mustParse(tb, rawURL)
	p, err := New(u, cfg)
	require.NoError(tb, err)
	tb.Cleanup(p.Close)
	h, err := NewHead(http.MethodPost, u, http.Header{"Content-Type": {"application/json"}})
	require.NoError(tb, err)
	return &peered{Peer: p, head: h, timeout: time.Minute}
}

// told is what came of a call.
type told struct {
	Answer
	Sent
	err error
}

// text is the error's, or the body.
func (o told) text() string {
	if o.err != nil {
		return o.err.Error()
	}
	return string(o.Body)
}

func (p *peered) request(body []byte) *Request {
	return &Request{Method: http.MethodPost, Head: AppendEnd(p.head.Append(nil, len(body))), Body: body}
}

func (p *peered) call(ctx context.Context, r *Request) told {
	a, s, err := p.Do(ctx, time.Now().Add(p.timeout), r)
	return told{a, s, err}
}

func ask(p *peered) told { return p.call(context.Background(), p.request([]byte("{}"))) }

const (
	yes = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
	no  = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"
)

// player is one accepted connection of a peer that is written by hand.
type player struct {
	*net.TCPConn
	br *bufio.Reader
	// number counts the connections from 1.
	number int
}

// request reads one whole request, nil at the end of the connection.
func (p *player) request() *http.Request {
	r, err := http.ReadRequest(p.br)
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r
}

func (p *player) say(s string) { _, _ = io.WriteString(p, s) }

// untilEnd reads until the other side closes.
func (p *player) untilEnd() { _, _ = io.Copy(io.Discard, p) }

// scripted is a server of which each connection runs play, and is closed after it.
func scripted(tb testing.TB, play func(p *player)) (url string) {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	var mu sync.Mutex
	var all []net.Conn
	var playing sync.WaitGroup
	playing.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			playing.Go(func() {
				defer c.Close()
				play(&player{TCPConn: c.(*net.TCPConn), br: bufio.NewReader(c), number: n})
			})
		}
	})
	tb.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range all {
			c.Close()
		}
		mu.Unlock()
		playing.Wait()
	})
	return "http://" + l.Addr().String()
}
