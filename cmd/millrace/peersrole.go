package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/egress/peers"
	"millrace/internal/bus/peerlink"
	"millrace/internal/discovery"
	"millrace/internal/lifecycle"
	"millrace/internal/order"
	"millrace/internal/retry"
)

// drainPeers is how long orders of peers that were begun may take to be stored when the node stops.
const drainPeers = 6 * time.Second

// peersRole is a node's exchange of orders with other operators: who they are, the connections to them, and one
// goroutine for each class of each peer that takes in what it sends.
type peersRole struct {
	log      *slog.Logger
	links    *peerlink.Links
	finder   *discovery.Watcher
	receiver *peers.Receiver
	pace     pace

	mu      sync.Mutex
	latest  []discovery.Peer
	changed chan struct{} // of size one: latest is new
	intakes map[string]*peerIntake
}

// preparePeers makes the links, which the embedded server has to know of when it starts.
func (p *process) preparePeers() (err error) {
	if !p.cfg.Peers.enabled() || p.roles&roleNode != roleNode {
		return nil
	}
	r := &peersRole{log: p.part("peers"), changed: make(chan struct{}, 1), intakes: map[string]*peerIntake{}}
	if r.links, err = peerlink.New(p.cfg.Peers.Link, nil, r.log, p.reg); err != nil {
		return usage(err)
	}
	p.cfg.NATS.Peering = r.links.Peering()
	p.peers = r
	return nil
}

// buildPeers makes the rest, once the server runs.
func (p *process) buildPeers() (err error) {
	r := p.peers
	if r == nil {
		return nil
	}
	rules, err := order.NewRules(p.cfg.Orders.ChainID)
	if err != nil {
		return usage(err)
	}
	r.receiver, err = peers.NewReceiver(peers.ReceiverConfig{
		Revalidate: p.cfg.Peers.Revalidate, MaxAge: p.cfg.Orders.MaxAge, MaxBody: p.cfg.Ingress.MaxBody,
		Limits: order.Limits{MaxTxs: p.cfg.Orders.MaxTxs},
	}, peers.Ports{Publisher: p.bus, Clock: p.bus, Rules: rules}, r.log, p.reg)
	if err != nil {
		return usage(err)
	}
	self := discovery.Self{Name: p.cfg.Peers.Link.Operator, Signer: p.delivery.signer.Address(), Certificate: p.cfg.Peers.certificate}
	if r.finder, err = discovery.New(p.cfg.Peers.Discovery, self, net.DefaultResolver, r.take, r.log, p.reg); err != nil {
		return usage(err)
	}
	return r.links.Open(p.bus.Server())
}

// certificate is what a hub is told that our connections show, as it is now.
func (p *Peers) certificate() string {
	b, err := os.ReadFile(p.Link.TLS.Cert)
	if err != nil {
		return "" // the listener complains
	}
	return string(b)
}

// take hears of the peers that are known.
func (r *peersRole) take(all []discovery.Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest = all
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// components: the links end last, as what was received is acknowledged over them.
func (r *peersRole) components() []lifecycle.Component {
	if r == nil {
		return nil
	}
	return []lifecycle.Component{
		{Name: "peer links", Run: r.links.Run},
		{Name: "peers", Run: r.Run, Drain: drainPeers},
	}
}

// Run follows who the peers are, until ctx ends.
func (r *peersRole) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.finder.Run(ctx) })
	g.Go(func() error {
		defer r.stopAll()
		return r.follow(ctx)
	})
	return g.Wait()
}

// follow puts each new set in force; one that can't be is tried again.
func (r *peersRole) follow(ctx context.Context) error {
	var again <-chan time.Time
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
			n = 0
		case <-again:
		}
		again = nil
		if err := r.adopt(ctx); err != nil && ctx.Err() == nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "peers are not in force yet", slog.Any("error", err))
			again = time.After(retry.Backoff(n, 500*time.Millisecond, 30*time.Second))
		}
	}
}

