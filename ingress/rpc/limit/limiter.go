package limit

import (
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Gossip reaches the other processes of the gateway, this one too: its own messages may come back.
type Gossip interface {
	// Tell sends a message to all; it does not wait for anybody.
	Tell(payload []byte) error
	// Hear calls f with each message until stop is called. f keeps nothing of it.
	Hear(f func(payload []byte)) (stop func(), err error)
}

// Limiter says which calls are within their limits. It is safe for concurrent use.
type Limiter struct {
	gossip Gossip // nil: this process is alone
	log    *slog.Logger
	m      *metrics
	born   time.Time
	id     uint64 // of this process among its peers

	rules atomic.Pointer[rules]
	ips   *crowd[netip.Addr]
	keys  *crowd[string]
	allMu sync.Mutex
	all   account

	shared atomic.Bool // there are others
	peers  peers
}

// New returns a limiter. Without a gossip, which may be nil, it does not share.
func New(cfg Config, gossip Gossip, log *slog.Logger, reg prometheus.Registerer) (*Limiter, error) {
	r, err := compile(cfg)
	if err != nil {
		return nil, err
	}
	l := &Limiter{
		gossip: gossip, log: log, m: newMetrics(reg), born: time.Now(), id: rand.Uint64(), //nolint:gosec // a name
		ips: newCrowd[netip.Addr](r.clients), keys: newCrowd[string](r.clients),
	}
	l.all.mu, l.all.name = &l.allMu, "all"
	l.peers.known = make(map[uint64]*peer)
	l.rules.Store(r)
	return l, nil
}

// Reload changes the limits; what was used of those that stay as they are stays used. Config.Clients is fixed.
func (l *Limiter) Reload(cfg Config) error {
	r, err := compile(cfg)
	if err != nil {
		return err
	}
	l.rules.Store(r)
	return nil
}

// now is the time since the start: monotonic, and never zero.
func (l *Limiter) now() time.Duration { return time.Since(l.born) + 1 }

// Allow counts n calls of a method (of a batch: of each of its methods) by this address, and this key if there is one,
// or says after how long they may be tried again. No address, no key, no method: what is set for those does not apply.
func (l *Limiter) Allow(ip netip.Addr, key, method string, n int) (retry time.Duration, ok bool) {
	r := l.rules.Load()
	if r.off() || n <= 0 {
		return 0, true
	}
	c := charge{l: l, r: r, now: l.now(), n: uint32(min(n, maxCount)), method: r.methods[method]}
	var byIP, byKey *account
	if budget := r.of(ip); budget != nil {
		byIP = l.ips.lock(ip, nameOfIP, l.m)
		if retry, ok = c.take(byIP, budget, scopeIP); !ok {
			return retry, false
		}
	}
	if r.key != nil && key != "" {
		byKey = l.keys.lock(short(key), nameOfKey, l.m)
		if retry, ok = c.take(byKey, r.key, scopeKey); !ok {
			c.giveBack(byIP)
			return retry, false
		}
	}
	if r.all != nil {
		l.allMu.Lock()
		if retry, ok = c.take(&l.all, r.all, scopeAll); !ok {
			c.giveBack(byIP)
			c.giveBack(byKey)
			return retry, false
		}
	}
	return 0, true
}

// of returns an address's budget.
func (r *rules) of(ip netip.Addr) []rule {
	if !ip.IsValid() {
		return nil
	}
	if len(r.ips) > 0 {
		if own, ok := r.ips[ip]; ok {
			return own
		}
	}
	return r.ip
}

// charge is one call of Allow.
type charge struct {
	l      *Limiter
	r      *rules
	now    time.Duration
	n      uint32
	method int
}

// take counts the calls for an account whose shard is locked, and unlocks it.
func (c *charge) take(a *account, budget []rule, s scope) (retry time.Duration, ok bool) {
	defer a.mu.Unlock()
	if a.rules != c.r {
		a.adopt(c.r, budget)
	}
	a.seen = c.now
	total := a.window(0)
	if retry, ok = c.check(a, 0, total); !ok {
		c.l.m.refused[s][0].Inc()
		return retry, false
	}
	if c.method != 0 {
		of := a.window(c.method)
		if retry, ok = c.check(a, c.method, of); !ok {
			c.l.m.refused[s][1].Inc()
			return retry, false
		}
		if of != nil {
			of.add(c.n)
		}
	}
	if total != nil {
		total.add(c.n)
	}
	return 0, true
}

// check reports whether the calls are within the limit; none is without bounds.
func (c *charge) check(a *account, i int, w *window) (retry time.Duration, ok bool) {
	if w == nil {
		return 0, true
	}
	w.roll(c.now)
	bound := w.rule.limit
	if c.l.shared.Load() {
		c.l.list(a, i, w, c.now)
		w.asked += c.n
		bound = w.bound
	}
	if w.fits(c.n, bound) {
		return 0, true
	}
	w.refused += c.n
	return max(w.retry(c.now, c.n, bound), time.Millisecond), false
}

// giveBack takes back what was counted, because another limit refuses the calls.
func (c *charge) giveBack(a *account) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rules != c.r {
		return // new limits, meanwhile
	}
	for i, w := range a.windows {
		if w != nil && (i == 0 || i == c.method) {
			w.remove(c.n)
		}
	}
}

func nameOfIP(ip netip.Addr) string { return "ip\x00" + ip.String() }

func nameOfKey(key string) string { return "key\x00" + key }

// maxKey is up to where a key is its own name here.
const maxKey = 64

// short is a key in bounded memory, which does not hold on to a request's.
func short(key string) string {
	if len(key) <= maxKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return string(sum[:])
}

// hash is the limit's name among processes: of whom, of what, and how much, so that processes with different
// configurations do not share by mistake. It can't be chosen to meet somebody else's.
func (a *account) hash(i int, w *window) uint64 {
	var b strings.Builder
	b.WriteString(a.name)
	b.WriteByte(0)
	b.WriteString(a.rules.names[i])
	text := binary.BigEndian.AppendUint32([]byte(b.String()), w.rule.limit)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(text, uint64(w.rule.slot))) //nolint:gosec // positive
	return max(binary.BigEndian.Uint64(sum[:]), 1)
}
