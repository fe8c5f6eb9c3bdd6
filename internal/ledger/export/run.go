package export

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Range is a range of sequences.
type Range struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Summary is what became of one dataset and log.
type Summary struct {
	Dataset string `json:"dataset"`
	Log     string `json:"log"`
	// Position is the last sequence that was looked at, Files and Bytes what was published.
	Position uint64           `json:"position"`
	Rows     int64            `json:"rows"`
	Files    int              `json:"files"`
	Bytes    int64            `json:"bytes"`
	Skipped  map[string]int64 `json:"skipped"`
	// Missed is what the log gave up before it was read.
	Missed []Range `json:"missed"`
}

// Report is what an export did, or has done so far.
type Report struct {
	Datasets []Summary     `json:"datasets"`
	Absent   []string      `json:"absent_logs"` // logs that the node does not keep
	Took     time.Duration `json:"took_ns"`
	// Behind is how many sequences the log that is being read still has.
	Behind uint64 `json:"-"`
}

// Rows is how many rows were written.
func (r *Report) Rows() (n int64) {
	for i := range r.Datasets {
		n += r.Datasets[i].Rows
	}
	return n
}

// Missed reports whether anything was given up before it was read.
func (r *Report) Missed() bool {
	return slices.ContainsFunc(r.Datasets, func(s Summary) bool { return len(s.Missed) > 0 })
}

// Exporter runs one export. Report may be called from any goroutine at any time.
type Exporter struct {
	cfg   Config
	from  Reader
	logs  []Log
	sinks map[Log][]*sink

	mu     sync.Mutex
	began  time.Time
	sums   []*Summary
	absent []string
	behind uint64
}

// New returns an export that has not begun.
func New(cfg Config, from Reader) (*Exporter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Exporter{cfg: cfg, from: from, sinks: make(map[Log][]*sink)}
	for _, d := range cfg.Datasets {
		switch d {
		case DatasetBundles:
			e.add(d, LogRecord, &bundles{senders: newSenders()}, bundleColumns())
		case DatasetReceipts:
			e.add(d, LogRecord, receipts{}, receiptColumns())
		case DatasetLedger:
			e.add(d, LogDone, terminals{}, ledgerColumns())
			e.add(d, LogRejected, terminals{}, ledgerColumns())
		}
	}
	return e, nil
}

func (e *Exporter) add(dataset string, l Log, maker rower, columns []column) {
	sum := &Summary{Dataset: dataset, Log: l.String(), Skipped: map[string]int64{}, Missed: []Range{}}
	e.sums = append(e.sums, sum)
	e.sinks[l] = append(e.sinks[l], newSink(&e.cfg, dataset, l, maker, columns, sum, e.tell))
	if !slices.Contains(e.logs, l) {
		e.logs = append(e.logs, l)
	}
}

func (e *Exporter) tell(sum *Summary, f func(*Summary)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(sum)
}

// Report tells what was done so far.
func (e *Exporter) Report() *Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &Report{Absent: append([]string{}, e.absent...), Behind: e.behind}
	if !e.began.IsZero() {
		r.Took = time.Since(e.began)
	}
	for _, s := range e.sums {
		c := *s
		c.Skipped, c.Missed = maps.Clone(s.Skipped), slices.Clone(s.Missed)
		r.Datasets = append(r.Datasets, c)
	}
	return r
}

// Run exports until everything is read or, when it goes on, until ctx ends, which is no error then.
// Whatever the error, what was read before is published.
func (e *Exporter) Run(ctx context.Context) (err error) {
	e.mu.Lock()
	e.began = time.Now()
	e.mu.Unlock()
	if err := makeDir(e.cfg.Out); err != nil {
		return err
	}
	held, err := lock(e.cfg.Out)
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }()
	if err := e.each((*sink).load); err != nil {
		return err
	}
	defer func() { _ = e.each(func(s *sink) error { s.w.discard(); return nil }) }()
	err = e.passes(ctx)
	if errors.Is(err, errWrite) {
		return err // what is half written is not made whole
	}
	return errors.Join(err, e.each((*sink).finish))
}

// passes reads all logs, again and again if the export goes on.
func (e *Exporter) passes(ctx context.Context) error {
	began := false
	for {
		for _, l := range e.logs {
			err := e.pass(ctx, l)
			switch {
			case err == nil:
				began = true
			case e.cfg.Poll == 0 || !began || errors.Is(err, errWrite) || errors.Is(err, ErrOtherStream):
				if ctx.Err() != nil && e.cfg.Poll > 0 && !errors.Is(err, errWrite) {
					return nil // ended as asked
				}
				return err
			case ctx.Err() == nil && e.cfg.Trouble != nil:
				e.cfg.Trouble(err)
			}
		}
		if e.cfg.Poll == 0 {
			return nil
		}
		t := time.NewTimer(e.cfg.Poll)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

var (
	// errWrite marks a failure to write.
	errWrite = errors.New("write")
	// errEnough ends a reading at Until.
	errEnough = errors.New("enough")
)

// pass reads one log from where its datasets are up to what it holds now.
func (e *Exporter) pass(ctx context.Context, l Log) error {
	from := e.sinks[l][0].next()
	for _, s := range e.sinks[l] {
		from = min(from, s.next())
	}
	var last uint64
	writing := func(f func(*sink) error) error {
		for _, s := range e.sinks[l] {
			if err := f(s); err != nil {
				return errors.Join(errWrite, err)
			}
		}
		return nil
	}
	open := func(sp Span) error {
		last = sp.Last
		e.setBehind(sp.Last, max(from, sp.First))
		for _, s := range e.sinks[l] {
			if err := s.open(sp); err != nil {
				return err
			}
		}
		return nil
	}
	first, err := e.from.Read(ctx, l, from, e.cfg.Since, open, func(m *Message) error {
		if !e.cfg.Until.IsZero() && !m.StoredAt.Before(e.cfg.Until) {
			last = m.Sequence - 1
			return errEnough
		}
		e.setBehind(last, m.Sequence)
		return writing(func(s *sink) error { return s.take(m) })
	})
	switch {
	case errors.Is(err, ErrNoLog):
		e.mu.Lock()
		defer e.mu.Unlock()
		if !slices.Contains(e.absent, l.String()) {
			e.absent = append(e.absent, l.String())
		}
		return nil
	case err != nil && !errors.Is(err, errEnough):
		return fmt.Errorf("export of %s: %w", l, err)
	}
	return writing(func(s *sink) error { return s.passed(first, last) })
}

func (e *Exporter) setBehind(last, at uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.behind = last - min(at, last)
}

func (e *Exporter) each(f func(*sink) error) error {
	var errs []error
	for _, l := range e.logs {
		for _, s := range e.sinks[l] {
			errs = append(errs, f(s))
		}
	}
	return errors.Join(errs...)
}
