package main

import (
	"sync"
	"time"
)

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
