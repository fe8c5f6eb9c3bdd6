package discovery

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Watcher keeps the set of peers. Its methods are safe for concurrent use.
type Watcher struct {
	cfg       Config
	self      Self
	changes   func([]Peer)
	log       *slog.Logger
	metrics   *metrics
	sources   []*source // in the order of Source
	results   chan result
	hub       *hub       // nil: none
	registrar *registrar // nil: none

	mu     sync.Mutex
	static []Entry
	peers  []Peer
	states map[Source]*state
	open   int // sources that have not given a set yet
}

// state is what a source said last, and how it is.
type state struct {
	answer answer
	skips  []Skip // those of the answer, and what others had before
	at     time.Time
	since  time.Time // of err
	err    error
}

// State is how a source is.
type State struct {
	Source Source
	// LastSuccess is when it gave the set that is in use; zero: none yet.
	LastSuccess time.Time
	// Err is why it fails, since when; nil: it does not.
	Err   error
	Since time.Time
	// Peers are those of the source that are in use; Skipped are its entries that are not.
	Peers   int
	Skipped []Skip
}

// New returns a watcher; it asks nobody before Run. Changes hears of sets, see the package. A nil
// resolver is the system's.
func New(cfg Config, self Self, r Resolver, changes func([]Peer), log *slog.Logger, reg prometheus.Registerer) (*Watcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if self.Certificate == nil {
		self.Certificate = func() string { return "" }
	}
	var h *hub
	if cfg.Hub.URL != "" {
		var err error
		if h, err = newHub(cfg.Hub, self); err != nil {
			return nil, err
		}
	}
	w := &Watcher{
		hub: h, cfg: cfg, self: self, changes: changes, log: log, metrics: newMetrics(reg),
		results: make(chan result), static: cfg.Static, states: map[Source]*state{},
	}
	w.add(newSource(Static, fileEvery, w.listStatic)) // there may be some after a reload
	if cfg.File != "" {
		w.add(newSource(File, fileEvery, w.listFile))
	}
	if cfg.SRV != "" {
		w.add(newSource(DNS, srvEvery, newSRV(cfg.SRV, r).list))
	}
	if h == nil {
		return w, nil
	}
	w.add(newSource(Hub, cfg.Hub.Every, h.list))
	if cfg.Hub.Register && self.Signer != (common.Address{}) {
		w.registrar = &registrar{register: h.register, certificate: self.Certificate, log: log, metrics: newRegisterMetrics(reg)}
	}
	return w, nil
}

func (w *Watcher) add(s *source) {
	w.sources = append(w.sources, s)
	w.states[s.kind] = &state{}
	w.open++
	w.metrics.show(s.kind)
}

// Run keeps the set until ctx ends. Call it once.
func (w *Watcher) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range w.sources {
		first := time.Duration(0)
		if s.kind == Static || s.kind == File {
			w.take(ctx, s.ask(ctx))
			first = s.every
		}
		g.Go(func() error { return s.loop(ctx, first, w.results) })
		if s.kind == File {
			g.Go(func() error { watchFile(ctx, w.cfg.File, s.refresh, w.log); return nil })
		}
	}
	if w.registrar != nil {
		g.Go(func() error { w.registrar.run(ctx); return nil })
	}
	g.Go(func() error { w.collect(ctx); return nil })
	err := g.Wait()
	if w.hub != nil {
		w.hub.client.CloseIdleConnections()
	}
	return err
}

// collect tells the first set, and then those that differ.
func (w *Watcher) collect(ctx context.Context) {
	w.merge(ctx)
	w.tell()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-w.results:
			open := !w.Complete()
			w.take(ctx, r)
			if changed := w.merge(ctx); changed || open && w.Complete() {
				w.tell()
			}
		}
	}
}

func (w *Watcher) tell() { w.changes(w.Peers()) }

