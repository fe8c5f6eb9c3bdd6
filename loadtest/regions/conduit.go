package regions

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
)

var _ io.WriteCloser = (*outlet)(nil)

// conduit is one connection through a link: the dialer's and the node's.
type conduit struct {
	client, node net.Conn
	link         *link
	broken       atomic.Bool  // both ends were closed at once
	left         atomic.Int32 // directions that have not ended
	ended        chan struct{}
}

// reset closes both ends, what is on its way is gone.
func (c *conduit) reset() {
	c.broken.Store(true) // first, so that no end is told of an orderly close of the other
	abort(c.client)
	abort(c.node)
}

// outlet is where one direction of a conduit comes out.
type outlet struct {
	conduit *conduit
	to      net.Conn
}

// Write never fails: when the reader has gone, both ends are closed and the rest is thrown away.
// Toxiproxy stops reading at an error, and what was on its way would block its goroutines for ever.
func (o *outlet) Write(b []byte) (int, error) {
	if _, err := o.to.Write(b); err != nil {
		o.conduit.reset()
	}
	return len(b), nil
}

// Close comes when everything of this direction has arrived: the reader sees the end, and may still
// answer.
func (o *outlet) Close() error {
	c := o.conduit
	if tcp, ok := o.to.(*net.TCPConn); ok && !c.broken.Load() {
		_ = tcp.CloseWrite() // it may be closed already
	}
	if c.left.Add(-1) > 0 {
		return nil
	}
	_ = c.client.Close()
	_ = c.node.Close()
	c.link.forget(c)
	close(c.ended)
	return nil
}

// jsonToxic describes a toxic that does nothing, in the library's words.
func jsonToxic(direction, name string) io.Reader {
	return strings.NewReader(`{"type":"noop","stream":"` + direction + `","name":"` + direction + name + `"}`)
}