// adopt makes the latest set the one in force.
func (r *peersRole) adopt(ctx context.Context) error {
	r.mu.Lock()
	var linked []peerlink.Peer
	for i := range r.latest {
		if p := &r.latest[i]; leafnode(p) {
			linked = append(linked, linkedPeer(p))
		}
	}
	r.mu.Unlock()
	wanted := map[string]bool{}
	for _, p := range linked {
		wanted[p.Name] = p.URL != ""
	}
	for name, in := range r.intakes {
		if !wanted[name] {
			in.stop()
			delete(r.intakes, name)
			r.receiver.Forget(name)
		}
	}
	if err := r.links.Set(ctx, linked); err != nil {
		return err
	}
	for name, fetched := range wanted {
		if fetched && r.intakes[name] == nil {
			r.intakes[name] = r.start(ctx, name)
		}
	}
	return nil
}

// leafnode reports whether a peer is reached by leafnode.
func leafnode(p *discovery.Peer) bool { return p.Transport != discovery.HTTPS }

func linkedPeer(p *discovery.Peer) peerlink.Peer {
	l := peerlink.Peer{Name: p.Name, Pins: p.Pins}
	if p.Address != "" {
		l.URL = "tls://" + p.Address
	}
	return l
}

// peerIntake takes in what one peer sends.
type peerIntake struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (r *peersRole) start(ctx context.Context, name string) *peerIntake {
	in := &peerIntake{}
	ctx, in.cancel = context.WithCancel(ctx)
	for _, class := range order.Priorities {
		in.done.Go(func() {
			err := r.links.Receive(ctx, name, class, func(ctx context.Context, m peerlink.Message) error {
				return r.receive(ctx, name, class, &m)
			})
			if err != nil && !errors.Is(err, peerlink.ErrNoPeer) {
				r.log.LogAttrs(ctx, slog.LevelError, "nothing is taken in from a peer any more", slog.String("peer", name), slog.Any("error", err))
			}
		})
	}
	return in
}

func (in *peerIntake) stop() {
	in.cancel()
	in.done.Wait()
}

func (r *peersRole) stopAll() {
	for _, in := range r.intakes {
		in.cancel()
	}
	for _, in := range r.intakes {
		in.done.Wait()
	}
}

// receive takes one order in. What is dropped for good is as good as done: it is counted.
func (r *peersRole) receive(ctx context.Context, name string, class order.Priority, m *peerlink.Message) error {
	r.pace.count(name)
	err := r.receiver.Receive(ctx, order.Incoming{
		Peer: name, Order: m.Order, Body: m.Body, Key: class.String() + "/" + strconv.FormatUint(m.Sequence, 10),
		ArrivedAt: m.ArrivedAt, Redelivered: m.Redelivered,
	})
	if _, dropped := errors.AsType[*order.Reason](err); dropped {
		return nil
	}
	return err
}

// pace counts what came from each peer in the last seconds.
type pace struct {
	mu    sync.Mutex
	peers map[string]*[paceSeconds + 1]second
}

// paceSeconds are as many whole seconds as are looked back on.
const paceSeconds = 5

type second struct {
	of int64 // since 1970
	n  int
}

func (p *pace) count(name string) {
	now := time.Now().Unix()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.peers == nil {
		p.peers = map[string]*[paceSeconds + 1]second{}
	}
	all := p.peers[name]
	if all == nil {
		all = new([paceSeconds + 1]second)
		p.peers[name] = all
	}
	s := &all[now%(paceSeconds+1)]
	if s.of != now {
		*s = second{of: now}
	}
	s.n++
}

// of is how many came a second.
func (p *pace) of(name string) float64 {
	now := time.Now().Unix()
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.peers[name]
	if all == nil {
		return 0
	}
	n := 0
	for _, s := range all {
		if s.of < now && s.of >= now-paceSeconds {
			n += s.n
		}
	}
	return float64(n) / paceSeconds
}
