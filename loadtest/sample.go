package loadtest

import (
	"context"
	"sync"
	"time"
)

// sampleEvery is how often processes are looked at: two small files each.
const sampleEvery = 250 * time.Millisecond

// Load over time of the watched processes and of the generator.
type usageSample struct {
	at    time.Time
	watch Usage
	own   Usage
}

// sampler looks at the watched processes and at this one while a run lasts.
type sampler struct {
	pids []int

	mu      sync.Mutex
	samples []usageSample
}

// take looks now.
func (s *sampler) take() error {
	watch, err := ReadUsage(s.pids)
	if err != nil {
		return err
	}
	own, err := ReadUsage(self())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, usageSample{at: time.Now(), watch: watch, own: own})
	return nil
}

// run looks every so often until ctx ends.
func (s *sampler) run(ctx context.Context) error {
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := s.take(); err != nil {
			return err
		}
	}
}

// until is the first look at or after a time, else the last.
func (s *sampler) until(at time.Time) usageSample {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.samples {
		if !u.at.Before(at) {
			return u
		}
	}
	return s.samples[len(s.samples)-1]
}

func (s *sampler) first() usageSample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.samples[0]
}

// UsageSeries is what processes used over time: interval i ends Seconds[i] after the start.
type UsageSeries struct {
	Seconds      []float64 `json:"seconds"`
	Cores        []float64 `json:"cores"` // of the watched processes; 1 is one core busy
	RSS          []int64   `json:"rss_bytes"`
	GeneratorCPU []float64 `json:"generator_cores"`
	GeneratorRSS []int64   `json:"generator_rss_bytes"`
}

// series thins the samples up to end out and turns times of CPU into cores.
func (s *sampler) series(end time.Time) *UsageSeries {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &UsageSeries{}
	samples := s.samples
	for len(samples) > 1 && samples[len(samples)-2].at.After(end) {
		samples = samples[:len(samples)-1]
	}
	stride := (len(samples) + seriesPoints - 1) / seriesPoints
	for i := stride; i < len(samples); i += stride {
		a, b := samples[i-stride], samples[i]
		took := b.at.Sub(a.at).Seconds()
		if took <= 0 {
			continue
		}
		u.Seconds = append(u.Seconds, b.at.Sub(samples[0].at).Seconds())
		u.Cores = append(u.Cores, max(b.watch.CPU-a.watch.CPU, 0).Seconds()/took)
		u.RSS = append(u.RSS, b.watch.RSS)
		u.GeneratorCPU = append(u.GeneratorCPU, max(b.own.CPU-a.own.CPU, 0).Seconds()/took)
		u.GeneratorRSS = append(u.GeneratorRSS, b.own.RSS)
	}
	return u
}
