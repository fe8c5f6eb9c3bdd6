package loadtest

import (
	"slices"
	"time"
)

// linkTimes sorts what happens on a link into intervals.
type linkTimes struct {
	started         time.Time
	step            time.Duration
	latency, echoes [][]float64 // microseconds
	carried         []float64   // bits
}

func newLinkTimes(started time.Time, end time.Duration) *linkTimes {
	n, step := steps(end)
	return &linkTimes{started: started, step: step, latency: make([][]float64, n), echoes: make([][]float64, n), carried: make([]float64, n)}
}

func (t *linkTimes) slot(at time.Time) int {
	return min(max(int(at.Sub(t.started)/t.step), 0), len(t.carried)-1)
}

func (t *linkTimes) order(arrived time.Time, took time.Duration) {
	k := t.slot(arrived)
	t.latency[k] = append(t.latency[k], float64(took.Microseconds()))
}

func (t *linkTimes) echo(sent time.Time, took time.Duration) {
	k := t.slot(sent)
	t.echoes[k] = append(t.echoes[k], float64(took.Microseconds()))
}

func (t *linkTimes) bits(at time.Time, n float64) { t.carried[t.slot(at)] += n }

func (t *linkTimes) series() *LinkSeries {
	n, seconds := len(t.carried), t.step.Seconds()
	s := &LinkSeries{
		Step: seconds, Delivered: make([]float64, n), P50: make([]float64, n), P99: make([]float64, n),
		Echo: make([]float64, n), Bits: make([]float64, n),
	}
	for i := range n {
		s.Bits[i] = t.carried[i] / seconds
		s.Delivered[i] = float64(len(t.latency[i])) / seconds
		if l := t.latency[i]; len(l) > 0 {
			slices.Sort(l)
			s.P50[i], s.P99[i] = l[len(l)/2], l[len(l)*99/100]
		}
		s.Echo[i] = middle(t.echoes[i])
	}
	return s
}
