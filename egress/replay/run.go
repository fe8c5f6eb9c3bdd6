package replay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/sync/errgroup"

	"millrace/internal/order"
	"millrace/internal/retry"
)

// Source reads the record: f gets every order of the range, up to now, about in the order in which it
// was received. f may block.
type Source interface {
	Record(ctx context.Context, r Range, f func(order.Delivery) error) error
}

// Outcome is what a target made of one request.
type Outcome uint8

// The outcomes.
const (
	Accepted Outcome = iota + 1
	Refused          // the order itself is at fault
	Busy             // not now
	Lost             // no answer, or none that means anything
)

// Request is one request for one order.
type Request struct {
	// Order is as it goes out: Body, and for a door Signature ("Name: value").
	Order *order.Order
	// Attempt counts from one.
	Attempt int
}

// Answer is the outcome of one request.
type Answer struct {
	Outcome Outcome
	// Reason is why, when it is not Accepted; few distinct words.
	Reason string
	// Hash is the public hash that the target answered with; zero: none.
	Hash common.Hash
	// RetryAfter is when to come back, for Busy; zero: soon.
	RetryAfter time.Duration
}

// Sender makes one request.
type Sender interface {
	Send(ctx context.Context, r Request) Answer
}

// Replayer replays a range once.
type Replayer struct {
	cfg    Config
	source Source
	sender Sender
	prep   preparer

	began time.Time // of the schedule: when the first order is due
	first time.Time // received

	mu     sync.Mutex // guards what follows
	report Report
	hist   *hdrhistogram.Histogram
}

// New returns a replayer that has not begun. rules check a builder feed and may be nil otherwise;
// sender may be nil for a dry run.
func New(cfg Config, source Source, sender Sender, rules Rules) (*Replayer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if source == nil || sender == nil && !cfg.DryRun || rules == nil && cfg.As == AsBuilder {
		return nil, errors.Join(ErrConfig, errors.New("source, sender or rules are missing"))
	}
	return &Replayer{
		cfg: cfg, source: source, sender: sender, prep: preparer{cfg: cfg, rules: rules}, hist: newHistogram(),
		report: Report{
			DryRun: cfg.DryRun, Refusals: map[string]int{}, Losses: map[string]int{}, Held: map[string]int{},
			Methods: map[string]int{}, Classes: map[string]int{},
		},
	}, nil
}

// errLimit ends the reading when enough orders are chosen.
var errLimit = errors.New("enough orders")

// Run replays the range. The report is never nil; the error is that of the source, and not of orders,
// which are the report's (Report.Err). When ctx ends, Run stops and returns nil with a report that is
// not complete.
func (r *Replayer) Run(ctx context.Context) (*Report, error) {
	start := time.Now()
	r.mu.Lock()
	r.report.Started = start
	r.mu.Unlock()

	// Requests outlive ctx by Drain.
	wire, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(r.cfg.Drain, cut) })()

	chosen := make(chan order.Delivery, 64) // full: reading waits
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(chosen)
		return r.read(gctx, chosen)
	})
	complete := true
	g.Go(func() error {
		complete = r.schedule(gctx, wire, chosen)
		return nil
	})
	err := g.Wait()

	r.mu.Lock()
	defer r.mu.Unlock()
	rep := &r.report
	rep.Elapsed = time.Since(start)
	rep.Complete = err == nil && complete && ctx.Err() == nil
	rep.Rate = float64(rep.Sent) / max(rep.Elapsed.Seconds(), 1e-9)
	rep.Latency = latency(r.hist)
	if ctx.Err() != nil {
		return rep, nil // broken off: the report says so
	}
	return rep, err
}