// take keeps what a source said; of a failure only that there was one.
func (w *Watcher) take(ctx context.Context, r result) {
	if r.err != nil && ctx.Err() != nil {
		return // it was cut off
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s, attr := w.states[r.source], slog.String("source", r.source.String())
	if r.err != nil {
		w.metrics.errors.WithLabelValues(r.source.String(), faultReason(r.err)).Inc()
		if s.err == nil {
			s.since = time.Now()
			w.log.LogAttrs(ctx, slog.LevelWarn, "source of peers fails, its last good set is kept", attr,
				slog.Int("peers", len(s.answer.peers)), slog.Any("error", r.err))
		}
		s.err = r.err
		return
	}
	if s.err != nil {
		w.log.LogAttrs(ctx, slog.LevelInfo, "source of peers is back", attr, slog.Duration("after", time.Since(s.since)))
	}
	if s.at.IsZero() {
		w.open--
	}
	s.answer, s.at, s.err, s.since = r.answer, time.Now(), nil, time.Time{}
	w.metrics.success.WithLabelValues(r.source.String()).Set(float64(s.at.UnixMilli()) / 1000)
}

// merge makes the set anew and reports whether it is another.
func (w *Watcher) merge(ctx context.Context) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := newUnion(w.self)
	for _, s := range w.sources {
		st := w.states[s.kind]
		before := len(u.peers)
		skips := slices.Concat(st.answer.skips, u.add(st.answer.peers))
		skips = slices.DeleteFunc(skips, func(s Skip) bool { return w.self.Name != "" && s.Name == w.self.Name })
		w.metrics.peers.WithLabelValues(s.kind.String()).Set(float64(len(u.peers) - before))
		w.metrics.skip(s.kind, skips)
		w.report(ctx, s.kind, st.skips, skips)
		st.skips = skips
	}
	peers := u.sorted()
	d := Diff(w.peers, peers)
	w.peers = peers
	if d.Empty() {
		return false
	}
	w.log.LogAttrs(ctx, slog.LevelInfo, "peers changed", slog.Int("peers", len(peers)), slog.String("added", names(d.Added)),
		slog.String("changed", names(d.Changed)), slog.String("removed", names(d.Removed)))
	return true
}

// maxNamed bounds the lines about one answer.
const maxNamed = 16

// report names entries that are left out now and were not before.
func (w *Watcher) report(ctx context.Context, kind Source, before, now []Skip) {
	known := make(map[string]bool, len(before))
	for _, s := range before {
		known[s.Name+" "+entryReason(s.Err)] = true
	}
	n := 0
	for _, s := range now {
		if known[s.Name+" "+entryReason(s.Err)] {
			continue
		}
		if n++; n > maxNamed {
			return
		}
		w.log.LogAttrs(ctx, slog.LevelWarn, "peer left out", slog.String("source", kind.String()), slog.String("peer", s.Name), slog.Any("error", s.Err))
	}
}

// Refresh has every source asked at once; it does not wait for the answers.
func (w *Watcher) Refresh() {
	for _, s := range w.sources {
		s.refresh()
	}
}

// SetStatic replaces the configuration's own list, as a reload does. A list with a fault is refused.
func (w *Watcher) SetStatic(list []Entry) error {
	if _, err := staticPeers(list); err != nil {
		return err
	}
	w.mu.Lock()
	w.static = slices.Clone(list)
	w.mu.Unlock()
	w.sources[0].refresh()
	return nil
}

func (w *Watcher) listStatic(context.Context) (answer, error) {
	w.mu.Lock()
	list := w.static
	w.mu.Unlock()
	peers, err := staticPeers(list)
	return answer{peers: peers}, err
}

func (w *Watcher) listFile(context.Context) (answer, error) {
	peers, err := ReadFile(w.cfg.File)
	return answer{peers: peers}, err
}

// Peers returns the set.
func (w *Watcher) Peers() []Peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return clone(w.peers)
}

// Complete reports whether every source has given a set since Run. Before, who is missing may still come:
// do not undo what was set up for it.
func (w *Watcher) Complete() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open == 0
}

// State tells how the sources are, the most explicit first.
func (w *Watcher) State() []State {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]State, len(w.sources))
	for i, s := range w.sources {
		st := w.states[s.kind]
		all[i] = State{Source: s.kind, LastSuccess: st.at, Err: st.err, Since: st.since, Skipped: slices.Clone(st.skips)}
	}
	for i := range w.peers {
		for j := range all {
			if all[j].Source == w.peers[i].Source {
				all[j].Peers++
			}
		}
	}
	return all
}

// Registration tells how far registering with the hub has come; ok is false when we don't.
func (w *Watcher) Registration() (r Registration, ok bool) {
	if w.registrar == nil {
		return Registration{}, false
	}
	return w.registrar.current(), true
}
