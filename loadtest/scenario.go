package loadtest

import (
	"context"
	"errors"
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

// usageTail is how long after the last event the processes' cost still counts as the run's.
const usageTail = 250 * time.Millisecond

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
	var stages map[stageKey]bucketed
	if s.Admin != "" {
		if stages, err = scrapeStages(ctx, s.Admin); err != nil {
			return nil, err
		}
	}
	m := &measured{scenario: s, journal: journal, senders: senders, sampler: &sampler{pids: s.PIDs}}
	if err := m.run(ctx); err != nil {
		return nil, err
	}
	rep := m.report()
	if s.Admin != "" {
		after, err := scrapeStages(ctx, s.Admin)
		if err != nil {
			return nil, err
		}
		rep.Stages = stagesBetween(stages, after)
	}
	return rep, nil
}

// measured is one run and what was seen of it.
type measured struct {
	scenario Scenario
	journal  *Journal
	senders  []*Sender
	sampler  *sampler

	started  time.Time
	elapsed  time.Duration // of the sending
	receipts []Receipt
	verdict  *Verification
}

// run sends, settles, and watches meanwhile.
func (m *measured) run(ctx context.Context) error {
	if err := m.sampler.take(); err != nil {
		return err
	}
	m.started = time.Now()
	defer m.scenario.note(m.journal, m.started, noteEvery)()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	w, watch := errgroup.WithContext(watch)
	w.Go(func() error { return m.sampler.run(watch) })
	g, gctx := errgroup.WithContext(watch)
	for _, sender := range m.senders {
		g.Go(func() error { return sender.Run(gctx) })
	}
	err := g.Wait()
	m.elapsed = time.Since(m.started)
	if err == nil {
		err = m.settle(ctx)
	}
	stop()
	if err := errors.Join(err, w.Wait()); err != nil {
		return err
	}
	return m.sampler.take()
}

func (m *measured) settle(ctx context.Context) (err error) {
	s := m.scenario
	if s.Sink == nil {
		return ctx.Err()
	}
	t := Trial{Journal: m.journal, Sink: s.Sink, Admin: s.Admin, Since: m.started, Expect: s.Expect}
	m.verdict, m.receipts, err = t.Settle(ctx, s.Settle)
	return err
}

// report puts together what was seen.
func (m *measured) report() *Report {
	results := m.journal.Results()
	seen := firstReceipts(m.receipts)
	rep := summarizeAll(m.scenario.names(), results, seen)
	rep.Schema, rep.Setup = SchemaRun, m.scenario.setup()
	rep.Started, rep.Elapsed, rep.Check = m.started, m.elapsed, m.verdict
	rep.Series = newSeries(results, seen, m.started, m.elapsed)
	end := m.started.Add(m.elapsed)
	delivered := 0
	for i := range results {
		if at, ok := seen[results[i].Tag]; ok {
			delivered++
			end = later(end, at)
		}
	}
	before, after := m.sampler.first(), m.sampler.until(end.Add(usageTail))
	rep.Usage = m.sampler.series(after.at)
	rep.CPU, rep.PeakRSS = max(after.watch.CPU-before.watch.CPU, 0), after.watch.PeakRSS
	rep.PerOrder = per(rep.CPU, m.journal.Count(AnswerAccepted))
	rep.PerDelivered = per(rep.CPU, delivered)
	g := &rep.Generator
	g.CPU = after.own.CPU - before.own.CPU
	g.PerOrder = per(g.CPU, len(results))
	g.Cores = g.CPU.Seconds() / after.at.Sub(before.at).Seconds()
	for _, s := range m.senders {
		st := s.Starved()
		g.Starved.Orders += st.Orders
		g.Starved.Shift += st.Shift
	}
	g.judge(m.scenario.Flows, rep)
	return rep
}

// per is a cost divided by a number of orders; zero without any.
func per(cost time.Duration, orders int) time.Duration {
	if orders == 0 {
		return 0
	}
	return cost / time.Duration(orders)
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
	presumed := 0
	for {
		var records []Record
		var err error
		if !want.NoLedger {
			// The ledger is on the bus's clock, which may be behind ours by what readiness allows.
			records, err = FetchLedger(ctx, t.Admin, t.Since.Add(-time.Second))
		}
		receipts := t.Sink.Receipts()
		v := Check(t.Journal.Results(), receipts, records, want)
		// What looks superseded may be on its way still: then the next look finds another number.
		settled := err == nil && v.Superseded == presumed && v.Breaks[BreakLost] == 0 && v.Breaks[BreakNotRecorded] == 0 && v.Breaks[BreakNoReceipt] == 0
		if settled || time.Now().After(end) {
			return v, receipts, err
		}
		presumed = v.Superseded
		pause(ctx, settlePoll)
		if ctx.Err() != nil {
			return v, receipts, ctx.Err()
		}
	}
}
