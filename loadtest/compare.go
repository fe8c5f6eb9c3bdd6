package loadtest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// CompareConfig says what a comparison sends to whom.
type CompareConfig struct {
	Contenders []Contender
	// Base is the contender that the others are divided by; empty: the last one.
	Base string
	// Pairs is how often each is measured, A B A B.
	Pairs int
	// Flow is what each leg sends; name, doors and first order are the leg's.
	Flow Flow
	// Warmup is the length of a first leg against each that isn't counted; zero: none.
	Warmup time.Duration
	// Pause lies between two legs.
	Pause time.Duration
	// Settle is how long the orders on their way get after each leg.
	Settle time.Duration
	// Notes gets a line per leg; nil: none.
	Notes io.Writer
}

// Comparison is what several targets did with the same load, measured in turn.
type Comparison struct {
	Schema   string    `json:"schema"`
	Started  time.Time `json:"started"`
	Setup    Setup     `json:"setup"`
	Targets  []string  `json:"targets"`
	Base     string    `json:"base"`
	Legs     []Leg     `json:"legs"` // in the order in which they ran
	Ratios   []Ratio   `json:"ratios"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Compare measures the contenders in turn. Only one is sent to at a time; what the idle ones use
// meanwhile is in each leg.
func Compare(ctx context.Context, cfg CompareConfig) (*Comparison, error) {
	t, err := newTrack(cfg.Contenders, cfg.Flow, cfg.Settle, cfg.Notes)
	if err != nil {
		return nil, err
	}
	c := &Comparison{Schema: SchemaCompare, Started: time.Now(), Base: cfg.Base, Setup: cfg.Flow.setup()}
	for _, k := range cfg.Contenders {
		c.Targets = append(c.Targets, k.Name)
	}
	if c.Base == "" {
		c.Base = c.Targets[len(c.Targets)-1]
	}
	if len(c.Targets) < 2 || !slices.Contains(c.Targets, c.Base) || cfg.Pairs < 1 {
		return nil, fmt.Errorf("%w: %d pairs of %v against %q", ErrConfig, cfg.Pairs, c.Targets, c.Base)
	}
	if err := t.warm(ctx, cfg.Warmup); err != nil {
		return nil, err
	}
	for t.pair = 1; t.pair <= cfg.Pairs; t.pair++ {
		for _, k := range cfg.Contenders {
			pause(ctx, cfg.Pause)
			leg, err := t.run(ctx, k, cfg.Flow)
			if err != nil {
				return nil, err
			}
			c.Legs = append(c.Legs, leg)
			t.note("pair %d, %s: %s", t.pair, k.Name, leg.Report.line())
		}
	}
	c.Ratios = ratios(c.Legs, c.Targets, c.Base)
	for _, l := range c.Legs {
		c.Warnings = append(c.Warnings, l.warnings(fmt.Sprintf("pair %d, %s", l.Pair, l.Target))...)
	}
	return c, nil
}

// warm sends to each contender for a while without counting it.
func (t *track) warm(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	for _, k := range t.contenders {
		flow := t.flow
		flow.Duration, flow.Count = d, 0
		flow.Preload = min(flow.Preload, uint64(flow.Rate*d.Seconds()))
		leg, err := t.run(ctx, k, flow)
		if err != nil {
			return err
		}
		t.note("warm-up, %s: %s", k.Name, leg.Report.line())
	}
	return nil
}

// warnings say why a leg may not be about its target; where names the leg.
func (l Leg) warnings(where string) []string {
	var out []string
	for _, w := range l.Report.Generator.Warnings {
		out = append(out, where+": "+w)
	}
	if l.Idle > idleLoud {
		out = append(out, fmt.Sprintf("%s: the other targets used %.0f %% of a core meanwhile", where, 100*l.Idle))
	}
	return out
}

// idleLoud is from which use of a core on the others' idling is worth a warning.
const idleLoud = 0.05
