package regions

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// dialTimeout bounds the connection to the node behind a link, which is on this machine.
const dialTimeout = 5 * time.Second

// link is one side's way to another node: a listener and its connections. We accept, dial and close
// ourselves, because toxiproxy can't reset a connection that is open already.
type link struct {
	target string
	there  *path // from who dials
	back   *path
	server *toxiproxy.ApiServer
	proxy  *toxiproxy.Proxy
	done   chan struct{} // closed when the network ends
	ln     net.Listener

	mu     sync.Mutex // guards what follows
	open   map[*conduit]struct{}
	count  int // connections ever
	resets int // connections reset
}

func newLink(name, target string, there, back *path, done chan struct{}) (*link, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{
		target: target, there: there, back: back, done: done, server: server,
		proxy: toxiproxy.NewProxy(server, name, "", target), open: map[*conduit]struct{}{},
	}
	for direction, p := range map[string]*path{"upstream": there, "downstream": back} {
		if err := l.chain(direction, &pace{p, done}, 0); err != nil {
			return nil, err
		}
		if err := l.chain(direction, &flight{p, done}, flightBuffer); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// chain adds a toxic. It takes the place of one of the library's, because those are made from JSON,
// which can't carry a path; there is no connection yet that could have seen the other.
func (l *link) chain(direction string, t toxics.Toxic, buffer int) error {
	w, err := l.proxy.Toxics.AddToxicJson(jsonToxic(direction, fmt.Sprintf("%T", t)))
	if err != nil {
		return fmt.Errorf("link %s: %w", l.proxy.Name, err)
	}
	w.Toxic, w.BufferSize = t, buffer
	return nil
}

// bind opens the listener.
func (l *link) bind(ctx context.Context, addr string) (err error) {
	var lc net.ListenConfig
	if l.ln, err = lc.Listen(ctx, "tcp", addr); err != nil {
		return fmt.Errorf("link %s: %w", l.proxy.Name, err)
	}
	return nil
}

// run accepts until ctx ends, then closes everything and waits for it.
func (l *link) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		_ = l.ln.Close()
		l.reset()
		return nil
	})
	for n := 0; ; n++ {
		c, err := l.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			wait(time.Millisecond, ctx.Done()) // out of descriptors, or the dialer has gone again
			continue
		}
		g.Go(func() error {
			l.serve(ctx, strconv.Itoa(n), c)
			return nil
		})
	}
	return g.Wait()
}

// serve joins one connection to the node behind the link. What is dialed in a partition hangs as long
// as it does.
func (l *link) serve(ctx context.Context, name string, client net.Conn) {
	select {
	case <-l.there.gate():
	case <-ctx.Done():
	}
	d := net.Dialer{Timeout: dialTimeout}
	node, err := d.DialContext(ctx, "tcp", l.target)
	if err != nil {
		abort(client) // nobody listens: that is what the dialer is to see
		return
	}
	c := &conduit{client: client, node: node, link: l, ended: make(chan struct{})}
	c.left.Store(2)
	l.mu.Lock()
	l.open[c] = struct{}{}
	l.count++
	l.mu.Unlock()
	l.proxy.Toxics.StartLink(l.server, name+"upstream", client, &outlet{c, node}, stream.Upstream)
	l.proxy.Toxics.StartLink(l.server, name+"downstream", node, &outlet{c, client}, stream.Downstream)
	if ctx.Err() != nil {
		c.reset() // what came in while the others were closed
	}
	<-c.ended
}

// reset resets all connections that are open.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		c.reset()
	}
	l.resets += len(l.open)
}

func (l *link) forget(c *conduit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

// abort closes with a reset instead of an end.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else the end is orderly, which is no reset
	}
	_ = c.Close()
}
