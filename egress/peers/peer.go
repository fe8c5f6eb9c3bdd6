package peers

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/time/rate"

	"millrace/internal/order"
)

// complainEvery is how often a peer's dropped orders are logged.
const complainEvery = time.Minute

// peer is what a Receiver knows of one peer.
type peer struct {
	metrics  *peerMetrics
	complain rate.Sometimes
	budget   *rate.Limiter // of bytes; nil: unlimited
	ranges   ranges

	mu     sync.Mutex
	clock  clockOffset
	nonces nonces
}

func newPeer(name string, m *peerMetrics, cfg *ReceiverConfig) *peer {
	p := &peer{
		metrics: m, complain: rate.Sometimes{First: 1, Interval: complainEvery}, ranges: ranges{peer: name},
		nonces: nonces{span: max(cfg.MaxAge, nonceLife)},
	}
	if cfg.MaxBytes > 0 {
		p.budget = rate.NewLimiter(rate.Limit(float64(cfg.MaxBytes)/cfg.MaxAge.Seconds()), int(cfg.MaxBytes))
	}
	return p
}

// afford takes bytes from the peer's budget.
func (p *peer) afford(now time.Time, bytes int) bool {
	return p.budget == nil || p.budget.AllowN(now, bytes)
}

// heard learns from when in was sent, and returns what our clock is ahead of the peer's. Without a time of its own
// for that, the peer's time of receipt stands in for it; then the latency includes what the peer itself took.
func (p *peer) heard(in *order.Incoming) (offset time.Duration) {
	sent := in.SentAt
	if sent.IsZero() && in.Order != nil {
		sent = in.Order.ReceivedAt
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if sent.IsZero() || in.Redelivered {
		return p.clock.offset()
	}
	took := p.clock.learn(in.ArrivedAt, sent)
	p.metrics.latency.Observe(took.Seconds())
	offset = p.clock.offset()
	p.metrics.offset.Set(offset.Seconds())
	return offset
}

// nonce is the effective nonce of a submission, and whether we chose it.
func (p *peer) nonce(in *order.Incoming, sub *order.Submission, o *order.Order) (n uint64, defaulted bool) {
	if sub.Replacement.IsZero() {
		return 0, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k := nonceKey{signer: o.Signer, uuid: sub.Replacement}
	switch {
	case sub.Nonce != nil:
		p.nonces.raise(k, *sub.Nonce, o.Accept, in.ArrivedAt)
		return *sub.Nonce, false
	case in.Order != nil && in.Order.Nonce != 0 && in.Order.Replacement == sub.Replacement:
		p.nonces.raise(k, in.Order.Nonce, o.Accept, in.ArrivedAt)
		return in.Order.Nonce, true
	}
	return p.nonces.next(k, o.Accept, in.ArrivedAt), true
}

// acceptID is the same for every delivery of the same message, and another one for any other.
func acceptID(in *order.Incoming) (a order.AcceptID) {
	b := make([]byte, 0, 128)
	b = binary.AppendUvarint(b, uint64(len(in.Peer)))
	b = append(append(b, in.Peer...), in.Key...)
	sum := sha256.Sum256(b)
	binary.BigEndian.PutUint64(a[:8], uint64(in.ArrivedAt.UnixMicro()))
	copy(a[8:], sum[:])
	return a
}

const (
	// nonceLife is how long the last nonce of a replacement key is remembered, at least; maxNonces how many are.
	nonceLife = 10 * time.Minute
	maxNonces = 1 << 15
)

// nonceKey names what a replacement replaces, of one peer's orders.
type nonceKey struct {
	signer common.Address
	uuid   order.UUID
}

type lastNonce struct {
	nonce uint64
	of    order.AcceptID
}

// nonces are the last nonces of a peer's replacement keys: two generations of maps, each of which is kept for a span
// or until it is full.
type nonces struct {
	span     time.Duration
	turnAt   time.Time
	now, old map[nonceKey]lastNonce
}

func (n *nonces) last(k nonceKey, at time.Time) (lastNonce, bool) {
	if n.now == nil || len(n.now) >= maxNonces || at.After(n.turnAt) {
		n.old, n.now, n.turnAt = n.now, map[nonceKey]lastNonce{}, at.Add(n.span)
	}
	l, ok := n.now[k]
	if !ok {
		l, ok = n.old[k]
	}
	return l, ok
}

func (n *nonces) raise(k nonceKey, nonce uint64, a order.AcceptID, at time.Time) {
	if l, ok := n.last(k, at); !ok || l.nonce <= nonce {
		n.now[k] = lastNonce{nonce, a}
	}
}

// next is the time of arrival, or one more than the last nonce when that is ahead of it. A redelivery of the last one
// has the same.
func (n *nonces) next(k nonceKey, a order.AcceptID, at time.Time) uint64 {
	l, ok := n.last(k, at)
	if ok && l.of == a {
		return l.nonce
	}
	next := uint64(at.UnixMicro())
	if ok && l.nonce >= next {
		next = l.nonce + min(1, math.MaxUint64-l.nonce)
	}
	n.now[k] = lastNonce{next, a}
	return next
}
