package ingress

import (
	"net/netip"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/maypok86/otter/v2"

	"millrace/internal/order"
)

// Bounds of what is remembered, in entries, and for how long. When a cache is full it forgets what
// is used least: a forgotten entity starts anew, a forgotten outcome is asked from the store.
const (
	maxSources  = 65_536
	maxNonces   = 65_536
	maxClaims   = 65_536
	maxOutcomes = 131_072
	maxCounters = 4096 // the first proxy's figure

	entityLife  = 2 * time.Minute // twice the score window
	sourceLife  = time.Minute
	nonceLife   = 10 * time.Minute
	counterLife = time.Minute // the first proxy's figure
)

// memory is all that the door remembers between requests. Its caches own goroutines, so Run
// creates it and closes it.
type memory struct {
	entities *otter.Cache[common.Address, *entity]
	sources  *otter.Cache[netip.Addr, *source]
	nonces   *otter.Cache[nonceKey, *nonceState]
	claims   *otter.Cache[claimKey, order.ID]
	counters *otter.Cache[nonceKey, *counter]
	// outcomes holds nil for an accepted order.
	outcomes *otter.Cache[order.ID, *order.Reason]
}

func newMemory(cfg *Config) (*memory, error) {
	var (
		m   memory
		err error
	)
	build := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	window := cfg.Orders.MaxAge
	build(func() (e error) {
		m.entities, e = newCache(cfg.MaxEntities, otter.ExpiryAccessing[common.Address, *entity](entityLife))
		return e
	})
	build(func() (e error) {
		m.sources, e = newCache(maxSources, otter.ExpiryAccessing[netip.Addr, *source](max(sourceLife, window)))
		return e
	})
	build(func() (e error) {
		m.nonces, e = newCache(maxNonces, otter.ExpiryAccessing[nonceKey, *nonceState](max(nonceLife, window)))
		return e
	})
	build(func() (e error) {
		m.claims, e = newCache(maxClaims, otter.ExpiryWriting[claimKey, order.ID](window))
		return e
	})
	build(func() (e error) {
		m.counters, e = newCache(maxCounters, otter.ExpiryAccessing[nonceKey, *counter](counterLife))
		return e
	})
	build(func() (e error) {
		m.outcomes, e = newCache(maxOutcomes, otter.ExpiryWriting[order.ID, *order.Reason](window))
		return e
	})
	return &m, err
}

// newCache runs its maintenance on the caller's goroutine: it is short, and the door spawns
// nothing per request.
func newCache[K comparable, V any](size int, expiry otter.ExpiryCalculator[K, V]) (*otter.Cache[K, V], error) {
	return otter.New(&otter.Options[K, V]{
		MaximumSize:      size,
		ExpiryCalculator: expiry,
		Executor:         func(f func()) { f() },
	})
}

// close ends the caches' goroutines.
func (m *memory) close() {
	m.entities.StopAllGoroutines()
	m.sources.StopAllGoroutines()
	m.nonces.StopAllGoroutines()
	m.claims.StopAllGoroutines()
	m.counters.StopAllGoroutines()
	m.outcomes.StopAllGoroutines()
}

// recall returns c's entry for k, created if there is none. The creation of one key by two callers
// yields one entry for both.
func recall[K comparable, V any](c *otter.Cache[K, V], k K, create func() V) V {
	if v, ok := c.GetIfPresent(k); ok {
		return v
	}
	v, _ := c.SetIfAbsent(k, create())
	return v
}
