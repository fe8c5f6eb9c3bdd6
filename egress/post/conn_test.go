package post

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/egress"
	"millrace/internal/wire"
	"millrace/internal/wire/scripted"
)

const (
	yes = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
	no  = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"
)

func send(b *Poster) egress.Result {
	return b.Send(context.Background(), egress.Attempt{Order: anOrder(), Number: 1})
}

func TestAnAnswerSaysWhetherItsConnectionIsUsedAgain(t *testing.T) {
	const again, never = 1, 2
	long := strings.Repeat("x", maxAnswer)
	for name, c := range map[string]struct {
		answer  string
		last    int // the connection of the second request
		verdict egress.Verdict
		text    string
	}{
		"length":                   {yes, again, egress.Accepted, ""},
		"length nought":            {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", again, egress.Accepted, ""},
		"bare line feeds":          {"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", again, egress.Accepted, ""},
		"chunks":                   {"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", again, egress.Rejected, "http 400 abc"},
		"chunks and trailers":      {"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1\r\na\r\n0\r\nA: b\r\nC: d\r\n\r\n", again, egress.Rejected, "http 400 a"},
		"no content":               {"HTTP/1.1 204 No Content\r\n\r\n", again, egress.Accepted, ""},
		"not modified":             {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", again, egress.Busy, "http 304"},
		"continue":                 {"HTTP/1.1 100 Continue\r\n\r\n" + yes, again, egress.Accepted, ""},
		"hints":                    {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + no, again, egress.Busy, "http 503 {}"},
		"1.0 that keeps":           {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", again, egress.Accepted, ""},
		"1.0":                      {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", never, egress.Accepted, ""},
		"close":                    {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", never, egress.Accepted, ""},
		"close among others":       {"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\n{}", never, egress.Accepted, ""},
		"bytes after the answer":   {yes + "HTTP/1.1 200 OK\r\n", never, egress.Accepted, ""},
		"bytes after no content":   {"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}", never, egress.Accepted, ""},
		"another protocol":         {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", never, egress.Busy, "http 101"},
		"more than is read":        {"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + long, never, egress.Accepted, ""},
		"chunks that don't end":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + long, never, egress.Accepted, ""},
		"a chunk that is none":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", never, egress.Lost, "read answer: invalid byte in chunk length"},
		"a refusal that is cut":    {"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n", never, egress.Rejected, "http 400 a"},
		"two lengths":              {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", never, egress.Lost, "http: message cannot contain multiple Content-Length headers; got [\"2\" \"3\"]"},
		"no HTTP":                  {"SSH-2.0-x\r\n", never, egress.Lost, `malformed HTTP response "SSH-2.0-x"`},
		"an answer before a close": {"HTTP/1.1 400 No\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", never, egress.Rejected, "http 400 a"},
	} {
		t.Run(name, func(t *testing.T) {
			used := make(chan int, 2)
			b := newPoster(t, scripted.Serve(t, func(p *scripted.Conn) {
				for p.Request() != nil {
					used <- p.Number
					p.Say(c.answer)
				}
			}))
			r := send(b)
			require.Equal(t, c.verdict, r.Verdict, r.Text)
			require.Equal(t, c.text, r.Text)
			require.Equal(t, c.verdict, send(b).Verdict)
			require.Equal(t, []int{1, c.last}, []int{<-used, <-used})
		})
	}
}

func TestAnAnswerWithoutALengthEndsWithItsConnection(t *testing.T) {
	for _, head := range []string{"HTTP/1.1 404 No\r\n\r\n", "HTTP/1.0 404 No\r\n\r\n"} {
		used := make(chan int, 2)
		b := newPoster(t, scripted.Serve(t, func(p *scripted.Conn) {
			p.Request()
			used <- p.Number
			p.Say(head + "no")
			p.Say(" such path")
		}))
		require.Equal(t, "http 404 no such path", send(b).Text)
		require.Equal(t, egress.Rejected, send(b).Verdict)
		require.Equal(t, []int{1, 2}, []int{<-used, <-used})
	}
}

func TestTheHeadOfAnAnswerIsBounded(t *testing.T) {
	for _, endless := range []string{"X-A: " + strings.Repeat("b", 1000) + "\r\n", "\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n"} {
		b := newPoster(t, scripted.Serve(t, func(p *scripted.Conn) {
			p.Request()
			p.Say("HTTP/1.1 103 Early Hints\r\n")
			for {
				if _, err := io.WriteString(p, endless); err != nil {
					return
				}
			}
		}))
		r := send(b)
		require.Equal(t, egress.Lost, r.Verdict)
		require.Equal(t, "headers of the answer exceed the bound of 65536 bytes", r.Text)
		require.Zero(t, b.peer.Stats().Open)
	}
}

// One that was written and not answered is lost, and never written twice: on a new connection as on
// one that was used before.
func TestRule15ARequestIsNotRepeatedOnceItIsWritten(t *testing.T) {
	requests := make(chan int, 4)
	b := newPoster(t, scripted.Serve(t, func(p *scripted.Conn) {
		p.Request()
		requests <- p.Number
		if p.Number == 2 {
			p.Say(yes)
			p.Request()
			requests <- p.Number
		}
	}))
	for _, want := range []egress.Verdict{egress.Lost, egress.Accepted, egress.Lost} {
		r := send(b)
		require.Equal(t, want, r.Verdict, r.Text)
		require.False(t, r.FirstByte.IsZero())
	}
	require.Equal(t, []int{1, 2, 2}, []int{<-requests, <-requests, <-requests})
	require.Empty(t, requests)
}

func TestRule15ARequestThatWasNotWrittenToItsEndIsNotLost(t *testing.T) {
	begun := make(chan struct{}, 1)
	url := scripted.Serve(t, func(p *scripted.Conn) {
		_ = p.SetReadBuffer(4096)
		_, _ = p.Reader.ReadByte()
		begun <- struct{}{}
		p.Request() // too long to come before the end of the test
	})
	b := newPoster(t, url)
	b.rewire(t, url, dialing(url, func(c *net.TCPConn) { require.NoError(t, c.SetWriteBuffer(4096)) }))
	o := anOrder()
	o.Body = make([]byte, 16<<20)
	_, err := b.signer.Sign(o.Accept, FormBuilder, o.Body) // takes longer than what is to end the request
	require.NoError(t, err)
	b.cfg.Timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	for _, text := range []string{"context canceled", "context deadline exceeded"} {
		r := b.Send(ctx, egress.Attempt{Order: o, Number: 1})
		require.Equal(t, egress.Unreachable, r.Verdict)
		require.Equal(t, text, r.Text)
		require.False(t, r.FirstByte.IsZero())
		require.Zero(t, b.peer.Stats().Open)
		ctx, b.cfg.Timeout = t.Context(), 300*time.Millisecond
	}
}

// A builder may refuse an order by its headers, and hang up on the rest.
func TestARefusalIsHeardAlsoWhenItComesBeforeTheWholeRequestIsWritten(t *testing.T) {
	b := newPoster(t, scripted.Serve(t, func(p *scripted.Conn) {
		_, _ = p.Reader.ReadString('\n')
		p.Say("HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nlong")
		_ = p.SetLinger(0)
	}))
	b.cfg.Timeout = 20 * time.Second
	o := anOrder()
	o.Body = make([]byte, 16<<20)
	r := b.Send(t.Context(), egress.Attempt{Order: o, Number: 1})
	require.Equal(t, egress.Rejected, r.Verdict, r.Text)
	require.Equal(t, "http 413 long", r.Text)
	require.Zero(t, b.peer.Stats().Open, "it is not used again")
}

func TestTheEndOfTheContextEndsARequestAtOnce(t *testing.T) {
	asked := make(chan struct{}, 2)
	b := newPoster(t, scripted.Serve(t, func(p *scripted.Conn) {
		p.Request()
		asked <- struct{}{}
		p.UntilEnd()
	}))
	b.cfg.Timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan egress.Result)
	go func() { results <- b.Send(ctx, egress.Attempt{Order: anOrder(), Number: 1}) }()
	<-asked
	cancel()
	r := <-results
	require.Equal(t, egress.Lost, r.Verdict)
	require.Equal(t, "context canceled", r.Text)
	require.Equal(t, egress.Unreachable, b.Send(ctx, egress.Attempt{Order: anOrder(), Number: 1}).Verdict)

	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	r = b.Send(short, egress.Attempt{Order: anOrder(), Number: 1})
	require.Equal(t, egress.Lost, r.Verdict)
	require.Equal(t, "context deadline exceeded", r.Text)
}

// An interruption that comes too late for its own request must not hit the next one.
func TestALateInterruptionEndsNoOtherRequest(t *testing.T) {
	b := newPoster(t, scripted.Serve(t, func(p *scripted.Conn) {
		for p.Request() != nil {
			p.Say(yes)
		}
	}))
	b.cfg.Timeout = time.Minute
	for range 500 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		b.Send(ctx, egress.Attempt{Order: anOrder(), Number: 1})
		r := send(b)
		require.Equal(t, egress.Accepted, r.Verdict, r.Text)
	}
}

// hook is a clock that is looked at right before a request is written.
type hook struct{ before func() }

func (h hook) Now() time.Time {
	h.before()
	return time.Now()
}

// The builder's end of a connection may come between the last look at it and the first byte.
func TestRule15OnlyWhatWasNotWrittenAtAllIsTriedOnAnotherConnection(t *testing.T) {
	used := make(chan int, 8)
	url := scripted.Serve(t, func(p *scripted.Conn) {
		for p.Request() != nil {
			used <- p.Number
			p.Say(yes)
		}
	})
	b := newPoster(t, url)
	dials := 0
	var latest *net.TCPConn
	b.rewire(t, url, dialing(url, func(c *net.TCPConn) {
		dials++
		latest = c
	}))
	require.Equal(t, egress.Accepted, send(b).Verdict)
	cut := true
	b.clock = hook{func() {
		if cut {
			require.NoError(t, latest.CloseWrite()) // as after a reset: nothing can be written
			cut = false
		}
	}}
	r := send(b)
	require.Equal(t, egress.Accepted, r.Verdict, r.Text)
	require.Equal(t, []int{1, 2}, []int{<-used, <-used})
	require.Equal(t, 2, dials)
	require.Equal(t, wire.Stats{Open: 1, Idle: 1}, b.peer.Stats())

	c, err := b.peer.Take(t.Context(), time.Time{})
	require.NoError(t, err)
	b.peer.Drop(t.Context(), c)
	cut = true
	r = send(b)
	require.Equal(t, egress.Unreachable, r.Verdict, "a new connection that fails is the builder's fault")
	require.True(t, r.FirstByte.IsZero())
	require.Equal(t, 3, dials)
	require.Zero(t, b.peer.Stats())
}

func TestConnectionsAreAsManyAsALoopNeeds(t *testing.T) {
	c := wireConfig(8, nil)
	require.Equal(t, 8+spareConns, c.MaxConns)
	require.Less(t, c.IdleTimeout, 30*time.Second, "what builders, and our own listeners, allow")
	require.Equal(t, maxAnswer, c.MaxBody)
}
