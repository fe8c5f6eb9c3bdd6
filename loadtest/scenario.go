package loadtest

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
)

// Scenario is a load test: flows that run together, the sink behind the door, and what to check.
type Scenario struct {
	Flows []Flow // flow i is tagged i
	// Sink records what arrives; nil: only answers are measured and nothing is checked.
	Sink *Sink
	// Admin is the base URL of the admin listener whose /ledger is checked; empty: by receipts alone.
	Admin string
	// Expect says what the check may assume.
	Expect Expect
	// Settle is how long the orders on their way get after the last answer, default 10 s.
	Settle time.Duration
	// PIDs are the processes whose CPU and memory are reported.
	PIDs []int
	// Notes gets a line about every 10 s of a run; nil: none.
	Notes io.Writer
}

// settlePoll is how often the ledger is asked whether everything has ended.
const settlePoll = 250 * time.Millisecond

// Run sends all flows, waits until the accepted orders have ended, and reports. The error says that
// the run could not be made; broken promises are in the report.
func Run(ctx context.Context, s Scenario) (*Report, error) {
	if s.Settle == 0 {
		s.Settle = 10 * time.Second
	}
	journal := &Journal{}
	senders, err := prepare(ctx, s, journal)
	if err != nil {
		return nil, err
	}
	before, err := ReadUsage(s.PIDs)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	defer s.note(journal, started, noteEvery)()
	g, gctx := errgroup.WithContext(ctx)
	for _, sender := range senders {
		g.Go(func() error { return sender.Run(gctx) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	elapsed := time.Since(started)
	var v *Verification
	var receipts []Receipt
	if s.Sink != nil {
		t := Trial{Journal: journal, Sink: s.Sink, Admin: s.Admin, Since: started, Expect: s.Expect}
		if v, receipts, err = t.Settle(ctx, s.Settle); err != nil {
			return nil, err
		}
	}
	after, err := ReadUsage(s.PIDs)
	if err != nil {
		return nil, err
	}
	rep := Summarize(s.names(), journal.Results(), receipts)
	rep.Started, rep.Elapsed, rep.Check = started, elapsed, v
	rep.CPU, rep.PeakRSS = after.CPU-before.CPU, after.PeakRSS
	if n := journal.Count(AnswerAccepted); n > 0 {
		rep.PerOrder = rep.CPU / time.Duration(n)
	}
	return rep, nil
}

func prepare(ctx context.Context, s Scenario, j *Journal) ([]*Sender, error) {
	if len(s.Flows) == 0 {
		return nil, fmt.Errorf("%w: no flow", ErrConfig)
	}
	var senders []*Sender
	for i, f := range s.Flows {
		f.Corpus.Flow = uint16(i)
		sender, err := NewSender(f, j)
		if err != nil {
			return nil, err
		}
		if err := sender.Prepare(ctx); err != nil {
			return nil, err
		}
		senders = append(senders, sender)
	}
	return senders, nil
}

func (s Scenario) names() []string {
	var names []string
	for _, f := range s.Flows {
		names = append(names, f.Name)
	}
	return names
}

// Trial is what a verdict needs: who was told what, who got what, and where the records are.
type Trial struct {
	Journal *Journal
	Sink    *Sink
	Admin   string    // base URL of the admin listener; empty: by receipts alone
	Since   time.Time // when the first order was sent
	Expect  Expect
}

// Settle checks until nothing is missing any more or patience is over; the last verdict counts. The
// error says that the ledger could not be read.
func (t Trial) Settle(ctx context.Context, patience time.Duration) (*Verification, []Receipt, error) {
	want := t.Expect
	want.NoLedger = want.NoLedger || t.Admin == ""
	end := time.Now().Add(patience)
	for {
		var records []Record
		var err error
		if !want.NoLedger {
			// The ledger is on the bus's clock, which may be behind ours by what readiness allows.
			records, err = FetchLedger(ctx, t.Admin, t.Since.Add(-time.Second))
		}
		receipts := t.Sink.Receipts()
		v := Check(t.Journal.Results(), receipts, records, want)
		settled := err == nil && v.Breaks[BreakLost] == 0 && v.Breaks[BreakNotRecorded] == 0 && v.Breaks[BreakNoReceipt] == 0
		if settled || time.Now().After(end) {
			return v, receipts, err
		}
		pause(ctx, settlePoll)
		if ctx.Err() != nil {
			return v, receipts, ctx.Err()
		}
	}
}
