package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	// keptBuffer is how much memory an idle connection keeps for its next request, and for its answer; what
	// larger ones needed is given back.
	keptBuffer = 64 << 10
	// trustedLength is up to which announced length memory for a body is taken at once, bytes. What announces
	// more has to send it.
	trustedLength = 32 << 20
)

// Errors of an answer.
var (
	// ErrTooLarge means that an answer's body exceeds Config.MaxBody.
	ErrTooLarge = errors.New("the answer is too large")
	// ErrLongHead means that its headers exceed Config.MaxHead.
	ErrLongHead = errors.New("headers of the answer exceed the bound")
)

// Conn is one connection to a peer. Whoever has taken it is alone with it: it writes the request and reads the
// answer itself, so that no request costs a goroutine or a hand-over.
type Conn struct {
	// Head is the memory for the head of the next request: make it here (Head.Append), then Write.
	Head []byte

	cfg *Config
	nc  net.Conn        // TCP, or TLS over tcp
	tcp net.Conn        // the connection below
	raw syscall.RawConn // of tcp
	br  *bufio.Reader

	// used: it was idle or carried a request, so the peer may have given it up since.
	used  bool
	since time.Time // idle since

	parts [2][]byte // what bufs points to
	bufs  net.Buffers
	body  []byte // the answer's, until the next request

	left   int  // how much may still be read of the answer's head
	began  bool // a byte of the answer came
	intact bool // it was read to its end, and another request may follow

	interrupt func() // ends what is being read or written; like look set once, as closures are garbage
	look      func(fd uintptr) bool
	seen      [1]byte
	came      arrival
}

// arrival is what came on an idle connection.
type arrival uint8

const (
	silence arrival = iota + 1
	something
	theEnd
)

// past is a deadline that has passed.
var past = time.Unix(1, 0) //nolint:gochecknoglobals // a constant

func newConn(nc, tcp net.Conn, cfg *Config) (*Conn, error) {
	s, ok := tcp.(syscall.Conn)
	if !ok {
		return nil, errors.New("connection without a descriptor")
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{cfg: cfg, nc: nc, tcp: tcp, raw: raw}
	c.br = bufio.NewReader(c)
	c.interrupt = func() { _ = tcp.SetDeadline(past) }
	c.look = c.peek
	return c, nil
}

// ready sets the deadline of the next request, and reports whether there may be one: the peer may have
// given up a connection that was used before, and one that is idle since idleSince is too old.
func (c *Conn) ready(idleSince, deadline time.Time) bool {
	if c.nc.SetDeadline(deadline) != nil {
		return false
	}
	if !c.used {
		return true
	}
	if !c.since.After(idleSince) {
		return false
	}
	c.came = theEnd
	if c.raw.Read(c.look) != nil || c.came == theEnd {
		return false
	}
	if c.nc == c.tcp {
		return c.came == silence
	}
	return c.mute() && c.nc.SetDeadline(deadline) == nil
}

// peek looks for what came without being asked for: the end, or bytes that must not be taken for the
// answer to the next request. The descriptor is non-blocking, so this is one system call.
func (c *Conn) peek(fd uintptr) bool {
	n, _, err := syscall.Recvfrom(int(fd), c.seen[:], syscall.MSG_PEEK)
	for errors.Is(err, syscall.EINTR) {
		n, _, err = syscall.Recvfrom(int(fd), c.seen[:], syscall.MSG_PEEK)
	}
	switch {
	case errors.Is(err, syscall.EAGAIN):
		c.came = silence
	case err == nil && n > 0:
		c.came = something
	default:
		c.came = theEnd
	}
	return true // whatever it is, don't wait for more
}

// mute reports whether nothing but TLS's own messages, tickets mostly, came on an idle connection. TLS
// may also have read ahead, so it is asked in any case; without bytes below it does not wait.
func (c *Conn) mute() bool {
	const toRead = time.Millisecond // they are here already
	until := past
	if c.came == something {
		until = time.Now().Add(toRead)
	}
	if c.nc.SetReadDeadline(until) != nil {
		return false
	}
	n, err := c.nc.Read(c.seen[:])
	return n == 0 && isTimeout(err)
}

// Write sends Head and the body, in one system call where that is possible, and returns how many bytes went out.
func (c *Conn) Write(body []byte) (int64, error) {
	if c.nc != c.tcp {
		// One call, so that a small request is one record.
		c.Head = append(c.Head, body...)
		n, err := c.nc.Write(c.Head)
		return int64(n), err
	}
	c.parts = [2][]byte{c.Head, body}
	c.bufs = c.parts[:]
	n, err := c.bufs.WriteTo(c.nc)
	c.parts, c.bufs = [2][]byte{}, nil // an idle connection must not keep a body alive
	return n, err
}

// Read is for br. It bounds the head of an answer.
func (c *Conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("%w of %d bytes", ErrLongHead, c.cfg.MaxHead)
	}
	n, err := c.nc.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// Answer is what came back. Status is 0 when none came, or none that makes sense.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Answer reads the final answer to a request of that method. With a status, err is what ended the reading of
// its body; ErrTooLarge comes with the first MaxBody bytes. The body is borrowed: it is valid until Put.
func (c *Conn) Answer(method string) (Answer, error) {
	res, err := c.answerHead(method) //nolint:bodyclose // Close would read an endless body to its end
	if err != nil {
		return Answer{}, err
	}
	b := c.body[:0]
	if cap(b) > keptBuffer/8 {
		b = nil
	}
	c.body, err = c.readBody(res, b)
	return Answer{Status: res.StatusCode, Header: res.Header, Body: c.body}, err
}

// AnswerInto is Answer with a body that is the caller's: in the memory of b, whose content is overwritten,
// or, where b is too small, in fresh memory. A body that is announced as too large is not read.
func (c *Conn) AnswerInto(method string, b []byte) (Answer, error) {
	res, err := c.answerHead(method) //nolint:bodyclose // Close would read an endless body to its end
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Status: res.StatusCode, Header: res.Header, Body: b[:0]}
	if res.ContentLength > int64(c.cfg.MaxBody) {
		return a, ErrTooLarge
	}
	if n := int(min(res.ContentLength, trustedLength)); n >= cap(b) {
		a.Body = make([]byte, 0, n+1) // one more, so that the end is seen without growing
	}
	a.Body, err = c.readBody(res, a.Body)
	return a, err
}

