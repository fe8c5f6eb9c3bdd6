package peerlink

import (
	"context"
	"time"

	"millrace/internal/bus/embedded"
	"millrace/internal/order"
	"millrace/internal/retry"
)

const (
	// wakeEvery is how often it is looked whether an origin can be asked that could not before.
	wakeEvery = 50 * time.Millisecond
	// alive is how recently a source that runs has heard of its origin: there is a heartbeat each second.
	alive = 1500 * time.Millisecond
	// A source that was started asks within 200 ms. It is started again where the origin came after that, and where
	// it has not answered, less and less often.
	asksWithin           = 300 * time.Millisecond
	askAgain, askAtLeast = 1500 * time.Millisecond, 10 * time.Second
)

// source is what is known of the source of one stream.
type source struct {
	reachable bool      // requests get to the origin
	since     time.Time // when that began
	active    bool      // it hears of its origin
	asked     time.Time // when it was started
	tries     int       // without success
}

// wake starts sources whose origin can be reached and that do not hear of it: the server itself asks once when a
// stream is made or recovered, waits longer after each time that the origin was not there, for up to two
// minutes, and does not hear of connections in other accounts.
func (l *Links) wake(ctx context.Context) {
	for retry.Pause(ctx, wakeEvery) {
		s, err := l.opened()
		if err != nil {
			return
		}
		for _, p := range l.list() {
			if p.URL == "" {
				continue
			}
			for _, c := range order.Priorities {
				l.wakeOne(ctx, s, p, c)
			}
		}
	}
}

func (l *Links) wakeOne(ctx context.Context, s *embedded.Server, p Peer, c order.Priority) {
	f := flow{origin: p.Name, peer: l.cfg.Operator, class: c}
	reachable := s.Interest(fetching(p.Name, laneOf(c)), f.remoteReset())
	now := time.Now()
	l.mu.Lock()
	src := l.source(p.Name, c)
	if src == nil {
		l.mu.Unlock()
		return
	}
	if reachable && !src.reachable {
		src.since, src.active, src.tries = now, false, 0
	}
	src.reachable = reachable
	look := reachable && !src.active
	l.mu.Unlock()
	if !look {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	st, err := l.js(c).Stream(ctx, stream(p.Name, c))
	if err != nil || len(st.CachedInfo().Sources) == 0 {
		return
	}
	heard := st.CachedInfo().Sources[0].Active
	l.mu.Lock()
	start := src.due(heard, now)
	l.mu.Unlock()
	if start {
		l.restart(ctx, p, c)
	}
}

// source is of the stream of one class of a peer; nil: no such peer. L.mu is held.
func (l *Links) source(peer string, c order.Priority) *source {
	known := l.peers[peer]
	if known == nil {
		return nil
	}
	src := known.sources[c]
	if src == nil {
		src = &source{asked: time.Now()}
		known.sources[c] = src
	}
	return src
}

// due takes in when the source heard of its origin last, negative for never, and tells whether to start it again.
func (src *source) due(heard time.Duration, now time.Time) bool {
	if heard >= 0 && heard < alive {
		src.active, src.tries = true, 0
		return false
	}
	if heard >= 0 && now.Sub(src.since) < alive {
		return false // it may go on by itself
	}
	early := src.asked.Before(src.since) && now.Sub(src.asked) >= asksWithin
	if !early && now.Sub(src.asked) < min(askAgain<<src.tries, askAtLeast) {
		return false
	}
	src.asked = now
	if src.tries < 8 {
		src.tries++
	}
	return true
}

// restart makes a source ask its origin again.
func (l *Links) restart(ctx context.Context, p Peer, c order.Priority) {
	cfg := l.stream(p, c)
	without := cfg
	without.Sources = nil
	_, err := l.js(c).UpdateStream(ctx, without)
	if err == nil {
		_, err = l.js(c).UpdateStream(ctx, cfg)
	}
	if err != nil {
		l.failed(p.Name, err)
	}
}
