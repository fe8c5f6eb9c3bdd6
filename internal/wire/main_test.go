package wire

import (
	"context"
	"net/http"
	"net/url"
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
