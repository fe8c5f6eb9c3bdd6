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
	// fewestPlaces keeps the bulk going, whatever the pressure.
	fewestPlaces = 2

	schedLatency = "/sched/latencies:seconds"
)

// pressure keeps the machine's CPUs from being used up by requests of unknown and low senders: when
// goroutines have to wait for a CPU, every urgent order waits at every step, whatever its class. It
// gives the gate fewer places while that is so, the low ones' first, and more, one at a time, when it is
// over. What then does not get in waits at the gate, or is refused there.
type pressure struct {
	gate   *gate
	most   int
	places [lots]int

	sample [1]runtimemetrics.Sample
	before []uint64
}

func newPressure(g *gate, most int) *pressure {
	p := &pressure{gate: g, most: most}
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
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			p.adjust(p.read())
		}
	}
}

func (p *pressure) adjust(wait time.Duration) {
	fewest := min(fewestPlaces, p.most)
	switch {
	case wait > pressed && p.places[lotLow] > fewest:
		p.set(lotLow, max(p.places[lotLow]/2, fewest))
	case wait > pressed:
		p.set(lotUnknown, max(p.places[lotUnknown]*3/4, fewest))
	case wait < relaxed:
		p.set(lotUnknown, min(p.places[lotUnknown]+1, p.most))
		p.set(lotLow, min(p.places[lotLow]+1, p.most))
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
