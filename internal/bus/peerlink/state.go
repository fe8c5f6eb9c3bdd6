package peerlink

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	watchEvery   = time.Second
	watchTimeout = 5 * time.Second
	// silence is how long a source may be quiet before it is started again: an idle origin sends a heartbeat each
	// second.
	silence = 3 * time.Second
)

// State is what is known of a peer, at most a few seconds old.
type State struct {
	Peer string
	// Serving are the connections by which it fetches from us, Fetching those by which we fetch from it.
	Serving, Fetching []Connection
	// Owed is what it has not fetched from us, Behind what we have not fetched from it.
	Owed, Behind []Backlog

	LastError          string // empty: none since it was added
	LastErrorAt        time.Time
	CertificateExpires time.Time // of what it showed last; zero: nothing yet
}

// Connection is one leafnode connection.
type Connection struct {
	Lane      string // high, or bulk for medium and low
	Connected bool
	Since     time.Time // when that was noticed
	Address   string
	RTT       time.Duration
}

// Backlog counts orders of one class.
type Backlog struct {
	Priority order.Priority
	Orders   uint64
}

// State returns what is known of each peer, by name.
func (l *Links) State() []State {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []State
	for _, p := range l.peers {
		s := p.state
		s.Peer = p.Name
		s.Serving, s.Fetching = slices.Clone(s.Serving), slices.Clone(s.Fetching)
		s.Owed, s.Behind = slices.Clone(s.Owed), slices.Clone(s.Behind)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b State) int { return strings.Compare(a.Peer, b.Peer) })
	return all
}

// Run looks at the peers each second until ctx ends: for State, the metrics and what was missed; and it starts
// sources again that have not noticed that their origin is there. Then it closes the package's connections to the server.
func (l *Links) Run(ctx context.Context) error {
	var wake sync.WaitGroup
	defer l.close()
	defer wake.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake.Go(func() { l.wake(ctx) })
	for retry.Pause(ctx, watchEvery) {
		s, err := l.opened()
		if err != nil {
			return err
		}
		leafs, err := s.Leafs("")
		if err != nil {
			l.log.LogAttrs(ctx, slog.LevelWarn, "peers can't be looked at", slog.Any("error", err))
			continue
		}
		byAccount := map[string]*server.LeafInfo{}
		for _, leaf := range leafs {
			byAccount[leaf.Account] = leaf
		}
		for _, p := range l.list() {
			l.look(ctx, p, byAccount)
		}
	}
	return nil
}

func (l *Links) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, nc := range l.conns {
		nc.Close()
	}
	l.conns, l.server, l.orders = nil, nil, nil
}

func (l *Links) list() []Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []Peer
	for _, p := range l.peers {
		all = append(all, p.Peer)
	}
	return all
}

