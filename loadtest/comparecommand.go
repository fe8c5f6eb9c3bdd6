package loadtest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// CompareCommand compares several targets as a subcommand.
type CompareCommand struct {
	Load   `embed:""`
	Output `embed:""`

	Target []Named       `name:"target" sep:"none" required:"" placeholder:"NAME=URL" help:"A door to measure, by name; at least two."`
	Sink   []Named       `name:"sink" sep:"none" placeholder:"NAME=ADDR" help:"Be the builder behind a target on this address. Two targets may share one."`
	Admin  []Named       `name:"admin" sep:"none" placeholder:"NAME=URL" help:"Admin listener of a target: its ledger is checked and its stages are read."`
	PID    []Named       `name:"pid" sep:"none" placeholder:"NAME=PID" help:"A process of a target; its CPU and memory are reported."`
	Base   string        `name:"base" help:"Target that the others are divided by; by default the last one."`
	Record string        `name:"record_target" help:"Name of the builder in the ledgers." default:"builder"`
	Pairs  int           `name:"pairs" help:"How often each target is measured, in turn." default:"5"`
	Warmup time.Duration `name:"warmup" help:"Length of a first round that isn't counted." default:"3s"`
	Pause  time.Duration `name:"pause" help:"Pause before each leg." default:"1s"`
	Sweep  *Sweeping     `name:"sweep" placeholder:"WHAT=FROM..TO" help:"Measure every target at each point instead of in pairs: size=1k..1M, connections=1..5000 or rate=500..5000:500."`

	// Notes gets a line per leg; nil: they go to stdout.
	Notes io.Writer `kong:"-"`
}

// Run measures the targets in turn and writes the report. Broken promises are figures here, not a
// failure: a target that loses orders can be compared.
func (c *CompareCommand) Run(ctx context.Context, stdout io.Writer) error {
	ways := sinks{}
	cs, err := c.contenders(ways)
	if err != nil {
		return err
	}
	notes := c.Notes
	if notes == nil {
		notes = stdout
	}
	cfg := CompareConfig{
		Contenders: cs, Base: c.Base, Pairs: c.Pairs, Flow: c.flow(), Warmup: c.Warmup, Pause: c.Pause, Settle: c.Settle, Notes: notes,
	}
	var rep Printable
	err = ways.run(ctx, notes, func(ctx context.Context) (err error) {
		if c.Sweep == nil {
			rep, err = Compare(ctx, cfg)
			return err
		}
		if c.Sweep.Variable == VariableRate {
			cfg.Flow.Preload = preloadMost
		}
		rep, err = RunSweep(ctx, SweepConfig{CompareConfig: cfg, Variable: c.Sweep.Variable, Values: c.Sweep.Values})
		return err
	})
	if err != nil {
		return err
	}
	return c.print(stdout, rep)
}

// contenders joins the flags by name.
func (c *CompareCommand) contenders(ways sinks) ([]Contender, error) {
	var cs []Contender
	find := func(n Named) (*Contender, error) {
		i := slices.IndexFunc(cs, func(k Contender) bool { return k.Name == n.Name })
		if i < 0 {
			return nil, fmt.Errorf("%w: no target %q", ErrConfig, n.Name)
		}
		return &cs[i], nil
	}
	for _, n := range c.Target {
		if k, err := find(n); err == nil {
			k.URLs = append(k.URLs, n.Value)
			continue
		}
		cs = append(cs, Contender{Name: n.Name, URLs: []string{n.Value}, Target: c.Record})
	}
	for _, flag := range []struct {
		values []Named
		set    func(k *Contender, v string) error
	}{
		{c.Sink, func(k *Contender, v string) error { k.Sink = ways.at(v); return nil }},
		{c.Admin, func(k *Contender, v string) error { k.Admin = v; return nil }},
		{c.PID, func(k *Contender, v string) error {
			pid, err := strconv.Atoi(v)
			if err != nil {
				return fmt.Errorf("%w: process %q", ErrConfig, v)
			}
			k.PIDs = append(k.PIDs, pid)
			return nil
		}},
	} {
		for _, n := range flag.values {
			k, err := find(n)
			if err != nil {
				return nil, err
			}
			if err := flag.set(k, n.Value); err != nil {
				return nil, err
			}
		}
	}
	return cs, nil
}
