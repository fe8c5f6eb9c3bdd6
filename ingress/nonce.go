package ingress

import (
	"math"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/order"
)

// nonceKey names what a replacement replaces at this door, where every order's origin is local.
type nonceKey struct {
	signer common.Address
	uuid   order.UUID
}

// claimKey is one nonce of a replacement key.
type claimKey struct {
	nonceKey
	nonce uint64
}

// nonceState is the highest nonce of one replacement key that was given out or stored.
type nonceState struct {
	mu   sync.Mutex
	last uint64
}

// next returns a nonce above all earlier ones: the time in microseconds, or last+1 when that is
// ahead of the clock. A key whose last nonce is the highest possible one repeats it, and the claim
// then refuses the order.
func (n *nonceState) next(now time.Time) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := uint64(now.UnixMicro())
	if n.last != math.MaxUint64 {
		next = max(next, n.last+1)
	} else {
		next = n.last
	}
	n.last = next
	return next
}

// stored records an explicit nonce, once its order is stored.
func (n *nonceState) stored(nonce uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = max(n.last, nonce)
}

// nonce returns the effective nonce of a submission and whether the door chose it
// (CORRECTNESS 3).
func (m *memory) nonce(signer common.Address, sub *order.Submission, now time.Time) (nonce uint64, defaulted bool) {
	switch {
	case sub.Nonce != nil:
		return *sub.Nonce, false
	case sub.Replacement.IsZero():
		return 0, true
	}
	key := nonceKey{signer: signer, uuid: sub.Replacement}
	return recall(m.nonces, key, func() *nonceState { return new(nonceState) }).next(now), true
}

// claim reserves o's nonce for o's content. fresh tells that this call made the claim and must
// undo it when o is not stored. Another content under the same nonce is refused.
func (m *memory) claim(o *order.Order) (fresh bool, err error) {
	key, ok := claimOf(o)
	if !ok {
		return false, nil
	}
	holder, fresh := m.claims.SetIfAbsent(key, o.ID)
	if !fresh && holder != o.ID {
		return false, order.Refuse(order.CodeNonceConflict, "another order with this replacement nonce was accepted before")
	}
	return fresh, nil
}

// unclaim undoes a fresh claim.
func (m *memory) unclaim(o *order.Order) {
	if key, ok := claimOf(o); ok {
		m.claims.Invalidate(key)
	}
}

// keep makes later default nonces exceed o's, which is stored.
func (m *memory) keep(o *order.Order) {
	if key, ok := claimOf(o); ok && !o.NonceDefaulted {
		recall(m.nonces, key.nonceKey, func() *nonceState { return new(nonceState) }).stored(o.Nonce)
	}
}

func claimOf(o *order.Order) (claimKey, bool) {
	key := claimKey{nonceKey: nonceKey{signer: o.Signer, uuid: o.Replacement}, nonce: o.Nonce}
	return key, !o.Replacement.IsZero()
}

// counter is mev_sendBundle's replacement nonce in dialect v1: 0, 1, 2 per key, forgotten after a
// minute without use. Internally such orders have a nonce like all others.
type counter struct {
	mu   sync.Mutex
	next uint64
}

// count returns the counter's value plus one, as order.Order.ShareNonce wants it.
func (m *memory) count(signer common.Address, uuid order.UUID) uint64 {
	c := recall(m.counters, nonceKey{signer: signer, uuid: uuid}, func() *counter { return new(counter) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	return c.next
}
