package loadtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	// idleLimit is when a connection is opened anew instead of used: servers of this trade close
	// idle connections after 30 s.
	idleLimit = 25 * time.Second
	// unusedLimit is the same for one that was opened ahead: its first request is waited for less.
	unusedLimit = 2 * time.Second
	// maxAnswer bounds what is read of an answer, bytes.
	maxAnswer = 64 << 10
)

// conn is one keep-alive HTTP/1.1 connection to the door. It writes a request in one piece and reads
// the answer on the same goroutine, so that the generator costs little beside what it measures, and
// it knows whether a failed request was written.
type conn struct {
	addr, host, path string
	timeout          time.Duration

	nc   net.Conn
	br   *bufio.Reader
	used time.Time
	idle time.Duration // how long it may have been idle
	head []byte
}

// open dials ahead of the first order. An error is left to the order, which dials again.
func (c *conn) open(ctx context.Context) {
	if c.nc == nil && c.dial(ctx) == nil {
		c.used, c.idle = time.Now(), unusedLimit
	}
}

// exchange is one answer.
type exchange struct {
	status     int
	retryAfter bool
	body       []byte
}

// do sends o and reads the answer; wrote says that the door may have got the whole request.
func (c *conn) do(ctx context.Context, o *Order) (x exchange, wrote bool, err error) {
	if c.nc != nil && time.Since(c.used) > c.idle {
		c.close()
	}
	if c.nc == nil {
		if err := c.dial(ctx); err != nil {
			return exchange{}, false, err
		}
	}
	x, wrote, err = c.roundTrip(o)
	if err != nil {
		c.close()
	}
	c.used, c.idle = time.Now(), idleLimit
	return x, wrote, err
}

func (c *conn) dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return fmt.Errorf("dial door: %w", err)
	}
	c.nc, c.br = nc, bufio.NewReaderSize(nc, 4<<10)
	return nil
}

func (c *conn) roundTrip(o *Order) (x exchange, wrote bool, err error) {
	if err := c.nc.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return exchange{}, false, fmt.Errorf("set deadline: %w", err)
	}
	h := append(c.head[:0], "POST "...)
	h = append(h, c.path...)
	h = append(h, " HTTP/1.1\r\nHost: "...)
	h = append(h, c.host...)
	h = append(h, "\r\nContent-Type: application/json\r\n"+SignatureHeader+": "...)
	h = append(h, o.Header...)
	h = append(h, "\r\nContent-Length: "...)
	h = strconv.AppendInt(h, int64(len(o.Body)), 10)
	h = append(h, "\r\n\r\n"...)
	c.head = h
	bufs := net.Buffers{h, o.Body}
	if n, err := bufs.WriteTo(c.nc); err != nil {
		// The door may refuse early and close: its answer is worth more than the write error.
		if x, rerr := c.read(); rerr == nil {
			return x, true, nil
		}
		return exchange{}, n == int64(len(h)+len(o.Body)), fmt.Errorf("write request: %w", err)
	}
	x, err = c.read()
	return x, true, err
}

func (c *conn) read() (exchange, error) {
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		return exchange{}, fmt.Errorf("read answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return exchange{}, fmt.Errorf("read answer: %w", err)
	}
	if resp.Close {
		c.close()
	}
	return exchange{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After") != "", body: body}, nil
}

func (c *conn) close() {
	if c.nc != nil {
		_ = c.nc.Close()
		c.nc, c.br = nil, nil
	}
}
