package limit

import (
	"math"
	"time"
)

// Tick is how often processes tell each other what they need.
const Tick = 100 * time.Millisecond

const (
	// floor is the part of a limit that is left, in equal parts, to processes that nobody asks for it.
	floor = 0.05
	// fresh is how long a report speaks for its process; claims that are not repeated for so long are given up.
	fresh = 6 * Tick
	// repeat is when what did not change is told again.
	repeat = 3 * Tick
	// spare is how much more than what it uses a process claims without having refused any.
	spare = 1.25
	// halving is in how many ticks half of the demand is forgotten.
	halving = 2
	// slack is how much more than a limit the claims of all may come to while demand moves from one to another: what
	// the one has not unlearnt yet need not keep the other waiting.
	slack = 1.1
	// ahead makes up for demand that moves while claims lag behind it.
	ahead = 1.04
	// quiet is the part of a limit, of one process's part of it, that may be used without telling.
	quiet = 0.1
)

// share is what one process may admit of a limit, and why. See the package's documentation.
type share struct {
	bound  uint32     // what may be admitted in a window while there are others
	claims [3]float64 // what was told that is claimed, the latest first

	wanted  float64 // calls, admitted or not, of late
	asked   uint32  // since the last tick
	refused uint32  // since the last tick

	listed  bool          // it is among those that the next tick looks at
	since   time.Duration // it has been told of each tick since; zero: it is not told
	told    report        // what was told last
	refusal time.Duration // when one was refused last; zero: none
}

func newShare(r rule) share { return share{bound: r.limit} }

// report is what a process tells of a subject.
type report struct {
	used, claim, wanted float64
	at                  time.Duration // when it was told, or heard
}

// others is what is known of the other processes, of one subject.
type others struct {
	peers  int     // processes that live
	taken  float64 // what they claim or have used
	wanted float64
}

// equal is the part of a limit that each of n processes has when nobody knows better.
func (w *window) equal(n int) float64 { return float64(w.rule.limit) / float64(n) }

// target is what this process may claim, by demand.
func (w *window) target(o others) float64 {
	n := float64(o.peers + 1)
	all := w.wanted + o.wanted
	if all <= 0 {
		return w.equal(o.peers + 1)
	}
	least := floor / n
	return ahead * float64(w.rule.limit) * (least + (1-floor)*w.wanted/all)
}

// need is what this process has use for.
func (w *window) need(o others, now time.Duration) float64 {
	if w.refusal > 0 && now-w.refusal < fresh {
		return float64(w.rule.limit)
	}
	return max(w.equal(o.peers+1), spare*float64(w.sum))
}

// bind sets the bound by what is known now: down at once.
func (w *window) bind(o others) {
	room := max(slack*float64(w.rule.limit)-o.taken, 0)
	w.bound = round(min(w.claims[0], w.claims[1], w.claims[2], room))
}

// begin is bind for a subject that was not looked at for a while: it starts with an equal part.
func (w *window) begin(o others) {
	e := w.equal(o.peers + 1)
	w.claims = [3]float64{e, e, e}
	w.since, w.wanted, w.refusal, w.told = 0, 0, 0, report{}
	w.bind(o)
}

// turn is the end of a tick: demand and claims move on. tell says that the others are to be told, done that there
// is nothing more to look at.
func (w *window) turn(now time.Duration, o others) (tell, done bool) {
	w.wanted = faded(w.wanted, Tick) + float64(w.asked)
	if w.refused > 0 {
		w.refusal = now
	}
	idle := w.asked == 0
	w.asked, w.refused = 0, 0
	if w.wanted < 0.5 {
		w.wanted = 0
	}
	claim := min(w.target(o), w.need(o, now))
	w.claims[2], w.claims[1], w.claims[0] = w.claims[1], w.claims[0], claim
	w.bind(o)
	r := report{used: float64(w.sum), claim: claim, wanted: w.wanted, at: now}
	hot := r.used >= max(quiet*w.equal(o.peers+1), 1) || w.refusal > 0 && now-w.refusal < fresh
	switch {
	case !hot && w.since == 0:
		return false, idle
	case !hot && idle && w.wanted == 0:
		w.since = 0
		return true, true // the last word: it is not used any more
	case w.since == 0:
		w.since = now
	}
	if grain := float64(w.rule.limit) / 50; now-w.told.at < repeat && math.Abs(r.used-w.told.used) < grain && math.Abs(r.claim-w.told.claim) < grain {
		return false, false
	}
	w.told = r
	return true, false
}

// faded is what is left of a demand after a while.
func faded(wanted float64, age time.Duration) float64 {
	return wanted * math.Exp2(-float64(age)/float64(halving*Tick))
}

func round(x float64) uint32 { return uint32(math.Floor(max(x, 0) + 0.5)) }
