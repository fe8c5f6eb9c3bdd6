package builder

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"
)

// keptBuffer is how much memory a connection keeps for its next request or answer; what a larger one
// needed is given back.
const keptBuffer = 64 << 10

var errLongHead = fmt.Errorf("headers of the answer exceed %d bytes", maxAnswer)

// conn is one connection to a builder. Whoever has taken it from conns is alone with it: it writes the
// request and reads the answer itself, so that no request costs a goroutine or a hand-over.
type conn struct {
	nc  net.Conn        // TCP, or TLS over tcp
	tcp net.Conn        // the connection below
	raw syscall.RawConn // of tcp
	br  *bufio.Reader

	// used: it was idle or carried a request, so the builder may have given it up since.
	used  bool
	since time.Time // idle since

	head  []byte    // the request's head; with TLS the whole request
	parts [2][]byte // what bufs points to
	bufs  net.Buffers
	body  []byte // the answer's, until the next request

	left   int  // how much may still be read of the answer's head
	intact bool // the answer was read to its end, and another request may follow

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

func newConn(nc, tcp net.Conn) (*conn, error) {
	s, ok := tcp.(syscall.Conn)
	if !ok {
		return nil, errors.New("connection without a descriptor")
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{nc: nc, tcp: tcp, raw: raw}
	c.br = bufio.NewReader(c)
	c.interrupt = func() { _ = tcp.SetDeadline(past) }
	c.look = c.peek
	return c, nil
}

// ready sets the deadline of the next request, and reports whether there may be one: the builder may
// have given up a connection that was used before, and one that is idle since idleSince is too old.
func (c *conn) ready(idleSince, deadline time.Time) bool {
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
func (c *conn) peek(fd uintptr) bool {
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
func (c *conn) mute() bool {
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

// write sends the head and the body, and returns how many bytes went out.
func (c *conn) write(body []byte) (int64, error) {
	if c.nc != c.tcp {
		// One call, so that a small request is one record.
		c.head = append(c.head, body...)
		n, err := c.nc.Write(c.head)
		if cap(c.head) > keptBuffer {
			c.head = nil
		}
		return int64(n), err
	}
	c.parts = [2][]byte{c.head, body}
	c.bufs = c.parts[:]
	n, err := c.bufs.WriteTo(c.nc)
	c.parts, c.bufs = [2][]byte{}, nil // an idle connection must not keep a body alive
	return n, err
}

// Read is for br. It bounds the head of an answer.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errLongHead
	}
	n, err := c.nc.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// answer reads the final answer. Without a response, none came, or none that makes sense; with one,
// err is what ended the reading of its body, of which no more than maxAnswer bytes are read. The body
// is valid until the next request.
func (c *conn) answer() (*http.Response, []byte, error) {
	c.left, c.intact = maxAnswer, false
	if _, err := c.br.Peek(1); err != nil {
		return nil, nil, err // io.EOF, where ReadResponse would say that it was unexpected
	}
	for {
		// It keeps to the rules for lengths, chunks and connections that net/http's own client keeps
		// to, POST being like GET there.
		res, err := http.ReadResponse(c.br, nil)
		if err != nil {
			return nil, nil, err
		}
		if code := res.StatusCode; code >= 100 && code <= 199 && code != http.StatusSwitchingProtocols {
			continue // all of them and the answer's own headers are within left
		}
		c.left = math.MaxInt
		err = c.readBody(res.Body)
		c.intact = err == nil && len(c.body) < maxAnswer && !res.Close && res.StatusCode >= 200 &&
			c.br.Buffered() == 0
		return res, c.body, err
	}
}

func (c *conn) readBody(r io.Reader) error {
	const first = 512
	b := c.body[:0]
	if cap(b) > keptBuffer/8 {
		b = nil
	}
	var err error
	for err == nil && len(b) < maxAnswer {
		b = slices.Grow(b, first)
		var n int
		n, err = r.Read(b[len(b):min(cap(b), maxAnswer)])
		b = b[:len(b)+n]
	}
	c.body = b
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// end closes it at once. What is unsent is lost, so TLS is not told: that could wait for a builder
// that does not read.
func (c *conn) end() { c.tcp.Close() }

// retire closes it while it is idle.
func (c *conn) retire() { c.nc.Close() }
