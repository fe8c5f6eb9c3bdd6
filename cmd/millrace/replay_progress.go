package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"millrace/egress/replay"
)

const (
	barWidth  = 30
	barEvery  = 200 * time.Millisecond
	lineEvery = 10 * time.Second
)

// showProgress draws a bar on a terminal and writes a line now and then elsewhere, until the returned
// function is called.
func showProgress(w io.Writer, r *replay.Replayer, cfg replay.Config, last uint64) (stop func()) {
	terminal := isTerminal(w)
	every := lineEvery
	if terminal {
		every = barEvery
	}
	p := progress{cfg: cfg, last: last, begun: time.Now()}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				if terminal {
					fmt.Fprint(w, "\r\x1b[K")
				}
				return
			case <-tick.C:
				if terminal {
					fmt.Fprint(w, "\r"+p.bar(r.Progress())+"\x1b[K")
				} else {
					fmt.Fprintln(w, p.line(r.Progress()))
				}
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// progress knows where the range begins and ends: in time when it is bounded by times, else by the
// sequences of the record.
type progress struct {
	cfg   replay.Config
	last  uint64
	begun time.Time
	first uint64 // sequence of the first order seen
}

// share is how much is done, between 0 and 1.
func (p *progress) share(at replay.Progress) float64 {
	if p.cfg.Limit > 0 {
		return min(float64(at.Chosen)/float64(p.cfg.Limit), 1)
	}
	until := p.cfg.Range.Until
	if since := p.cfg.Range.Since; !until.IsZero() && !since.IsZero() && !at.Reached.IsZero() {
		return clamp(at.Reached.Sub(since).Seconds() / until.Sub(since).Seconds())
	}
	if p.first == 0 {
		p.first = at.Sequence
	}
	if p.last <= p.first {
		return 0
	}
	return clamp(float64(at.Sequence-p.first) / float64(p.last-p.first))
}

func clamp(f float64) float64 { return max(0, min(f, 1)) }

func (p *progress) bar(at replay.Progress) string {
	share := p.share(at)
	full := int(share * barWidth)
	return fmt.Sprintf("[%s%s] %3.0f%% %s", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), share*100, p.counts(at))
}

func (p *progress) line(at replay.Progress) string {
	return fmt.Sprintf("replay: %.0f%%, %s", p.share(at)*100, p.counts(at))
}

func (p *progress) counts(at replay.Progress) string {
	text := fmt.Sprintf("%d sent, %.0f/s, %d accepted, %d refused, %d lost, %d late", at.Sent,
		float64(at.Sent)/max(at.Elapsed.Seconds(), 0.001), at.Accepted, at.Refused, at.Lost, at.Late)
	if !at.Reached.IsZero() {
		text += ", at " + at.Reached.UTC().Format("15:04:05.000")
	}
	return text
}

// isTerminal reports whether a person looks at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
