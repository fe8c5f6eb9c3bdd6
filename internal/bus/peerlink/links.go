package peerlink

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/bus/embedded"
	"millrace/internal/certificate"
	"millrace/internal/order"
)

const (
	dialTimeout = 5 * time.Second // to a peer, whose answer may take a second or two
	// setTimeout bounds what Set asks the bus.
	setTimeout = 30 * time.Second
)

// Links are this operator's connections to its peers. New makes them, Peering goes into the server's
// configuration, Open connects them to the running server, Set says who the peers are, and Run watches over
// them. It is safe for concurrent use.
type Links struct {
	cfg   Config
	log   *slog.Logger
	m     *metrics
	cert  *certificate.Pair
	trust *trust

	setMu   sync.Mutex // held by Set
	applied string     // what the server was given last

	mu     sync.Mutex
	server *embedded.Server
	conns  []*nats.Conn
	orders jetstream.JetStream // account ORDERS; nil: not open
	lane   map[lane]jetstream.JetStream
	peers  map[string]*peer

	receivedUntil map[string]time.Time // by stream
}

// peer is one of them, with what is known of it.
type peer struct {
	Peer
	state   State
	watches map[string]*watch // by what they watch
	sources map[order.Priority]*source
}

// New reads certificate and authorities; it opens nothing. V may be nil. Reg gets the millrace_peers_… series.
func New(cfg Config, v Verifier, log *slog.Logger, reg prometheus.Registerer) (*Links, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if !cfg.Enabled() {
		return nil, fmt.Errorf("%w: no operator's name", ErrConfig)
	}
	l := &Links{cfg: cfg, log: log, m: newMetrics(reg), peers: map[string]*peer{}, lane: map[lane]jetstream.JetStream{}, receivedUntil: map[string]time.Time{}}
	l.cert = certificate.New("certificate for peers", "key of certificate for peers", l.certificateChanged)
	if err := l.cert.Load(cfg.TLS.Cert, cfg.TLS.Key); err != nil {
		return nil, err
	}
	var err error
	l.trust, err = newTrust(cfg.TLS.CA, v, func(reason string) { l.m.refused.WithLabelValues(reason).Inc() })
	return l, err
}

// Peering is what the embedded server has to be started with.
func (l *Links) Peering() *embedded.Peering {
	p := &embedded.Peering{
		Domain: l.cfg.Operator, Listen: l.cfg.Listen, Compression: l.compression(), Ping: l.cfg.Ping, Admit: l.admit,
	}
	if l.cfg.Listen != "" {
		p.TLS = l.acceptTLS()
	}
	return p
}

func (l *Links) compression() string {
	if l.cfg.Compression == CompressionOff {
		return server.CompressionOff
	}
	return server.CompressionS2Fast
}

// Open connects to the server, which was started with Peering.
func (l *Links) Open(s *embedded.Server) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	open := func(name string, who nats.Option) (jetstream.JetStream, error) {
		nc, err := nats.Connect(s.ClientURL(), who, nats.Name("peers "+name), nats.MaxReconnects(-1),
			nats.ReconnectWait(50*time.Millisecond), nats.CustomInboxPrefix("_INBOX_peers"))
		if err != nil {
			return nil, fmt.Errorf("connect peers: %w", err)
		}
		l.conns = append(l.conns, nc)
		return jetstream.New(nc)
	}
	var err error
	for _, ln := range lanes {
		if l.lane[ln], err = open(ln.String(), s.PeersOption()); err != nil {
			return err
		}
	}
	if l.orders, err = open("orders", s.ConnectOption()); err != nil {
		return err
	}
	l.server = s
	return nil
}

// ordersJS is the context of the account ORDERS.
func (l *Links) ordersJS() (jetstream.JetStream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.orders == nil {
		return nil, ErrNotOpen
	}
	return l.orders, nil
}

func (l *Links) opened() (*embedded.Server, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server == nil {
		return nil, ErrNotOpen
	}
	return l.server, nil
}

