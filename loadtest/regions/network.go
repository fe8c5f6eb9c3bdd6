package regions

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// anyPort is where a link listens unless told otherwise.
const anyPort = "127.0.0.1:0"

// Network is the links of a topology.
type Network struct {
	topology Topology
	paths    map[Pair]*path
	links    map[Pair]*link // to the nodes' peer listeners
	echoes   map[Pair]*link // to our own echo, over the same paths
	echo     *echo
	done     chan struct{}
}

// New makes the links between nodes whose peer listeners are known; a node without one can dial, and
// can't be dialed.
func New(t Topology, peers map[string]string) (*Network, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	for _, node := range slices.Sorted(maps.Keys(peers)) {
		if _, ok := t.Nodes[node]; !ok {
			return nil, fmt.Errorf("%w: an address for %q, which is no node", ErrTopology, node)
		}
	}
	n := &Network{
		topology: t, paths: map[Pair]*path{}, links: map[Pair]*link{}, echoes: map[Pair]*link{},
		echo: &echo{}, done: make(chan struct{}),
	}
	for _, p := range t.Pairs() {
		n.paths[p] = newPath(t.Between(p))
	}
	for _, p := range t.Pairs() {
		var err error
		if n.echoes[p], err = newLink("echo "+p.String(), "", n.paths[p], n.paths[p.back()], n.done); err != nil {
			return nil, err
		}
		if peers[p.To] == "" {
			continue
		}
		if n.links[p], err = newLink(p.String(), peers[p.To], n.paths[p], n.paths[p.back()], n.done); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Bind opens the listeners: of the links at the given addresses, else at a port of this machine that
// is free. From then on Addr answers; Run accepts.
func (n *Network) Bind(ctx context.Context, at map[Pair]string) (err error) {
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	for p := range at {
		if n.links[p] == nil {
			return fmt.Errorf("%w: %s", ErrNoLink, p)
		}
	}
	if err := n.echo.bind(ctx); err != nil {
		return err
	}
	for _, p := range n.topology.Pairs() {
		n.echoes[p].target = n.echo.ln.Addr().String()
		if err := n.echoes[p].bind(ctx, anyPort); err != nil {
			return err
		}
		if l := n.links[p]; l != nil {
			addr := at[p]
			if addr == "" {
				addr = anyPort
			}
			if err := l.bind(ctx, addr); err != nil {
				return err
			}
		}
	}
	return nil
}

// close closes what Bind has opened so far.
func (n *Network) close() {
	for _, l := range n.all() {
		if l.ln != nil {
			_ = l.ln.Close()
		}
	}
	if n.echo.ln != nil {
		_ = n.echo.ln.Close()
	}
}

func (n *Network) all() []*link {
	return slices.AppendSeq(slices.Collect(maps.Values(n.links)), maps.Values(n.echoes))
}

// Addr is where one node finds another; empty when the other can't be dialed.
func (n *Network) Addr(p Pair) string {
	if l := n.links[p]; l != nil {
		return l.ln.Addr().String()
	}
	return ""
}

// Run carries what is sent until ctx ends. It runs once.
func (n *Network) Run(ctx context.Context) (err error) {
	labelled(ctx, func(ctx context.Context) { err = n.run(ctx) })
	return err
}

func (n *Network) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		close(n.done)
		return nil
	})
	g.Go(func() error { return n.echo.run(ctx) })
	for _, l := range n.all() {
		g.Go(func() error { return l.run(ctx) })
	}
	for p, path := range n.paths {
		if every := path.base.ResetEvery; every > 0 {
			g.Go(func() error {
				n.resets(ctx, p, every)
				return nil
			})
		}
	}
	return g.Wait()
}

// resets resets one direction's connections every so often.
func (n *Network) resets(ctx context.Context, p Pair, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			n.reset(p)
		case <-ctx.Done():
			return
		}
	}
}

// Partition holds back what goes in one direction until Heal; partitions add up.
func (n *Network) Partition(p Pair) error { return n.with(p, (*path).cut) }

// Heal ends one partition.
func (n *Network) Heal(p Pair) error { return n.with(p, (*path).heal) }

// Slow changes the conditions of one direction for what is sent from now on.
func (n *Network) Slow(p Pair, c Conditions) error {
	return n.with(p, func(path *path) { path.set(c) })
}

// Restore gives one direction the conditions of the topology again.
func (n *Network) Restore(p Pair) error { return n.with(p, (*path).restore) }

// Reset resets the connections that were dialed in one direction.
func (n *Network) Reset(p Pair) error {
	return n.with(p, func(*path) { n.reset(p) })
}

func (n *Network) reset(p Pair) {
	n.echoes[p].reset()
	if l := n.links[p]; l != nil {
		l.reset()
	}
}

func (n *Network) with(p Pair, do func(*path)) error {
	path := n.paths[p]
	if path == nil {
		return fmt.Errorf("%w: %s", ErrNoLink, p)
	}
	do(path)
	return nil
}

// Traffic is what one direction has carried up to now, our echo included.
type Traffic struct {
	Bytes int64 // whoever dialed
	// Connections are those dialed in this direction, Resets those of them that were reset.
	Connections, Resets int
}

// Traffic counts one direction; the echo's connections are left out.
func (n *Network) Traffic(p Pair) Traffic {
	t := Traffic{Bytes: n.paths[p].carried()}
	if l := n.links[p]; l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Connections, t.Resets = l.count, l.resets
	}
	return t
}

// dialEcho opens a connection to the echo over the path of a pair.
func (n *Network) dialEcho(ctx context.Context, p Pair) (net.Conn, error) {
	l := n.echoes[p]
	if l == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoLink, p)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", l.ln.Addr().String())
}