// answerHead reads answers up to the final one's headers.
func (c *Conn) answerHead(method string) (*http.Response, error) {
	c.left, c.intact, c.began = c.cfg.MaxHead, false, false
	if _, err := c.br.Peek(1); err != nil {
		return nil, err // io.EOF, where ReadResponse would say that it was unexpected
	}
	c.began = true
	for {
		// It keeps to the rules for lengths, chunks and connections that net/http's own client keeps to.
		res, err := http.ReadResponse(c.br, question(method))
		if err != nil {
			return nil, err
		}
		if code := res.StatusCode; code < 100 || code > 199 || code == http.StatusSwitchingProtocols {
			c.left = math.MaxInt
			return res, nil
		}
		// All of them and the answer's own headers are within left.
	}
}

// question is what net/http has to know of a request; most are like GET to it, which is nil.
func question(method string) *http.Request {
	switch method {
	case http.MethodPost, http.MethodGet, http.MethodOptions:
		return nil
	}
	return &http.Request{Method: method}
}

// readBody reads the body behind what is in b.
func (c *Conn) readBody(res *http.Response, b []byte) ([]byte, error) {
	const first = 512
	most := c.cfg.MaxBody
	var err error
	for err == nil && len(b) < most {
		if len(b) == cap(b) {
			b = slices.Grow(b, first)
		}
		var n int
		n, err = res.Body.Read(b[len(b):min(cap(b), most)])
		b = b[:len(b)+n]
	}
	switch {
	case err == nil:
		return b, ErrTooLarge
	case !errors.Is(err, io.EOF):
		return b, err
	}
	c.intact = !res.Close && res.StatusCode >= 200 && c.br.Buffered() == 0
	return b, nil
}

// Reusable says that the last answer was read to its end and that another request may follow it.
func (c *Conn) Reusable() bool { return c.intact }

// Used says that the connection was idle or carried a request, so that the peer may have given it up.
func (c *Conn) Used() bool { return c.used }

// Watch has the end of ctx end what is being read or written on c. When stop returns false that has begun, and may
// come at any time, also to the next request: the connection must be dropped.
func (c *Conn) Watch(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, c.interrupt)
}

// rest lets go of what an idle connection needs not keep.
func (c *Conn) rest() {
	c.used = true
	if cap(c.Head) > keptBuffer {
		c.Head = nil
	}
	if cap(c.body) > keptBuffer {
		c.body = nil
	}
}

// end closes it at once. What is unsent is lost, so TLS is not told: that could wait for a peer that does
// not read.
func (c *Conn) end() { c.tcp.Close() }

// retire closes it while it is idle.
func (c *Conn) retire() { c.nc.Close() }

// Plainly says what a connection's deadline stands for: the end of ctx, or of the time that one request has.
func Plainly(ctx context.Context, err error) error {
	switch {
	case !isTimeout(err):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return context.DeadlineExceeded
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
