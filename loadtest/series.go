package loadtest

import (
	"slices"
	"time"
)

const (
	// seriesPoints bounds a series, so that a report of a long run stays small.
	seriesPoints = 120
	// seriesStep is the shortest interval of a series.
	seriesStep = 250 * time.Millisecond
)

// Series is the run over time: interval i reaches from i to i+1 steps after the start. Counts are per
// second, latencies microseconds.
type Series struct {
	Step      float64   `json:"step_seconds"`
	Sent      []float64 `json:"sent_per_second"`
	Accepted  []float64 `json:"accepted_per_second"`
	Refused   []float64 `json:"refused_per_second"`
	Shed      []float64 `json:"shed_per_second"`
	Failed    []float64 `json:"failed_per_second"`    // errors, unknown and unsent
	Delivered []float64 `json:"delivered_per_second"` // first receipts at the sink
	P50       []float64 `json:"p50_us"`               // wire to wire; of the answer without a sink
	P99       []float64 `json:"p99_us"`
}

// steps divides a stretch of time into intervals of equal length.
func steps(d time.Duration) (n int, step time.Duration) {
	n = min(max(int(d/seriesStep), 1), seriesPoints)
	return n, max(d/time.Duration(n), 1)
}

// newSeries counts what happened when; seen is the first receipt of each order.
func newSeries(results []Result, seen map[Tag]time.Time, started time.Time, elapsed time.Duration) *Series {
	for _, at := range seen {
		elapsed = max(elapsed, at.Sub(started))
	}
	n, step := steps(elapsed)
	s := &Series{Step: step.Seconds()}
	for _, l := range s.counts() {
		*l = make([]float64, n)
	}
	s.P50, s.P99 = make([]float64, n), make([]float64, n)
	slot := func(at time.Time) int { return min(max(int(at.Sub(started)/step), 0), n-1) }
	latencies := make([][]float64, n)
	for i := range results {
		r := &results[i]
		s.Sent[slot(r.Sent)]++
		s.of(r.Answer)[slot(r.Done)]++
		if r.Answer != AnswerAccepted {
			continue
		}
		at, ok := seen[r.Tag]
		if ok {
			s.Delivered[slot(at)]++
		} else {
			at = r.Done
		}
		if ok || len(seen) == 0 {
			k := slot(at)
			latencies[k] = append(latencies[k], float64(at.Sub(r.Done.Add(-r.Latency)).Microseconds()))
		}
	}
	for _, l := range s.counts() {
		for i := range *l {
			(*l)[i] /= step.Seconds()
		}
	}
	for i, l := range latencies {
		if len(l) > 0 {
			slices.Sort(l)
			s.P50[i], s.P99[i] = l[len(l)/2], l[len(l)*99/100]
		}
	}
	return s
}

func (s *Series) counts() []*[]float64 {
	return []*[]float64{&s.Sent, &s.Accepted, &s.Refused, &s.Shed, &s.Failed, &s.Delivered}
}

func (s *Series) of(a Answer) []float64 {
	switch a {
	case AnswerAccepted:
		return s.Accepted
	case AnswerRefused:
		return s.Refused
	case AnswerShed:
		return s.Shed
	case AnswerError, AnswerUnknown, AnswerUnsent:
	}
	return s.Failed
}
