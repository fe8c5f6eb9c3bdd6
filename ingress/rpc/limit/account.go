package limit

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common/lru"
)

// shards is into how many parts clients are cut, each with a lock of its own.
const shards = 16

// account is what one address or key, or everybody together, has used. It is guarded by mu, its shard's.
type account struct {
	mu      *sync.Mutex
	name    string // among processes
	rules   *rules // that it was made for
	budget  []rule
	windows []*window // by the index of its rule; nil: not used yet
	seen    time.Duration
}

// adopt makes the account fit rules; what was used of limits that are the same stays used.
func (a *account) adopt(r *rules, budget []rule) {
	was := a.rules
	old := a.windows
	a.rules, a.budget, a.windows = r, budget, make([]*window, len(budget))
	if was == nil {
		return
	}
	for i, w := range old {
		if w == nil {
			continue
		}
		to, ok := r.methods[was.names[i]]
		if i == 0 {
			to, ok = 0, true
		}
		if ok && to < len(budget) && budget[to] == w.rule {
			a.windows[to] = w
		}
	}
}

// window returns that of a rule; nil when there is none.
func (a *account) window(i int) *window {
	if i >= len(a.budget) || a.budget[i].limit == 0 {
		return nil
	}
	if a.windows[i] == nil {
		a.windows[i] = &window{rule: a.budget[i], share: newShare(a.budget[i])}
	}
	return a.windows[i]
}

// crowd is the accounts of addresses or of keys: the least recently used go when there are too many.
type crowd[K comparable] struct {
	seed  maphash.Seed
	parts [shards]struct {
		sync.Mutex
		accounts lru.BasicLRU[K, *account]
	}
}

func newCrowd[K comparable](most int) *crowd[K] {
	c := &crowd[K]{seed: maphash.MakeSeed()}
	for i := range c.parts {
		c.parts[i].accounts = lru.NewBasicLRU[K, *account](most / shards)
	}
	return c
}

// lock returns the account of a client, its shard locked. name is called for one that is new.
func (c *crowd[K]) lock(k K, name func(K) string, m *metrics) *account {
	p := &c.parts[maphash.Comparable(c.seed, k)%shards]
	p.Lock()
	a, ok := p.accounts.Get(k)
	if !ok {
		a = &account{mu: &p.Mutex, name: name(k)}
		if p.accounts.Add(k, a) {
			m.evicted.Inc()
		}
	}
	return a
}

// forget lets go of those that were not seen since.
func (c *crowd[K]) forget(since time.Duration) (left int) {
	for i := range c.parts {
		p := &c.parts[i]
		p.Lock()
		for {
			_, a, ok := p.accounts.GetOldest()
			if !ok || a.seen >= since {
				break
			}
			p.accounts.RemoveOldest()
		}
		left += p.accounts.Len()
		p.Unlock()
	}
	return left
}
