package limit

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// alive is how long a process that says nothing counts as there; it says something each second.
	alive = 3500 * time.Millisecond
	pulse = time.Second
	// maxPeers and maxHeard bound what is remembered of others.
	maxPeers = 256
	maxHeard = 8 * maxTold
)

// peer is another process.
type peer struct {
	seen  time.Duration
	heard map[uint64]report
}

// peers is what is known of the others, and the subjects to tell them of. A shard's lock comes before mu.
type peers struct {
	mu     sync.Mutex
	known  map[uint64]*peer
	active []active
	greet  bool // somebody is new
}

// active is a limit in use since the last tick.
type active struct {
	account *account
	window  *window
}

// list has the next tick look at a limit. One that was not looked at for a while is bound anew.
func (l *Limiter) list(a *account, i int, w *window, now time.Duration) {
	if w.listed {
		return
	}
	w.listed = true
	if w.hash == 0 {
		w.hash = a.hash(i, w)
	}
	l.peers.mu.Lock()
	defer l.peers.mu.Unlock()
	l.peers.active = append(l.peers.active, active{a, w})
	w.begin(l.peers.others(w, now))
}

// others sums up what the other processes have of a limit. The caller holds mu.
func (p *peers) others(w *window, now time.Duration) others {
	o := others{peers: len(p.known)}
	limit := float64(w.rule.limit)
	keep := (slots + 1) * w.rule.slot
	for _, q := range p.known {
		r, ok := q.heard[w.hash]
		age := now - r.at
		claim := limit * floor / float64(o.peers+1)
		switch {
		case ok && age <= fresh:
			claim = r.claim
			o.wanted += faded(r.wanted, age)
		case w.since == 0 || now-w.since < 2*Tick-Tick/2:
			claim = w.equal(o.peers + 1) // it may not have heard yet that this process has use for it
		}
		if ok && age <= keep {
			claim = max(claim, r.used)
		}
		o.taken += claim
	}
	return o
}

// hear takes in another process's message.
func (l *Limiter) hear(b []byte) {
	f, err := decodeFrame(b)
	if err != nil {
		l.m.garbled.Inc()
		return
	}
	if f.from == l.id {
		return
	}
	now := l.now()
	p := &l.peers
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.note == noteGone {
		delete(p.known, f.from)
		l.count()
		return
	}
	q := p.known[f.from]
	if q == nil {
		if len(p.known) >= maxPeers {
			return
		}
		q = &peer{heard: make(map[uint64]report)}
		p.known[f.from], p.greet = q, true
		l.count()
	}
	q.seen = now
	for _, e := range f.entries {
		if _, ok := q.heard[e.subject]; ok || len(q.heard) < maxHeard {
			q.heard[e.subject] = report{float64(e.used), float64(e.claim), float64(e.wanted), now}
		}
	}
}

// count shows how many others there are. The caller holds mu.
func (l *Limiter) count() {
	l.m.peers.Set(float64(len(l.peers.known)))
	l.shared.Store(len(l.peers.known) > 0)
}

// Run shares the limits and forgets idle clients, until ctx ends. That the gossip fails is no error of it.
func (l *Limiter) Run(ctx context.Context) error {
	stop := func() {}
	defer func() { stop() }()
	tick := time.NewTicker(Tick)
	defer tick.Stop()
	hearing := l.gossip == nil
	var told, listened time.Duration
	for {
		now := l.now()
		if !hearing && (listened == 0 || now-listened >= pulse) {
			listened = now
			s, err := l.gossip.Hear(l.hear)
			if hearing = err == nil; hearing {
				stop = s
			} else {
				l.fail(ctx, err)
			}
		}
		if l.gossip != nil {
			told = l.turn(ctx, now, told)
		}
		if now/pulse != (now-Tick)/pulse {
			l.tidy(now)
		}
		select {
		case <-ctx.Done():
			l.leave(ctx)
			return nil
		case <-tick.C:
		}
	}
}

func (l *Limiter) leave(ctx context.Context) {
	if l.gossip == nil {
		return
	}
	f := frame{from: l.id, note: noteGone}
	if err := l.gossip.Tell(f.append(nil)); err != nil {
		l.fail(ctx, err)
	}
}

func (l *Limiter) fail(ctx context.Context, err error) {
	l.m.failures.Inc()
	l.log.LogAttrs(ctx, slog.LevelDebug, "limits are not shared", slog.Any("error", err))
}

// turn is one tick; told is when something was told last.
func (l *Limiter) turn(ctx context.Context, now, told time.Duration) time.Duration {
	p := &l.peers
	p.mu.Lock()
	batch, greet := p.active, p.greet
	p.active, p.greet = nil, false
	p.mu.Unlock()
	f := frame{from: l.id, note: noteHere, entries: l.reports(batch, now)}
	if len(f.entries) == 0 && !greet && told != 0 && now-told < pulse {
		return told
	}
	if err := l.gossip.Tell(f.append(make([]byte, 0, headSize+entrySize*len(f.entries)))); err != nil {
		l.fail(ctx, err)
	}
	return now
}

// reports moves every limit in use on, and returns what the others are to be told: of the hottest.
func (l *Limiter) reports(batch []active, now time.Duration) []entry {
	type hot struct {
		entry
		heat float64
	}
	var hots []hot
	keep := batch[:0]
	for _, a := range batch {
		w := a.window
		a.account.mu.Lock()
		w.roll(now)
		l.peers.mu.Lock()
		o := l.peers.others(w, now)
		l.peers.mu.Unlock()
		tell, done := w.turn(now, o)
		w.listed = !done
		if tell {
			hots = append(hots, hot{
				entry{w.hash, w.sum, whole(w.claims[0] + 0.5), whole(w.wanted + 0.5)},
				(float64(w.sum) + w.wanted) / float64(w.rule.limit),
			})
		}
		a.account.mu.Unlock()
		if !done {
			keep = append(keep, a)
		}
	}
	l.peers.mu.Lock()
	l.peers.active = append(l.peers.active, keep...)
	l.peers.mu.Unlock()
	if len(hots) > maxTold {
		slices.SortFunc(hots, func(a, b hot) int {
			if a.heat > b.heat {
				return -1
			}
			return 1
		})
		hots = hots[:maxTold]
	}
	entries := make([]entry, 0, len(hots))
	for _, h := range hots {
		entries = append(entries, h.entry)
	}
	return entries
}

// tidy forgets clients that are idle, processes that are gone, and what is too old of the others.
func (l *Limiter) tidy(now time.Duration) {
	longest := l.rules.Load().longest
	since := now - 2*longest
	l.m.clients.Set(float64(l.ips.forget(since) + l.keys.forget(since)))
	p := &l.peers
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, q := range p.known {
		if now-q.seen > alive {
			delete(p.known, id)
			continue
		}
		for s, r := range q.heard {
			if now-r.at > max(2*longest, fresh) {
				delete(q.heard, s)
			}
		}
	}
	l.count()
}
