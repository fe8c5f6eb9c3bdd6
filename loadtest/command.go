package loadtest

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// preloadMost is how many orders are signed ahead by default.
	preloadMost = 20_000
	// closedRate is how many orders per second a closed loop is assumed to need.
	closedRate = 4000
	// preloadBytes bounds what orders of a fixed size take that are signed ahead, bytes.
	preloadBytes = 256 << 20
)

// Load is what is sent: the flags that every way of testing shares.
type Load struct {
	Rate        float64       `name:"rate" help:"Orders per second; 0 sends the next order when the answer before came." default:"500"`
	Duration    time.Duration `name:"duration" help:"How long to send." default:"10s"`
	Connections int           `name:"connections" help:"Connections to each door." default:"64"`
	Spacing     Spacing       `name:"spacing" help:"How orders are spaced: even or poisson." default:"even"`
	Timeout     time.Duration `name:"timeout" help:"Longest wait for an answer." default:"10s"`
	Seed        uint64        `name:"seed" help:"Everything that is sent follows from it." default:"1"`
	Shape       []Shape       `name:"shape" help:"What to send, in equal parts: bundle, transaction, private, private_raw, share, replacement, cancel, cancel_bundle, invalid, blob_bundle, blob_transaction, reverting, heavy, malformed. Default: the mix of a builder network."`
	Size        int           `name:"size" help:"Length of every bundle in bytes; 0: the published distribution." default:"0"`
	Signers     int           `name:"signers" help:"Signers of the requests." default:"64"`
	FirstSigner int           `name:"first_signer" help:"First of the signers, so that two runs can have different ones." default:"0"`
	Preload     int64         `name:"preload" help:"Orders signed before the start; -1: all of an open loop, 4000 per second of a closed one, at most 20000." default:"-1"`
	ChainID     uint64        `name:"chain_id" help:"Chain of the transactions." default:"1"`
	Settle      time.Duration `name:"settle" help:"How long accepted orders may take to end after the last answer." default:"10s"`
}

// flow is the load as a flow without doors.
func (l Load) flow() Flow {
	f := Flow{
		Rate: l.Rate, Duration: l.Duration, Connections: l.Connections, Spacing: l.Spacing, Timeout: l.Timeout,
		Corpus: CorpusConfig{Seed: l.Seed, ChainID: l.ChainID, Signers: l.Signers, FirstSigner: l.FirstSigner, Size: l.Size},
	}
	for _, s := range l.Shape {
		f.Corpus.Mix = append(f.Corpus.Mix, Weight{Shape: s, Weight: 1})
	}
	if l.Size > 0 && f.Corpus.Mix == nil {
		f.Corpus.Mix = Only(ShapeBundle)
	}
	f.Preload = uint64(max(l.Preload, 0))
	if l.Preload < 0 {
		rate := l.Rate
		if rate == 0 {
			rate = closedRate
		}
		f.Preload = uint64(min(rate*l.Duration.Seconds(), preloadMost))
	}
	if l.Size > 0 {
		f.Preload = min(f.Preload, preloadBytes/uint64(l.Size))
	}
	return f
}

// Command is the load test as a subcommand. It sends to a door that is already running; with Sink it
// is the builder behind it as well.
type Command struct {
	Load   `embed:""`
	Output `embed:""`

	URL        []string  `name:"url" help:"Order doors to send to." default:"http://127.0.0.1:8080"`
	First      uint64    `name:"first" help:"First order of the corpus, to send what was not sent before." default:"0"`
	Ramp       *Range    `name:"ramp" placeholder:"FROM..TO[:STEP]" help:"Rates to go through, each for the duration, until the door doesn't keep up: 500..5000:500."`
	Sweep      *Sweeping `name:"sweep" placeholder:"WHAT=FROM..TO" help:"Measure the cost against one variable: size=1k..1M or connections=1..5000."`
	Sink       bool      `name:"sink" help:"Be the builder as well and check that each accepted order arrives; its URL is printed and must be the only builder of the door." default:"false"`
	SinkListen string    `name:"sink_listen" help:"Address of the sink." default:"127.0.0.1:8645"`
	Admin      string    `name:"admin" help:"Admin listener whose ledger is checked and whose stages are read, such as http://127.0.0.1:8090."`
	Target     string    `name:"target" help:"Name of the target whose records are checked." default:"builder"`
	PID        []int     `name:"pid" help:"Processes whose CPU and memory are reported."`

	// Notes gets the sink's URL and how far a long run is; nil: the sink's URL goes to stdout.
	Notes io.Writer `kong:"-"`
}

// Run runs the test and writes the report; ErrViolations when a promise was broken. When ctx ends
// the test is broken off without a verdict.
func (c *Command) Run(ctx context.Context, stdout io.Writer) error {
	k := Contender{Name: "load", URLs: c.URL, Admin: c.Admin, Target: c.Target, PIDs: c.PID}
	notes := c.Notes
	if notes == nil {
		notes = stdout
	}
	ways := sinks{}
	if c.Sink {
		k.Sink = ways.at(c.SinkListen)
	}
	var rep Printable
	err := ways.run(ctx, notes, func(ctx context.Context) (err error) {
		rep, err = c.measure(ctx, k)
		return err
	})
	if err != nil {
		return err
	}
	if err := c.print(stdout, rep); err != nil {
		return err
	}
	if r, ok := rep.(*Report); ok && r.Check != nil {
		return r.Check.Err()
	}
	return nil
}

// measure makes one run, or a sweep of several.
func (c *Command) measure(ctx context.Context, k Contender) (Printable, error) {
	flow := c.flow()
	sweep := SweepConfig{CompareConfig: CompareConfig{
		Contenders: []Contender{k}, Flow: flow, Settle: c.Settle, Notes: c.Notes, Pause: sweepPause,
	}}
	switch {
	case c.Ramp != nil && c.Sweep != nil:
		return nil, fmt.Errorf("%w: a ramp and a sweep at once", ErrConfig)
	case c.Ramp != nil:
		sweep.Variable, sweep.Values = VariableRate, c.Ramp.Values
		sweep.Flow.Preload = preloadMost
		return RunSweep(ctx, sweep)
	case c.Sweep != nil:
		sweep.Variable, sweep.Values = c.Sweep.Variable, c.Sweep.Values
		return RunSweep(ctx, sweep)
	}
	flow.Name, flow.URLs, flow.First = k.Name, k.URLs, c.First
	return Run(ctx, Scenario{
		Flows: []Flow{flow}, Sink: k.Sink, Admin: k.Admin, PIDs: k.PIDs,
		Expect: Expect{Targets: []string{k.Target}}, Settle: c.Settle, Notes: c.Notes,
	})
}

// sweepPause lies between the points of a sweep.
const sweepPause = 500 * time.Millisecond

// sinks are the builders of a test, by address.
type sinks map[string]*Sink

// at returns the sink of an address.
func (s sinks) at(addr string) *Sink {
	if s[addr] == nil {
		s[addr] = NewSink()
	}
	return s[addr]
}

// run serves all sinks while test runs.
func (s sinks) run(ctx context.Context, notes io.Writer, test func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	for addr, sink := range s {
		ln, url, err := sink.Bind(ctx, addr)
		if err != nil {
			stop()
			_ = g.Wait() // what is served already ends without an error
			return err
		}
		_, _ = fmt.Fprintf(notes, "sink: %s\n", url)
		g.Go(func() error { return sink.Run(ctx, ln) })
	}
	g.Go(func() error {
		defer stop()
		return test(ctx)
	})
	return g.Wait()
}
