package signers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"millrace/internal/order"
)

const (
	// recheckOneIn is how many hits on shared entries there are for each that is checked again.
	recheckOneIn = 1000
	// maxPending bounds the entries that wait to be told, 340 kB; when full, fresh ones are dropped.
	maxPending = 4096
	// tidyEvery is how often expired entries are let go.
	tidyEvery = time.Second
)

// Rules checks one transaction, and can be warmed before the first; *order.Rules does, and so does a
// Cache.
type Rules interface {
	Check(raw []byte, kind order.Kind, now time.Time) (order.TxInfo, error)
	Warm()
}

// Broadcaster tells a batch to every other worker process, at most once, and not to this one. It
// must not keep the batch.
type Broadcaster interface {
	BroadcastSigners(ctx context.Context, batch []byte) error
}

// entry is what is known of one key. by is nil when this process checked it.
type entry struct {
	tx order.TxInfo
	by *origin
}

// Cache is Rules with a memory. It is safe for concurrent use.
type Cache struct {
	rules   Rules
	forks   forkTable
	entries *otter.Cache[key, entry]
	log     *slog.Logger
	metrics *metrics

	self    originID
	seal    sealer
	out     Broadcaster
	pending chan record // nil: sharing is off
	others  origins
	oneIn   uint32
	quiet   rate.Sometimes
}

// New returns an empty cache in front of rules, which must be those of the chain chainID. A nil out
// (a single process) or a configuration without a secret turns sharing off. It reads the secret's
// file.
func New(cfg Config, chainID uint64, rules Rules, out Broadcaster, log *slog.Logger, reg prometheus.Registerer) (*Cache, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	secret, err := cfg.secret()
	if err != nil {
		return nil, err
	}
	entries, err := otter.New(&otter.Options[key, entry]{
		MaximumSize: cfg.Size,
		// Since the last use, not since it was learned: a transaction that comes with every block
		// would otherwise be recovered anew every 36 s, a third of its appearances.
		ExpiryCalculator: otter.ExpiryAccessing[key, entry](cfg.TTL),
		Clock:            untickedClock{},
		// Its upkeep is short: on the caller's goroutine it costs less than waking another one.
		Executor: func(f func()) { f() },
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c := &Cache{
		rules: rules, forks: forksOf(chainID), entries: entries, log: log,
		metrics: newMetrics(reg, func() float64 { return float64(entries.EstimatedSize()) }),
		others:  origins{byID: make(map[originID]*origin)},
		oneIn:   recheckOneIn,
		quiet:   rate.Sometimes{First: 1, Interval: time.Minute},
	}
	_, _ = rand.Read(c.self[:]) // never fails since Go 1.24
	if seal := newSealer(secret, chainID); seal != nil && out != nil {
		c.seal, c.out, c.pending = seal, out, make(chan record, maxPending)
	}
	return c, nil
}

// Sharing reports whether the cache tells other processes what it learns and takes what they tell.
func (c *Cache) Sharing() bool { return c.pending != nil }

// Warm warms the rules.
func (c *Cache) Warm() { c.rules.Warm() }

// Check does what the rules' Check does, from memory when it can. Every error is a *order.Reason.
func (c *Cache) Check(raw []byte, kind order.Kind, now time.Time) (order.TxInfo, error) {
	k := keyOf(raw, kind, c.forks.at(now))
	e, ok := c.entries.GetIfPresent(k)
	if !ok || (e.by != nil && e.by.quarantined.Load()) {
		c.metrics.misses.Inc()
		return c.learn(k, raw, kind, now)
	}
	if e.by == nil {
		c.metrics.hitLocal.Inc()
		return e.tx, nil
	}
	c.metrics.hitShared.Inc()
	if mathrand.Uint32N(c.oneIn) == 0 { //nolint:gosec // sampling; it need only differ between processes
		return c.recheck(k, e, raw, kind, now)
	}
	return e.tx, nil
}

// learn checks, remembers and tells.
func (c *Cache) learn(k key, raw []byte, kind order.Kind, now time.Time) (order.TxInfo, error) {
	tx, err := c.rules.Check(raw, kind, now)
	if err != nil {
		return order.TxInfo{}, err
	}
	c.entries.Set(k, entry{tx: tx})
	if c.pending != nil {
		select {
		case c.pending <- record{key: k, tx: tx}:
		default:
			c.metrics.dropped.Inc()
		}
	}
	return tx, nil
}

// recheck does another process's work again and draws the consequence.
func (c *Cache) recheck(k key, e entry, raw []byte, kind order.Kind, now time.Time) (order.TxInfo, error) {
	c.metrics.rechecked.Inc()
	tx, err := c.rules.Check(raw, kind, now)
	if err == nil && tx == e.tx {
		c.entries.Set(k, entry{tx: tx})
		return tx, nil
	}
	c.metrics.wrong.Inc()
	if c.others.quarantine(e.by) {
		c.metrics.quarantined.Inc()
		c.log.LogAttrs(context.Background(), slog.LevelError, "signer cache entry of another process is wrong, refusing all of its entries",
			slog.String("origin", hex.EncodeToString(e.by.id[:])),
			slog.String("told_hash", e.tx.Hash.Hex()), slog.String("told_sender", e.tx.From.Hex()),
			slog.String("hash", tx.Hash.Hex()), slog.String("sender", tx.From.Hex()))
	}
	if err != nil {
		c.entries.Invalidate(k)
		return order.TxInfo{}, err
	}
	c.entries.Set(k, entry{tx: tx})
	return tx, nil
}

// untickedClock keeps New from starting a goroutine for expiry: Run tidies up instead.
type untickedClock struct{}

func (untickedClock) NowNano() int64                      { return time.Now().UnixNano() }
func (untickedClock) Tick(time.Duration) <-chan time.Time { return nil }
