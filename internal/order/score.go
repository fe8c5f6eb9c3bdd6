package order

import (
	"math"
	"time"
)

// The score's window: FlowProxy's defaults.
const (
	scoreBucket  = 4 * time.Second
	scoreBuckets = 15 // 60 s
)

// The score's terms, per bucket.
const (
	maxRequestPoints = 3.0
	maxInvalidPoints = 5.0
	maxBuiltPoints   = 10.0
	tobPoints        = 0.1
	includedPoints   = 0.2
	contributePoints = 2.0
)

// BuilderStats is what a builder reports about one entity.
type BuilderStats struct {
	PassedToBSimulation uint64
	Included            uint64
	MaxContributionPct  float64
}

// Activity is one entity's record over the score window; the zero value is ready. Not safe for
// concurrent use. It has a fixed size of less than 400 bytes and never allocates.
type Activity struct {
	buckets [scoreBuckets]bucket
}

// bucket counts 4 s. Counters saturate.
type bucket struct {
	epoch        uint32 // which 4 s since 1970, plus one; zero: empty
	requests     uint32
	invalid      uint32
	tob          uint32
	included     uint32
	contribution float32
}

// Request counts one request at now; Invalid one refused order, best charged at the time of its
// request; Built what a builder reported.
func (a *Activity) Request(now time.Time) {
	if b := a.at(now); b != nil {
		b.requests = saturate(b.requests, 1)
	}
}

// Invalid counts one refused order; see Request.
func (a *Activity) Invalid(now time.Time) {
	if b := a.at(now); b != nil {
		b.invalid = saturate(b.invalid, 1)
	}
}

// Built adds what a builder reported; a contribution that is not a positive number counts nothing.
func (a *Activity) Built(now time.Time, s BuilderStats) {
	b := a.at(now)
	if b == nil {
		return
	}
	b.tob = saturate(b.tob, s.PassedToBSimulation)
	b.included = saturate(b.included, s.Included)
	if pct := float32(s.MaxContributionPct); pct > b.contribution {
		b.contribution = pct
	}
}

// Score is FlowProxy's score with its defects mended; below 0 is good, 3 excludes High, 6 is Low.
// It is the mean over the 4 s buckets of the last 60 s in which anything happened, of
//
//	min(log10(requests), 3) + min(5·invalid/requests, 5)
//	  − min(0.1·passed simulation + 0.2·included + 2·max contribution, 10)
//
// where a bucket without requests scores 0 for them.
func (a *Activity) Score(now time.Time) float64 {
	newest := epochOf(now)
	sum, n := 0.0, 0
	for i := range a.buckets {
		b := &a.buckets[i]
		if b.epoch == 0 || b.epoch > newest || newest-b.epoch >= scoreBuckets {
			continue
		}
		sum += b.score()
		n++
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

func (b *bucket) score() float64 {
	score := 0.0
	if b.requests > 1 {
		score += min(math.Log10(float64(b.requests)), maxRequestPoints)
	}
	// A refusal may be counted later than its request: without requests it weighs in full.
	score += min(maxInvalidPoints*float64(b.invalid)/float64(max(b.requests, 1)), maxInvalidPoints)
	built := tobPoints*float64(b.tob) + includedPoints*float64(b.included) + contributePoints*float64(b.contribution)
	return score - min(built, maxBuiltPoints)
}

// at returns the bucket of t, cleared if it held an older one; nil when t is older than what the
// ring holds there.
func (a *Activity) at(t time.Time) *bucket {
	epoch := epochOf(t)
	b := &a.buckets[epoch%scoreBuckets]
	if b.epoch > epoch {
		return nil
	}
	if b.epoch != epoch {
		*b = bucket{epoch: epoch}
	}
	return b
}

func epochOf(t time.Time) uint32 {
	return uint32(t.UnixMilli()/scoreBucket.Milliseconds()) + 1 //nolint:gosec // until the year 2514
}

func saturate(n uint32, by uint64) uint32 {
	return uint32(min(uint64(n)+min(by, math.MaxUint32), math.MaxUint32))
}
