package ingress

import (
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"millrace/internal/order"
)

// entity is one signer's record at this door.
type entity struct {
	mu       sync.Mutex
	activity order.Activity
	// known is when the first order was accepted; zero: none yet.
	known time.Time
	// lowly is the share of low orders among the latest, in 1/256.
	lowly uint8
	// forger is the source that last claimed this entity without being it, and until when its
	// claims count for nothing.
	forger      netip.Addr
	forgedUntil time.Time

	orders *rate.Limiter
	limit  RateLimit // that orders was made for
}

const (
	// lowlyMemory is about how many orders the share of low ones looks back.
	lowlyMemory = 8
	// lowlyShare is the share from which an entity is taken to send low orders.
	lowlyShare = 128
)

// forgeryPenalty is for how long a wrong signature costs a source the rank of whom it claimed.
const forgeryPenalty = 10 * time.Second

// allow takes n orders from the entity's budget.
func (e *entity) allow(now time.Time, n int, limit RateLimit) bool {
	if !limit.Enabled {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.orders == nil || e.limit != limit {
		perSecond := float64(limit.Count) / limit.Window.Seconds()
		e.orders, e.limit = rate.NewLimiter(rate.Limit(perSecond), limit.Count), limit
	}
	return e.orders.AllowN(now, n)
}

// request counts one request and returns the score with it.
func (e *entity) request(now time.Time) float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.activity.Request(now)
	return e.activity.Score(now)
}

// classified notes the class of an order of the entity's: what it mostly sends says what its next
// request is likely to be, before that is read.
func (e *entity) classified(p order.Priority) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p == order.PriorityLow {
		e.lowly += (math.MaxUint8 - e.lowly) / lowlyMemory
	} else {
		e.lowly -= e.lowly / lowlyMemory
	}
}

// invalid counts one refused order, at the time of its request.
func (e *entity) invalid(received time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.activity.Invalid(received)
}

// accepted notes that one of the entity's orders was stored.
func (e *entity) accepted(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known.IsZero() {
		e.known = now
	}
}

// built notes what the builder reported.
func (e *entity) built(now time.Time, s order.BuilderStats) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.activity.Built(now, s)
}

// forged notes that from claimed this entity with a wrong signature.
func (e *entity) forged(from netip.Addr, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forger, e.forgedUntil = from, now.Add(forgeryPenalty)
}

// standing is what a claimed signer is worth before its signature is checked.
type standing struct {
	score float64
	// known is when the first order was accepted; zero: not known here, or not believed.
	known time.Time
	// lowly: most of its latest orders were low.
	lowly bool
}

func (e *entity) standing(from netip.Addr, now time.Time) standing {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.forger == from && now.Before(e.forgedUntil) {
		return standing{}
	}
	return standing{score: e.activity.Score(now), known: e.known, lowly: e.lowly >= lowlyShare}
}

// The rank's classes, in its two top bits.
const (
	rankGood = iota
	rankUnknown
	rankLowly
	rankBad

	rankClass = 62
	rankBulk  = 1 << 61 // what can't be a cancel goes behind what can, within its class
)

// rankOf orders requests for the CPU by what their claimed signer is worth: known good ones first,
// the longest known foremost, so that no number of new signers gets ahead of an old one; then those
// never seen, by arrival; then good ones who mostly send low orders; then known bad ones. Within a
// class, what can be a cancel goes first.
func rankOf(st standing, body []byte) rank {
	class, since := uint64(rankUnknown), uint64(0)
	switch {
	case st.score >= order.ScoreNotHigh:
		class = rankBad
	case st.lowly:
		class = rankLowly
	case !st.known.IsZero():
		class, since = rankGood, uint64(st.known.UnixMicro())
	}
	r := class<<rankClass | since&(rankBulk-1)
	if !mayCancel(body) {
		r |= rankBulk
	}
	return rank(r)
}