// read reads the range in the order of receipt and hands on what the filters choose.
func (r *Replayer) read(ctx context.Context, to chan<- order.Delivery) error {
	chosen := 0
	line := reorder{to: func(d order.Delivery) error {
		select {
		case to <- d:
		case <-ctx.Done():
			return ctx.Err()
		}
		if chosen++; chosen == r.cfg.Limit {
			return errLimit
		}
		return nil
	}}
	err := r.source.Record(ctx, r.cfg.Range, func(d order.Delivery) error {
		match := r.cfg.Filters.Match(d.Order)
		r.mu.Lock()
		r.report.Read++
		r.mu.Unlock()
		if !match {
			return nil
		}
		return line.add(d)
	})
	if err == nil {
		err = line.flush()
	}
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// key is what orders of which go out one after the other.
type key struct {
	signer common.Address
	uuid   order.UUID
}

// maxChains is when the ends of finished chains are forgotten.
const maxChains = 4096

// schedule starts each order at its time, on a free connection, and waits for the last answer; false:
// ctx ended first. wire is the context of requests.
func (r *Replayer) schedule(ctx, wire context.Context, chosen <-chan order.Delivery) bool {
	var sending sync.WaitGroup
	defer sending.Wait()
	slots := make(chan struct{}, r.cfg.Connections)
	chains := map[key]chan struct{}{}
	for d := range chosen {
		due := r.due(d.Order)
		if !retry.Pause(ctx, time.Until(due)) {
			return false
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		after, done := chain(chains, d.Order)
		sending.Go(func() {
			defer func() {
				close(done)
				<-slots
			}()
			if after != nil {
				<-after // it holds its connection already, so this ends
			}
			r.replay(ctx, wire, d, due)
		})
	}
	return true
}

// chain returns what an order has to wait for, nil for nothing, and what it closes when it is done.
func chain(chains map[key]chan struct{}, o *order.Order) (after, done chan struct{}) {
	done = make(chan struct{})
	if o.Replacement.IsZero() {
		return nil, done
	}
	if len(chains) >= maxChains {
		for k, c := range chains {
			select {
			case <-c:
				delete(chains, k)
			default:
			}
		}
	}
	k := key{o.Signer, o.Replacement}
	after = chains[k]
	chains[k] = done
	return after, done
}

// due is when an order is to begin; without a speed, now.
func (r *Replayer) due(o *order.Order) time.Time {
	now := time.Now()
	if r.first.IsZero() {
		r.first, r.began = o.ReceivedAt, now
	}
	if r.cfg.Speed == 0 || r.cfg.DryRun {
		return now
	}
	return r.began.Add(time.Duration(float64(o.ReceivedAt.Sub(r.first)) / r.cfg.Speed))
}

// replay makes one order ready and sends it until it has a final answer. stop ends the tries, wire
// the request under way.
func (r *Replayer) replay(stop, wire context.Context, d order.Delivery, due time.Time) {
	at := due
	if r.cfg.DryRun && r.cfg.Speed > 0 {
		at = r.began.Add(time.Duration(float64(d.Order.ReceivedAt.Sub(r.first)) / r.cfg.Speed))
	}
	o, err := r.prep.prepare(d, at)
	began := time.Now()
	r.note(d.Order, d.Sequence, began.Sub(due))
	if err != nil {
		r.unsent(err)
		return
	}
	if r.cfg.DryRun {
		return
	}
	from := began
	if r.cfg.Speed > 0 && began.Sub(due) > LateAfter {
		from = due
	}
	var a Answer
	tries := 0
	for n := 1; ; n++ {
		tries = n
		a = r.sender.Send(wire, Request{Order: o, Attempt: n})
		if a.Outcome == Accepted || a.Outcome == Refused || n >= r.cfg.Tries {
			break
		}
		if !retry.Pause(stop, max(a.RetryAfter, min(50*time.Millisecond<<n, 2*time.Second))) {
			break
		}
	}
	r.answered(d.Order, o, a, tries, time.Since(from))
}

// note counts an order that has its connection.
func (r *Replayer) note(o *order.Order, sequence uint64, lag time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := &r.report
	rep.Chosen++
	rep.Methods[o.Method.String()]++
	rep.Classes[o.Priority.String()]++
	if rep.FirstAt.IsZero() || o.ReceivedAt.Before(rep.FirstAt) {
		rep.FirstAt = o.ReceivedAt
	}
	if o.ReceivedAt.After(rep.LastAt) {
		rep.LastAt = o.ReceivedAt
	}
	rep.Sequence = max(rep.Sequence, sequence)
	if r.cfg.Speed > 0 && !r.cfg.DryRun && lag > LateAfter {
		rep.Late++
		rep.MaxLag = max(rep.MaxLag, lag)
	}
}

// unsent counts an order that was not sent.
func (r *Replayer) unsent(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, withheld := errors.AsType[*invalidError](err); withheld {
		r.report.Withheld++
		count(r.report.Held, err.Error())
		return
	}
	r.report.Unsendable++
	count(r.report.Losses, err.Error())
}

// answered counts a final answer. The recorded order is compared with what the target says it is.
func (r *Replayer) answered(recorded, sent *order.Order, a Answer, tries int, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := &r.report
	rep.Sent++
	rep.Resent += tries - 1
	switch a.Outcome {
	case Accepted:
		rep.Accepted++
		rep.Bytes += len(sent.Body)
		if r.comparable(recorded) && a.Hash != (common.Hash{}) && a.Hash != recorded.Hash {
			rep.OtherHash++
		}
	case Refused:
		rep.Refused++
		count(rep.Refusals, a.Reason)
	default:
		rep.Lost++
		count(rep.Losses, a.Reason)
		return
	}
	if r.hist.RecordValue(max(took.Microseconds(), 1)) != nil {
		_ = r.hist.RecordValue(r.hist.HighestTrackableValue())
	}
}

// comparable reports whether a target must answer with the recorded hash: not when times or blocks are
// others, nor when the nonce that the hash covers was the first door's own, nor where every
// implementation has an id of its own.
func (r *Replayer) comparable(o *order.Order) bool {
	return r.cfg.As == AsIngress && !r.cfg.ShiftTime && r.cfg.ShiftBlocks == 0 &&
		(o.Replacement.IsZero() || !o.NonceDefaulted) &&
		o.Method != order.MethodSendShareBundle && o.Method != order.MethodCancelBundle
}

// Progress is how far a replay is.
type Progress struct {
	Counts
	Elapsed  time.Duration
	Sequence uint64 // of the record, the newest that was begun
	Reached  time.Time
}

// Progress returns how far the replay is; it may be called while Run runs.
func (r *Replayer) Progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Progress{Counts: r.report.Counts, Sequence: r.report.Sequence, Reached: r.report.LastAt}
	if !r.report.Started.IsZero() {
		p.Elapsed = time.Since(r.report.Started)
	}
	return p
}
