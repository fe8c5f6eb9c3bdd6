package ingress

import (
	"context"
	"math"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	// pressureTick is how often the CPU's pressure is read.
	pressureTick = 25 * time.Millisecond
	// pressed is the wait for a CPU, of the worst hundredth of goroutines, above which the bulk
	// gets fewer places; below relaxed it gets more. An order meets some twenty such waits on its way.
	pressed = time.Millisecond
	relaxed = 250 * time.Microsecond
	// crowded is the number of this process's threads that wait for a CPU, on average, above which the bulk
	// gets less; below roomy it gets more. crowdEvery is how many readings of the runtime come to one of it.
	crowded    = 1.0
	roomy      = 0.5
	crowdEvery = 4
	// urgency is for how long after a request of a good sender others may come that must not wait, and after one
	// of a low sender others that can.
	urgency = 2 * time.Second
	// fewestPlaces keeps the bulk going, whatever the pressure.
	fewestPlaces = 2
	// The places of low senders that are left rest after each request, from shortestRest on, and at most for
	// longestRest, so that the bulk goes on.
	shortestRest = time.Millisecond
	longestRest  = 20 * time.Millisecond

	schedLatency = "/sched/latencies:seconds"
)

// pressure keeps the machine's CPUs from being used up by requests of unknown and low senders: when
// goroutines have to wait for a CPU, every urgent order waits at every step, whatever its class. It
// gives the gate fewer places while that is so, the low ones' first, and more, one at a time, when it is
// over. Where that is not enough, as the CPUs are also others', the low ones' places rest between two requests,
// as long as there are good senders who would have to wait.
// What then does not get in waits at the gate, or is refused there.
type pressure struct {
	gate   *gate
	most   int
	places [lots]int
	rest   time.Duration // of low senders' places
	crowd  crowd

	sample [1]runtimemetrics.Sample
	before []uint64
}

func newPressure(g *gate, most int) *pressure {
	p := &pressure{gate: g, most: most, crowd: crowd{dir: tasksDir}}
	for i := range p.places {
		p.places[i] = most
	}
	p.sample[0].Name = schedLatency
	return p
}

// run adjusts the gate until ctx ends.
func (p *pressure) run(ctx context.Context) error {
	tick := time.NewTicker(pressureTick)
	defer tick.Stop()
	p.read()
	waiting := p.waiting(time.Now())
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if n%crowdEvery == 0 {
				waiting = p.waiting(now)
				p.pace(waiting)
			}
			p.adjust(p.read(), waiting)
		}
	}
}

// waiting is how many threads keep good senders waiting while low ones are there. Otherwise it is not asked: it takes
// some system calls for each thread.
func (p *pressure) waiting(now time.Time) float64 {
	if now.Sub(p.gate.last(lotGood)) > urgency || now.Sub(p.gate.last(lotLow)) > urgency {
		p.crowd.forget()
		return 0
	}
	return p.crowd.read(now)
}

// adjust takes places or gives some back, by how long goroutines and how many threads wait for a CPU.
func (p *pressure) adjust(wait time.Duration, waiting float64) {
	fewest := min(fewestPlaces, p.most)
	busy := wait > pressed || waiting > crowded
	switch {
	case busy && p.places[lotLow] > fewest:
		p.set(lotLow, max(p.places[lotLow]/2, fewest))
	case busy && (wait > pressed || p.rest >= longestRest):
		p.set(lotUnknown, max(p.places[lotUnknown]*3/4, fewest))
	case busy, p.rest > 0:
	case wait < relaxed && waiting < roomy:
		p.set(lotUnknown, min(p.places[lotUnknown]+1, p.most))
		p.set(lotLow, min(p.places[lotLow]+1, p.most))
	}
}

// pace has the few places that low senders are left rest for longer, or less long.
func (p *pressure) pace(waiting float64) {
	rest := p.rest
	switch {
	case waiting > crowded && p.places[lotLow] <= min(fewestPlaces, p.most):
		rest = min(max(2*rest, shortestRest), longestRest)
	case waiting < roomy:
		if rest = rest * 3 / 4; rest < shortestRest {
			rest = 0
		}
	}
	if rest != p.rest {
		p.rest = rest
		p.gate.pace(lotLow, rest)
	}
}

func (p *pressure) set(lot, places int) {
	if p.places[lot] != places {
		p.places[lot] = places
		p.gate.resize(lot, places)
	}
}

// read returns how long the worst hundredth of the goroutines that ran since the last reading had
// waited for a CPU.
func (p *pressure) read() time.Duration {
	runtimemetrics.Read(p.sample[:])
	if p.sample[0].Value.Kind() != runtimemetrics.KindFloat64Histogram {
		return 0 // a runtime that does not tell
	}
	h := p.sample[0].Value.Float64Histogram()
	if p.before == nil {
		p.before = make([]uint64, len(h.Counts))
	}
	var all uint64
	for i, n := range h.Counts {
		all += n - p.before[i]
	}
	rest, worst := all/100, time.Duration(0)
	for i := len(h.Counts) - 1; i >= 0 && all > 0; i-- {
		n := h.Counts[i] - p.before[i]
		if n > rest {
			worst = bucketStart(h.Buckets[i])
			break
		}
		rest -= n
	}
	copy(p.before, h.Counts)
	return worst
}

func bucketStart(seconds float64) time.Duration {
	if math.IsInf(seconds, -1) {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}