// look takes in what is to be known of one peer.
func (l *Links) look(ctx context.Context, p Peer, leafs map[string]*server.LeafInfo) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	l.connections(ctx, p, leafs)
	owed, behind := make([]Backlog, 0, len(order.Priorities)), make([]Backlog, 0, len(order.Priorities))
	for _, c := range order.Priorities {
		if n, ok := l.owed(ctx, p, c); ok {
			owed = append(owed, Backlog{Priority: c, Orders: n})
			l.m.lag.WithLabelValues(p.Name, directionServing, c.String()).Set(float64(n))
		}
		if p.URL == "" {
			continue
		}
		if n, ok := l.behind(ctx, p, c); ok {
			behind = append(behind, Backlog{Priority: c, Orders: n})
			l.m.lag.WithLabelValues(p.Name, directionFetching, c.String()).Set(float64(n))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.peers[p.Name]; known != nil {
		known.state.Owed, known.state.Behind = owed, behind
		return
	}
	l.m.remove(p.Name) // it went meanwhile
}

// connections takes in which of a peer's connections are there.
func (l *Links) connections(ctx context.Context, p Peer, leafs map[string]*server.LeafInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.peers[p.Name]
	if known == nil {
		return
	}
	see := func(direction string, was []Connection, account func(string, lane) string) []Connection {
		var now []Connection
		for i, ln := range lanes {
			c := Connection{Lane: ln.String(), Since: time.Now()}
			if leaf := leafs[account(p.Name, ln)]; leaf != nil {
				c.Connected, c.Address = true, leaf.IP
				c.RTT, _ = time.ParseDuration(leaf.RTT)
			}
			if i < len(was) && was[i].Connected == c.Connected {
				c.Since = was[i].Since
			} else {
				l.changed(ctx, p.Name, direction, c)
			}
			l.m.connection(p.Name, direction, c)
			if end := l.trust.expires(account(p.Name, ln)); end.After(known.state.CertificateExpires) {
				known.state.CertificateExpires = end
			}
			now = append(now, c)
		}
		return now
	}
	known.state.Serving = see(directionServing, known.state.Serving, serving)
	if p.URL != "" {
		known.state.Fetching = see(directionFetching, known.state.Fetching, fetching)
	}
	if end := known.state.CertificateExpires; !end.IsZero() {
		l.m.expires.WithLabelValues(p.Name).Set(float64(end.Unix()))
	}
}

func (l *Links) changed(ctx context.Context, peer, direction string, c Connection) {
	l.log.LogAttrs(ctx, slog.LevelInfo, "connection of peer", slog.String("peer", peer), slog.Bool("connected", c.Connected),
		slog.String("direction", direction), slog.String("lane", c.Lane), slog.String("address", c.Address))
}

func (m *metrics) connection(peer, direction string, c Connection) {
	n := 0.0
	if c.Connected {
		n = 1
	}
	m.connected.WithLabelValues(peer, direction, c.Lane).Set(n)
	m.rtt.WithLabelValues(peer, direction, c.Lane).Set(c.RTT.Seconds())
}

// owed is what a peer has not fetched from us, and looks for what it can't any more.
func (l *Links) owed(ctx context.Context, p Peer, c order.Priority) (n uint64, ok bool) {
	f := flow{origin: l.cfg.Operator, peer: p.Name, class: c}
	js, err := l.ordersJS()
	if err != nil {
		return 0, false
	}
	s, err := js.Stream(ctx, subjects.StreamOK(c))
	if err != nil {
		return 0, false
	}
	cons, err := s.PushConsumer(ctx, f.durable())
	if err != nil {
		return 0, false
	}
	info, state := cons.CachedInfo(), s.CachedInfo().State
	l.watch(ctx, p.Name, directionServing, c, sample{
		floor: info.AckFloor.Stream, first: state.FirstSeq, last: state.LastSeq,
		waiting: info.NumPending > 0 || info.NumAckPending > 0,
	}, func(from uint64) uint64 {
		m, err := s.GetMsg(ctx, from, jetstream.WithGetMsgSubject(f.exported()))
		if err != nil {
			return 0
		}
		return m.Sequence
	})
	return info.NumPending + uint64(max(info.NumAckPending, 0)), true
}

// behind is what we have not fetched from a peer, and looks for what nobody took in time.
func (l *Links) behind(ctx context.Context, p Peer, c order.Priority) (n uint64, ok bool) {
	s, err := l.js(c).Stream(ctx, stream(p.Name, c))
	if err != nil {
		return 0, false
	}
	info := s.CachedInfo()
	if cons, err := s.Consumer(ctx, receiver); err == nil {
		ci := cons.CachedInfo()
		l.watch(ctx, p.Name, directionFetching, c, sample{
			floor: ci.AckFloor.Stream, first: info.State.FirstSeq, last: info.State.LastSeq,
			waiting: ci.NumPending > 0 || ci.NumAckPending > 0,
		}, func(from uint64) uint64 { return from })
	}
	if len(info.Sources) == 0 {
		return 0, false
	}
	src := info.Sources[0]
	if src.Error != nil {
		l.failed(p.Name, src.Error)
	}
	if src.Active < 0 || src.Active > silence {
		l.mu.Lock()
		if known := l.source(p.Name, c); known != nil {
			known.active = false
		}
		l.mu.Unlock()
	}
	return src.Lag, true
}
