package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/sync/errgroup"

	"millrace/egress/peers"
	system "millrace/ingress/peers"
	"millrace/internal/bus/peerlink"
	"millrace/internal/discovery"
	"millrace/internal/lifecycle"
	"millrace/internal/order"
	"millrace/internal/retry"
)

// drainPeers is how long orders of peers that were begun may take to be stored when the node stops.
const drainPeers = 6 * time.Second

// peersRole is a node's exchange of orders with other operators: who they are, the connections to them, one
// goroutine for each class of each peer that takes in what it sends, and the door for peers of other networks.
type peersRole struct {
	cfg      *Peers
	log      *slog.Logger
	links    *peerlink.Links // nil: no leafnodes
	finder   *discovery.Watcher
	receiver *peers.Receiver
	door     *system.Door // nil: closed
	delivery *delivery
	forms    *peers.Forms
	pace     pace

	mu      sync.Mutex
	latest  []discovery.Peer
	changed chan struct{} // of size one: latest is new
	signers map[common.Address]string

	// Of the goroutine that follows.
	intakes map[string]*peerIntake
	posted  []peers.Target
}

// preparePeers makes the links, which the embedded server has to know of when it starts.
func (p *process) preparePeers() (err error) {
	if !p.cfg.Peers.enabled() || p.roles&roleNode != roleNode {
		return nil
	}
	r := &peersRole{cfg: &p.cfg.Peers, log: p.part("peers"), changed: make(chan struct{}, 1), intakes: map[string]*peerIntake{}}
	p.peers = r
	if !r.cfg.Link.Enabled() {
		return nil
	}
	if r.links, err = peerlink.New(r.cfg.Link, nil, r.log, p.reg); err != nil {
		return usage(err)
	}
	p.cfg.NATS.Peering = r.links.Peering()
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
	limits := order.Limits{MaxTxs: p.cfg.Orders.MaxTxs}
	r.delivery, r.forms = p.delivery, peers.NewForms(limits)
	r.receiver, err = peers.NewReceiver(peers.ReceiverConfig{
		Revalidate: r.cfg.Revalidate, MaxAge: p.cfg.Orders.MaxAge, MaxBody: p.cfg.Ingress.MaxBody, Limits: limits,
	}, peers.Ports{Publisher: p.bus, Clock: p.bus, Rules: rules}, r.log, p.reg)
	if err != nil {
		return usage(err)
	}
	own := p.delivery.signer.Address()
	self := discovery.Self{Name: r.cfg.Link.Operator, Signer: own, Certificate: r.cfg.certificate}
	if r.finder, err = discovery.New(r.cfg.Discovery, self, net.DefaultResolver, r.take, r.log, p.reg); err != nil {
		return usage(err)
	}
	if r.cfg.System.Listen != "" {
		r.cfg.System.Own = own
		r.door, err = system.New(r.cfg.System, system.Ports{Peers: r, Receiver: r.receiver, Clock: p.bus, Guard: p.bus}, p.part("system"), p.reg)
		if err != nil {
			return usage(err)
		}
	}
	if r.links == nil {
		return nil
	}
	return r.links.Open(p.bus.Embedded())
}

// certificate is what a hub is told that our connections show, as it is now.
func (p *Peers) certificate() string {
	file := p.System.TLS.Cert
	if file == "" {
		file = p.Link.TLS.Cert
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "" // the listener complains
	}
	return string(b)
}

// BySigner is the peer that signs with an address.
func (r *peersRole) BySigner(a common.Address) (name string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, ok = r.signers[a]
	return name, ok
}

// take hears of the peers that are known.
func (r *peersRole) take(all []discovery.Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest, r.signers = all, map[common.Address]string{}
	for i := range all {
		if s := all[i].Signer; s != (common.Address{}) {
			r.signers[s] = all[i].Name
		}
	}
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
	var cs []lifecycle.Component
	if r.links != nil {
		cs = append(cs, lifecycle.Component{Name: "peer links", Run: r.links.Run})
	}
	cs = append(cs, lifecycle.Component{Name: "peers", Run: r.Run, Drain: drainPeers})
	if r.door != nil {
		cs = append(cs, lifecycle.Component{
			Name: "system door", Run: r.door.Run, Drain: r.cfg.System.DrainDelay + r.cfg.System.DrainTimeout + drainMargin,
		})
	}
	return cs
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

// adopt makes the latest set the one in force. What stands in the way of one transport does not keep the other waiting.
func (r *peersRole) adopt(ctx context.Context) error {
	var linked []peerlink.Peer
	var posted []peers.Target
	r.mu.Lock()
	for i := range r.latest {
		switch p := &r.latest[i]; {
		case r.cfg.leafnode(p):
			linked = append(linked, linkedPeer(p))
		case p.Address != "":
			posted = append(posted, postedPeer(p))
		}
	}
	r.mu.Unlock()
	return errors.Join(r.link(ctx, linked), r.post(posted))
}

// link makes these the peers that are reached by leafnode.
func (r *peersRole) link(ctx context.Context, linked []peerlink.Peer) error {
	if r.links == nil {
		if len(linked) > 0 {
			return fmt.Errorf("%w: %s", errNoLinks, linked[0].Name)
		}
		return nil
	}
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
	set := r.links.Set
	if !r.finder.Complete() {
		set = r.links.SetKnown
	}
	if err := set(ctx, linked); err != nil {
		return err
	}
	for name, fetched := range wanted {
		if fetched && r.intakes[name] == nil {
			r.intakes[name] = r.start(ctx, name)
		}
	}
	return nil
}

var errNoLinks = errors.New("peers.name and a certificate are needed to reach a peer by leafnode")

// post makes these the peers that get our orders over HTTPS, as targets beside the builders. What one that is gone is
// still owed is recorded as target_removed.
func (r *peersRole) post(posted []peers.Target) error {
	if slices.Equal(posted, r.posted) {
		return nil
	}
	to, faults := peers.Destinations(posted, r.forms, r.delivery.signer, r.delivery.clock, r.delivery.inFlight)
	if err := r.delivery.also(to); err != nil {
		return errors.Join(err, faults)
	}
	r.posted = posted
	return faults
}

func linkedPeer(p *discovery.Peer) peerlink.Peer {
	l := peerlink.Peer{Name: p.Name, Pins: p.Pins}
	if p.Address != "" {
		l.URL = "tls://" + p.Address
	}
	return l
}

func postedPeer(p *discovery.Peer) peers.Target {
	t := peers.Target{Name: p.Name, URL: "https://" + p.Address, Certificate: p.Certificate, DNSName: p.DNSName}
	if p.Signer != (common.Address{}) {
		t.Identity = p.Signer.Hex()
	}
	return t
}

// peerIntake takes in what one peer sends.
type peerIntake struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (r *peersRole) start(ctx context.Context, name string) *peerIntake {
	in := &peerIntake{}
	r.receiver.Know(name)
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
		ArrivedAt: m.ArrivedAt, SentAt: m.SentAt, Redelivered: m.Redelivered,
	})
	if _, dropped := errors.AsType[*order.Reason](err); dropped {
		return nil
	}
	return err
}
