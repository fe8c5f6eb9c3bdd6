package cache

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/rpcapi"
)

// Heads knows the chain's head, from memory.
type Heads interface{ Head() rpcapi.Head }

// Fetch asks the nodes. It is called once at most, on the caller's goroutine.
type Fetch = func(ctx context.Context) (*rpcapi.Answer, error)

// key is what is asked: the hash of a method and its canonical parameters. A client that could make two questions
// have one key could put words into a node's mouth, so the hash is a cryptographic one.
type key [sha256.Size]byte

// Cache keeps and shares answers.
type Cache struct {
	heads    Heads
	entries  *otter.Cache[key, *entry]
	settings atomic.Pointer[settings]
	metrics  *metrics
	flights  flights
}

// New returns an empty cache.
func New(cfg Config, heads Heads, reg prometheus.Registerer) (*Cache, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Cache{heads: heads, flights: flights{by: make(map[flightKey]*flight)}}
	c.settings.Store(settingsOf(cfg))
	entries, err := otter.New(&otter.Options[key, *entry]{
		MaximumWeight: roomOf(cfg),
		Weigher:       func(_ key, e *entry) uint32 { return e.weight() },
		OnAtomicDeletion: func(e otter.DeletionEvent[key, *entry]) {
			if e.WasEvicted() {
				c.metrics.evictions.Inc()
			}
		},
		// Its upkeep is short: on the caller's goroutine it costs less than waking another one.
		Executor: func(f func()) { f() },
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c.entries = entries
	c.metrics = newMetrics(reg, entries)
	return c, nil
}

// roomOf is at least 1, since there is no cache without room.
func roomOf(cfg Config) uint64 { return uint64(max(cfg.MaxBytes, 1)) }

// Reconfigure changes the configuration; what is kept and still fits stays.
func (c *Cache) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	c.settings.Store(settingsOf(cfg))
	c.entries.SetMaximum(roomOf(cfg))
	return nil
}

// Clear forgets everything, as is due when the nodes are of another chain.
func (c *Cache) Clear() { c.entries.InvalidateAll() }

// question is a call as the cache sees it.
type question struct {
	key   key
	life  rpcapi.Life
	group rpcapi.Group
	head  rpcapi.Head
	era   era
	keep  bool // the answer, if it turns out to be one that can be kept
}

// Do answers a call from memory, together with an identical one under way, or by fetch; params and id are those of
// the call, as views. The answer has the call's id and is the caller's own.
func (c *Cache) Do(ctx context.Context, call *rpcapi.Call, m rpcapi.Method, params, id []byte, fetch Fetch) (*rpcapi.Answer, rpcapi.Source, error) {
	s := c.settings.Load()
	var q question
	if !c.ask(&q, s, call, m, params) {
		c.metrics.count(m.Group, rpcapi.SourceBypass)
		a, err := fetch(ctx)
		return a, rpcapi.SourceBypass, err
	}
	if len(id) == 0 {
		id = []byte("null")
	}
	source := rpcapi.SourceBypass
	if q.keep {
		if e, ok := c.entries.GetIfPresent(q.key); ok && e.trueIn(q.era) {
			c.metrics.count(m.Group, rpcapi.SourceHit)
			return e.answer(id), rpcapi.SourceHit, nil
		}
		source = rpcapi.SourceMiss
	}
	if s.coalesce {
		return c.share(ctx, s, call, &q, id, source, fetch)
	}
	c.metrics.count(m.Group, source)
	a, err := fetch(ctx)
	if err == nil {
		c.store(s, &q, a)
	}
	return a, source, err
}

// keys are what keys are hashed from.
var keys = sync.Pool{New: func() any { return new([]byte) }} //nolint:gochecknoglobals // a pool is shared by nature

const maxKeyBuffer = 64 << 10

// ask finds out what is asked; false: it is neither kept nor shared.
func (c *Cache) ask(q *question, s *settings, call *rpcapi.Call, m rpcapi.Method, params []byte) bool {
	if call.Node != 0 || m.Safety != rpcapi.Read || (!s.keep[m.Group] && !s.coalesce) {
		return false
	}
	q.group, q.head = m.Group, c.heads.Head()
	q.era = eraOf(&q.head)
	buf := keys.Get().(*[]byte) //nolint:forcetypeassert // holds nothing else
	b := append(append((*buf)[:0], m.Name...), '\n')
	b, q.life = m.Canonical(b, params, &q.head)
	if q.life != 0 {
		q.key = sha256.Sum256(b)
	}
	if cap(b) <= maxKeyBuffer {
		*buf = b
		keys.Put(buf)
	}
	q.keep = s.keep[m.Group] && (q.life == rpcapi.LifeForEver || q.era.known())
	return q.life != 0 && (q.keep || s.coalesce)
}

// store keeps an answer if it may be kept, and returns it then.
func (c *Cache) store(s *settings, q *question, a *rpcapi.Answer) *entry {
	if !q.keep || a == nil || a.Status/100 != 2 || len(a.Body) > s.maxEntry {
		return nil
	}
	said, ok := rpcapi.ReadAnswer(a.Body)
	if !ok || said.Failure != nil {
		return nil
	}
	life := q.life.Judge(said.Result, &q.head)
	if life == 0 {
		return nil
	}
	e := newEntry(a, &said)
	if life != rpcapi.LifeForEver {
		if !c.current(q, a) {
			return nil
		}
		e.era, e.until = q.era, time.Now().Add(s.ttl)
	}
	c.entries.Set(q.key, e)
	return e
}

// current says that an answer is of the head that was known when it was asked for: neither did the head change
// meanwhile, nor is the node known to be behind it.
func (c *Cache) current(q *question, a *rpcapi.Answer) bool {
	if !q.era.known() || (a.Height != 0 && a.Height < q.head.Number) {
		return false
	}
	now := c.heads.Head()
	return eraOf(&now) == q.era
}
