package loadtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Contender is one target of a comparison or sweep: a door, and what is known about what is behind.
type Contender struct {
	Name   string
	URLs   []string // doors
	Sink   *Sink    // the builder behind it; nil: answers alone are measured
	Admin  string   // base URL of the admin listener; empty: no ledger and no stages
	Target string   // name of its builder in the ledger
	PIDs   []int    // its processes
}

// Leg is one measured stretch against one contender.
type Leg struct {
	Target string  `json:"target"`
	Pair   int     `json:"pair"`
	Report *Report `json:"report"`
	// Idle is what the other contenders' processes used meanwhile, in cores: what they steal.
	Idle float64 `json:"others_cores"`
}

// track runs legs against contenders in turn and knows where in the corpus each one is, so that an
// order is never sent twice to the same one and repeats lie as far back as the distribution says.
type track struct {
	contenders []Contender
	flow       Flow // what each leg sends; name, URLs and First are the leg's
	settle     time.Duration
	notes      io.Writer

	first map[string]uint64
	pair  int
}

func newTrack(cs []Contender, flow Flow, settle time.Duration, notes io.Writer) (*track, error) {
	if len(cs) == 0 {
		return nil, fmt.Errorf("%w: no target", ErrConfig)
	}
	names := map[string]bool{}
	for _, c := range cs {
		if c.Name == "" || names[c.Name] || len(c.URLs) == 0 {
			return nil, fmt.Errorf("%w: target %q", ErrConfig, c.Name)
		}
		names[c.Name] = true
	}
	return &track{contenders: cs, flow: flow, settle: settle, notes: notes, first: map[string]uint64{}}, nil
}

// others are the processes of all contenders but one.
func (t *track) others(c Contender) []int {
	var pids []int
	for _, o := range t.contenders {
		if o.Name != c.Name {
			pids = append(pids, o.PIDs...)
		}
	}
	slices.Sort(pids)
	pids = slices.Compact(pids)
	return slices.DeleteFunc(pids, func(pid int) bool { return slices.Contains(c.PIDs, pid) })
}

// run measures one leg with flow, which the caller may have changed from the track's.
func (t *track) run(ctx context.Context, c Contender, flow Flow) (Leg, error) {
	flow.Name, flow.URLs, flow.First = c.Name, c.URLs, t.first[c.Name]
	// Two targets with one sink: what one of them delivers late is not the other's.
	i := slices.IndexFunc(t.contenders, func(o Contender) bool { return o.Name == c.Name })
	flow.Corpus.Run = flow.Corpus.Seed + uint64(i)<<32 //nolint:gosec // positive
	if c.Sink != nil {
		c.Sink.Reset()
	}
	others := t.others(c)
	before, err := ReadUsage(others)
	if err != nil {
		return Leg{}, err
	}
	began := time.Now()
	rep, err := Run(ctx, Scenario{
		Flows: []Flow{flow}, Sink: c.Sink, Admin: c.Admin, Expect: Expect{Targets: []string{c.Target}},
		Settle: t.settle, PIDs: c.PIDs,
	})
	if err != nil {
		return Leg{}, fmt.Errorf("target %s: %w", c.Name, err)
	}
	after, err := ReadUsage(others)
	if err != nil {
		return Leg{}, err
	}
	t.first[c.Name] += uint64(rep.Flows[0].Sent) + journalGap //nolint:gosec // positive
	leg := Leg{Target: c.Name, Pair: t.pair, Report: rep}
	if took := time.Since(began); took > 0 {
		leg.Idle = max(after.CPU-before.CPU, 0).Seconds() / took.Seconds()
	}
	return leg, nil
}

// journalGap is more than the orders that a leg may have taken from its feed without sending them.
const journalGap = 16

// note writes a line about a leg.
func (t *track) note(format string, args ...any) {
	if t.notes != nil {
		_, _ = fmt.Fprintf(t.notes, format+"\n", args...)
	}
}

// self is this process, whose own cost is part of every report.
func self() []int { return []int{os.Getpid()} }
