package regions

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Hooks do what a network can't.
type Hooks struct {
	// Restart kills a node and starts it again; nil: a step that wants it fails.
	Restart func(ctx context.Context, node string) error
}

// Event is one thing that happened.
type Event struct {
	At   time.Duration `json:"at_ns"` // since the start, when it had happened
	What string        `json:"what"`
	// Error says why it did not happen.
	Error string `json:"error,omitempty"`
}

// moment is one thing that is to happen.
type moment struct {
	at   time.Duration
	what string
	do   func(context.Context) error
}

// Play lets a scenario happen and returns what happened when the last step is over or ctx ends. One
// thing happens after the other: a restart that takes long delays what comes next, and events say when
// they were.
func (n *Network) Play(ctx context.Context, s Scenario, h Hooks) ([]Event, error) {
	if err := s.Validate(n.topology); err != nil {
		return nil, err
	}
	var events []Event
	start := time.Now()
	for _, m := range n.moments(s, h) {
		if wait(time.Until(start.Add(m.at)), ctx.Done()); ctx.Err() != nil {
			return events, nil //nolint:nilerr // the end of the run
		}
		events = append(events, m.happen(ctx, start))
	}
	return events, nil
}

// happen does it and says what came of it.
func (m moment) happen(ctx context.Context, start time.Time) Event {
	e := Event{What: m.what}
	if err := m.do(ctx); err != nil {
		e.Error = err.Error()
	}
	e.At = time.Since(start)
	return e
}

// moments is a scenario, in order of time; what comes at the same time keeps the order of the file.
func (n *Network) moments(s Scenario, h Hooks) []moment {
	var out []moment
	for _, step := range s.Steps {
		out = append(out, n.step(step, h)...)
	}
	slices.SortStableFunc(out, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	return out
}

func (n *Network) step(s Step, h Hooks) []moment {
	pairs := s.pairs(n.topology)
	on := func(at time.Duration, verb string, do func(Pair) error) moment {
		return moment{at, verb + " " + spell(pairs), func(context.Context) error { return onEach(pairs, do) }}
	}
	var out []moment
	switch s.Do {
	case ActionPartition:
		out = append(out, on(s.At, "partition", n.Partition))
		if s.For > 0 {
			out = append(out, on(s.At+s.For, "heal", n.Heal))
		}
	case ActionFlap:
		for at := s.At; at < s.At+s.For; at += 2 * s.Every {
			out = append(out, on(at, "partition", n.Partition), on(min(at+s.Every, s.At+s.For), "heal", n.Heal))
		}
	case ActionSlow:
		verb := fmt.Sprintf("slow to %s ± %s, %s", s.Delay, s.Jitter, s.Bandwidth)
		out = append(out, on(s.At, verb, func(p Pair) error { return n.Slow(p, s.Conditions) }))
		if s.For > 0 {
			out = append(out, on(s.At+s.For, "restore", n.Restore))
		}
	case ActionReset:
		out = append(out, on(s.At, "reset", n.Reset))
	case ActionRestart:
		out = append(out, moment{s.At, "restart " + s.Node, func(ctx context.Context) error {
			if h.Restart == nil {
				return fmt.Errorf("%w: nodes that were not started here can't be restarted", ErrScenario)
			}
			return h.Restart(ctx, s.Node)
		}})
	}
	return out
}

func onEach(pairs []Pair, do func(Pair) error) error {
	for _, p := range pairs {
		if err := do(p); err != nil {
			return err
		}
	}
	return nil
}

func spell(pairs []Pair) string {
	var names []string
	for _, p := range pairs {
		names = append(names, p.String())
	}
	return strings.Join(names, " ")
}
