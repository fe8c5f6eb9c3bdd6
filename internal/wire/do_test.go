package wire

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/wire/scripted"
)

// always answers every request with s.
func always(s string) func(*scripted.Conn) {
	return func(p *scripted.Conn) {
		for p.Request() != nil {
			p.Say(s)
		}
	}
}

func TestABodyIsTheCallersOwn(t *testing.T) {
	p := newPeer(t, scripted.Serve(t, always(no)))
	first, second := ask(p), ask(p)
	require.Equal(t, 503, first.Status)
	require.True(t, second.Reused)
	require.True(t, second.Began)
	copy(second.Body, "xx")
	require.Equal(t, "{}", string(first.Body))

	r := p.request(nil)
	memory := make([]byte, 7, 100)
	r.Into = memory
	require.Same(t, &memory[0], &p.call(t.Context(), r).Body[0], "in the caller's memory where it fits")
	r.Into = make([]byte, 0, 1)
	require.Equal(t, "{}", string(p.call(t.Context(), r).Body))
}

func TestABodyIsBorrowedUntilItsConnectionIsPut(t *testing.T) {
	p := newPeer(t, scripted.Serve(t, always(no)))
	var at *byte
	for range 2 {
		c, err := p.Take(t.Context(), time.Time{})
		require.NoError(t, err)
		c.Head = AppendEnd(p.head.Append(c.Head[:0], 2))
		_, err = c.Write([]byte("{}"))
		require.NoError(t, err)
		a, err := c.Answer(http.MethodPost)
		require.NoError(t, err)
		require.Equal(t, "{}", string(a.Body))
		require.True(t, c.Reusable())
		if at != nil {
			require.Same(t, at, &a.Body[0], "no memory for each of them")
		}
		at = &a.Body[0]
		p.Put(c)
	}
}

func TestAnIdleConnectionKeepsNothingLarge(t *testing.T) {
	const size = 8 << 20
	large := strings.Repeat("x", size)
	p := newPeer(t, scripted.Serve(t, always("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n"+large)), func(c *Config) { c.MaxBody = 1 << 30 })
	r := p.request([]byte(large))
	r.Head = append(r.Head[:len(r.Head)-2], ("X: " + strings.Repeat("y", 1<<17) + "\r\n\r\n")...)
	o := p.call(t.Context(), r)
	require.NoError(t, o.err)
	require.Len(t, o.Body, size)
	require.LessOrEqual(t, cap(o.Body), size+1, "taken at once")
	c := p.idle[0]
	require.Nil(t, c.Head)
	require.LessOrEqual(t, cap(c.body), keptBuffer)
	require.Nil(t, c.bufs)

	c, err := p.Take(t.Context(), time.Time{})
	require.NoError(t, err)
	c.Head = append(c.Head[:0], r.Head...)
	_, err = c.Write(r.Body)
	require.NoError(t, err)
	a, err := c.Answer(http.MethodPost)
	require.NoError(t, err)
	require.Len(t, a.Body, size)
	p.Put(c)
	require.Nil(t, c.body)
}

func TestAnAnswerThatIsTooLargeIsAnError(t *testing.T) {
	long := strings.Repeat("x", most)
	for name, answer := range map[string]string{
		"announced": "HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n",
		"chunked":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + long,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, scripted.Serve(t, always(answer)))
			o := ask(p)
			require.ErrorIs(t, o.err, ErrTooLarge)
			require.Equal(t, 200, o.Status)
			require.True(t, o.Began)
			require.Zero(t, p.Stats(), "its connection is not used again")
		})
	}
	p := newPeer(t, scripted.Serve(t, always("HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n"+long)))
	require.Equal(t, long, ask(p).text(), "as long as may be")
}