// Set makes these the peers, all of them: it adds, changes and removes without disturbing the others. Who is removed
// is disconnected at once; its consumers and what was fetched from it and not taken are deleted. After an
// error some of it may have been done; the next Set does the rest.
func (l *Links) Set(ctx context.Context, peers []Peer) error {
	if err := l.set(ctx, peers); err != nil {
		return err
	}
	l.setMu.Lock()
	defer l.setMu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, setTimeout)
	defer cancel()
	return l.forget(ctx, peers)
}

// SetKnown is Set while some peers are perhaps not known yet, such as after a start: who is not on the list is not
// connected, but what is kept for it and of it stays.
func (l *Links) SetKnown(ctx context.Context, peers []Peer) error { return l.set(ctx, peers) }

func (l *Links) set(ctx context.Context, peers []Peer) error {
	l.setMu.Lock()
	defer l.setMu.Unlock()
	s, err := l.opened()
	if err != nil {
		return err
	}
	if err := validatePeers(&l.cfg, peers); err != nil {
		return err
	}
	peers = slices.SortedFunc(slices.Values(peers), func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
	ctx, cancel := context.WithTimeout(ctx, setTimeout)
	defer cancel()

	for _, account := range l.trust.set(peers) {
		s.DisconnectLeafs(ctx, account)
	}
	gone := l.replace(peers)
	disconnect(ctx, s, gone)
	if err := l.serve(ctx, peers); err != nil {
		return err
	}
	if err := l.connect(s, peers); err != nil {
		return err
	}
	disconnect(ctx, s, gone) // who slipped in meanwhile
	return l.fetch(ctx, peers)
}

func disconnect(ctx context.Context, s *embedded.Server, peers []string) {
	for _, p := range peers {
		for _, ln := range lanes {
			s.DisconnectLeafs(ctx, serving(p, ln))
			s.DisconnectLeafs(ctx, fetching(p, ln))
		}
	}
}

// replace takes the list over and returns the names of who is on it no longer.
func (l *Links) replace(peers []Peer) (gone []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := map[string]*peer{}
	for _, p := range peers {
		known, ok := l.peers[p.Name]
		if !ok {
			known = &peer{watches: map[string]*watch{}, sources: map[order.Priority]*source{}}
			l.m.add(p.Name)
		}
		known.Peer = p
		now[p.Name] = known
	}
	for name := range l.peers {
		if now[name] == nil {
			gone = append(gone, name)
			l.m.remove(name)
		}
	}
	l.peers = now
	return gone
}

// connect gives the server its accounts and remotes, if they are others than before.
func (l *Links) connect(s *embedded.Server, peers []Peer) error {
	accounts := site(l.cfg.Operator, peers)
	var b strings.Builder
	b.WriteString(embedded.RenderAccounts(accounts))
	for _, p := range peers {
		b.WriteString(p.Name + " " + p.URL + "\n")
	}
	apply := b.String()
	if apply == l.applied {
		return nil
	}
	l.applied = ""
	if err := s.SetLeafs(accounts, func() []*server.RemoteLeafOpts { return l.remotes(peers) }); err != nil {
		return err
	}
	l.applied = apply
	return nil
}

// remotes are the connections to open, made anew each time, because the server keeps them.
func (l *Links) remotes(peers []Peer) []*server.RemoteLeafOpts {
	var all []*server.RemoteLeafOpts
	for _, p := range peers {
		if p.URL == "" {
			continue
		}
		for _, ln := range lanes {
			u, err := url.Parse(p.URL)
			if err != nil {
				continue // it was validated
			}
			u.User, u.Path = url.User(ln.String()), ""
			all = append(all, &server.RemoteLeafOpts{
				URLs: []*url.URL{u}, LocalAccount: fetching(p.Name, ln),
				TLS: true, TLSConfig: l.dialTLS(p.Name, ln), TLSHandshakeFirst: true, TLSTimeout: dialTimeout.Seconds(),
				DialTimeout: dialTimeout, FirstInfoTimeout: dialTimeout,
				Compression: server.CompressionOpts{Mode: l.compression()},
				DenyImports: denied(l.cfg.Operator), RequestIsolation: true, IgnoreDiscoveredServers: true,
			})
		}
	}
	return all
}

// failed remembers what went wrong with a peer last.
func (l *Links) failed(name string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.peers[name]; p != nil {
		p.state.LastError, p.state.LastErrorAt = err.Error(), time.Now()
	}
}
