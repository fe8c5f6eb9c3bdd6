package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/order"
	"millrace/subjects"
)

const (
	// purgeEvery is inside the 1 to 4 s in which purging costs publishers least (CORRECTNESS 1).
	purgeEvery   = 2 * time.Second
	purgeTimeout = 10 * time.Second
	// sourceSilence is how long a source that is up to date may not have been heard of.
	sourceSilence = 10 * time.Second
	// unboundedSequence is the bound of something that does not hold purging back.
	unboundedSequence = math.MaxUint64
)

// PurgeConfig is what Purge needs to know of the topology.
type PurgeConfig struct {
	Window       time.Duration // orders.max_age: the duplicate window of IN and OK
	Record       bool          // whether RECORD is declared
	RecordPaused func() bool   // whether the guard has taken RECORD's sources away; nil: never
}

// Purge takes out of IN and OK what is done (CORRECTNESS 1): up to the lowest ack floor of the
// stream's local consumers (the workers; every target) and, on IN, to what RECORD has copied, but
// never what is inside the duplicate window, because a server that starts again knows only the ids
// that are still stored. What peers have not fetched does not hold it back.
//
// IN is never purged without its consumer. OK without any target is purged when no target that is
// added later could be owed it.
//
// What is old enough is known from looking at the last sequence each round, so nothing is purged in
// the first window after a start.
type Purge struct {
	js      jetstream.JetStream
	cfg     PurgeConfig
	log     *slog.Logger
	metrics *purgeMetrics
	streams []*purgeStream
}

// purgeStream is what Purge remembers of one stream; of Run's goroutine.
type purgeStream struct {
	name     string
	priority order.Priority
	input    bool // IN, not OK
	history  history
	gap      gap
	copied   copied
}

// NewPurge returns a Purge of all IN and OK streams; reg gets the millrace_bus_purged_… and
// millrace_bus_record_… series.
func NewPurge(js jetstream.JetStream, cfg PurgeConfig, log *slog.Logger, reg prometheus.Registerer) *Purge {
	p := &Purge{js: js, cfg: cfg, log: log, metrics: newPurgeMetrics(reg)}
	if p.cfg.RecordPaused == nil {
		p.cfg.RecordPaused = func() bool { return false }
	}
	for _, c := range order.Priorities {
		p.streams = append(p.streams,
			&purgeStream{name: subjects.StreamIn(c), priority: c, input: true},
			&purgeStream{name: subjects.StreamOK(c), priority: c})
	}
	return p
}

// Run purges every two seconds until ctx ends.
func (p *Purge) Run(ctx context.Context) error {
	r := rounds{name: "purge", log: p.log}
	return r.every(ctx, purgeEvery, p.Sweep)
}

// Sweep does one round over all streams; one that fails does not keep the others from it. It must
// not run beside itself.
func (p *Purge) Sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	record, err := p.record(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range p.streams {
		if err := p.sweep(ctx, s, record); err != nil {
			errs = append(errs, fmt.Errorf("purge %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}

func (p *Purge) sweep(ctx context.Context, s *purgeStream, record *recording) error {
	stream, err := p.js.Stream(ctx, s.name)
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	s.history.add(info.State.LastSeq, info.TimeStamp)
	consumed, held, err := floor(ctx, stream, s, info.State.LastSeq)
	if err != nil {
		return err
	}
	old := info.TimeStamp.Add(-p.cfg.Window)
	if held == 0 {
		old = old.Add(-subjects.AckWaitMargin)
	}
	s.history.forget(info.TimeStamp.Add(-p.cfg.Window - subjects.AckWaitMargin))
	to := min(consumed, s.history.storedBefore(old))
	if s.input {
		if to, err = p.recorded(ctx, s, record, to, info); err != nil {
			return err
		}
	}
	if to == 0 || to < info.State.FirstSeq || info.State.Msgs == 0 {
		return nil
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(to+1)); err != nil {
		return err
	}
	p.metrics.purged.WithLabelValues(s.name).Add(float64(to + 1 - info.State.FirstSeq))
	return nil
}

// floor returns up to where every local consumer of the stream is done, and how many there are. last is the last
// sequence of the stream at an earlier look: up to there a consumer that has nothing left is done, although its floor
// stays where its filter last let something pass.
func floor(ctx context.Context, stream jetstream.Stream, s *purgeStream, last uint64) (seq uint64, consumers int, err error) {
	seq = unboundedSequence
	list := stream.ListConsumers(ctx)
	for c := range list.Info() {
		if !s.holds(c.Name) {
			continue
		}
		done := c.AckFloor.Stream
		if subjects.ScopeOf(c.Config) != order.ScopeAll && c.NumPending == 0 && c.NumAckPending == 0 {
			done = max(done, last)
		}
		seq = min(seq, done)
		consumers++
	}
	if err := list.Err(); err != nil {
		return 0, 0, fmt.Errorf("list consumers: %w", err)
	}
	if s.input && consumers == 0 {
		seq = 0 // not validated by anyone yet
	}
	return seq, consumers, nil
}

// holds reports whether a consumer of this name keeps what it has not done: ours do, a peer's or
// an operator's do not.
func (s *purgeStream) holds(consumer string) bool {
	if s.input {
		return consumer == subjects.WorkerDurable
	}
	return strings.HasPrefix(consumer, subjects.TargetDurable(""))
}