func TestTheHeadOfAnAnswerIsBounded(t *testing.T) {
	p := newPeer(t, scripted.Serve(t, always("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("y", most)+"\r\n\r\n")))
	o := ask(p)
	require.ErrorIs(t, o.err, ErrLongHead)
	require.True(t, o.Began)
	require.Zero(t, o.Status)
}

func TestAnAnswerToHEADHasNoBody(t *testing.T) {
	p := newPeer(t, scripted.Serve(t, always("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")))
	h, err := NewHead(http.MethodHead, mustParse(t, "http://x/"), nil)
	require.NoError(t, err)
	for range 2 {
		o := p.call(t.Context(), &Request{Method: http.MethodHead, Head: AppendEnd(h.Append(nil, 0))})
		require.NoError(t, o.err)
		require.Empty(t, o.Body)
		require.Equal(t, "5", o.Header.Get("Content-Length"))
	}
	require.Equal(t, Stats{Open: 1, Idle: 1}, p.Stats())
}

func TestARequestThatMayHaveBeenSeenIsNotRepeated(t *testing.T) {
	requests := make(chan int, 4)
	p := newPeer(t, scripted.Serve(t, func(s *scripted.Conn) {
		s.Request()
		requests <- s.Number
		s.Say(yes)
		s.Request()
		requests <- s.Number
	}))
	require.NoError(t, ask(p).err)
	o := ask(p)
	require.ErrorIs(t, o.err, io.EOF)
	require.True(t, o.Reused, "the caller may decide that it was not")
	require.False(t, o.Began)
	require.Positive(t, o.Bytes)
	require.Equal(t, []int{1, 1}, []int{<-requests, <-requests})
}

func TestTheCallerHearsWhenItsRequestIsWritten(t *testing.T) {
	goOn := make(chan struct{})
	p := newPeer(t, scripted.Serve(t, func(s *scripted.Conn) {
		s.Request()
		<-goOn
		s.Say(yes)
	}))
	r := p.request([]byte("{}"))
	wrote := make(chan struct{}, 2)
	r.Wrote = func() { wrote <- struct{}{} }
	done := make(chan told)
	go func() { done <- p.call(t.Context(), r) }()
	<-wrote
	close(goOn)
	require.NoError(t, (<-done).err)
	p.Close()

	gone := newPeer(t, "http://127.0.0.1:1")
	for len(wrote) > 0 {
		<-wrote
	}
	require.Error(t, gone.call(t.Context(), r).err)
	require.Len(t, wrote, 1, "or never will be")
}

func TestACallEndsWithItsContextOrItsDeadline(t *testing.T) {
	asked := make(chan struct{}, 3)
	p := newPeer(t, scripted.Serve(t, func(s *scripted.Conn) {
		s.Request()
		asked <- struct{}{}
		s.UntilEnd()
	}))
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() {
		_, _, err := p.Do(ctx, time.Time{}, p.request(nil)) // without a deadline
		done <- err
	}()
	<-asked
	cancel(io.ErrClosedPipe)
	require.ErrorIs(t, <-done, io.ErrClosedPipe, "with the cause")
	require.ErrorIs(t, p.call(ctx, p.request(nil)).err, io.ErrClosedPipe)
	// Long enough for a connection to be made, on a busy machine too.
	short, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	_, _, err := p.Do(short, time.Time{}, p.request(nil))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	p.timeout = time.Second
	require.ErrorIs(t, ask(p).err, context.DeadlineExceeded)
	require.Zero(t, p.Stats())
}

// An interruption that comes too late for its own request must not hit the next one.
func TestALateInterruptionEndsNoOtherRequest(t *testing.T) {
	p := newPeer(t, scripted.Serve(t, always(yes)))
	for range 500 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		p.call(ctx, p.request(nil))
		require.NoError(t, ask(p).err)
	}
}

func TestARefusalIsHeardAlsoWhenItComesBeforeTheWholeRequestIsWritten(t *testing.T) {
	p := newPeer(t, scripted.Serve(t, func(s *scripted.Conn) {
		_, _ = s.Reader.ReadString('\n')
		s.Say("HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nlong")
		_ = s.SetLinger(0)
	}))
	o := p.call(t.Context(), p.request(make([]byte, 16<<20)))
	require.Equal(t, 413, o.Status, o.text())
	require.Equal(t, "long", string(o.Body))
	require.Zero(t, p.Stats(), "it is not used again")
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	_, err := New(mustParse(t, "http://x"), Config{})
	for _, name := range []string{"MaxConns", "IdleTimeout", "ConnectTimeout", "MaxHead", "MaxBody"} {
		require.ErrorContains(t, err, name)
	}
	good := Config{MaxConns: 1, IdleTimeout: 1, ConnectTimeout: 1, MaxHead: 1, MaxBody: 1}
	for _, u := range []string{"ftp://x", "http:///x", "//x"} {
		_, err = New(mustParse(t, u), good)
		require.ErrorIs(t, err, ErrConfig, u)
	}
}

// The caller's configuration is completed in a copy.
func TestTLSTheCallersConfigurationIsUsed(t *testing.T) {
	var seen string
	verify := func(s tls.ConnectionState) error { seen = s.ServerName; return net.ErrClosed }
	mine := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, VerifyConnection: verify}
	p, _ := secure(t, func(http.ResponseWriter, *http.Request) {}, quietly)
	p.tls = secured(mine, "example.com")
	require.ErrorIs(t, ask(p).err, net.ErrClosed)
	require.Equal(t, "example.com", seen)
	require.Empty(t, mine.ServerName)
}
