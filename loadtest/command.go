package loadtest

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
)

// Command is the load test as a subcommand. It sends to a door that is already running; with
// SinkListen it is the builder behind it as well.
type Command struct {
	URL         []string      `name:"url" help:"Order doors to send to." default:"http://127.0.0.1:8080"`
	Rate        float64       `name:"rate" help:"Orders per second; 0 sends the next order when the answer before came." default:"500"`
	Duration    time.Duration `name:"duration" help:"How long to send." default:"10s"`
	Connections int           `name:"connections" help:"Connections to the doors." default:"64"`
	Seed        uint64        `name:"seed" help:"Everything that is sent follows from it." default:"1"`
	First       uint64        `name:"first" help:"First order of the corpus, to send what was not sent before." default:"0"`
	Shape       []Shape       `name:"shape" help:"What to send, in equal parts: bundle, transaction, private, share, replacement, cancel, invalid, blob_bundle, blob_transaction, reverting, heavy, malformed. Default: the mix of a builder network."`
	Signers     int           `name:"signers" help:"Signers of the requests." default:"64"`
	FirstSigner int           `name:"first_signer" help:"First of the signers, so that two runs can have different ones." default:"0"`
	Preload     uint64        `name:"preload" help:"Orders signed before the start." default:"0"`
	ChainID     uint64        `name:"chain_id" help:"Chain of the transactions." default:"1"`
	Sink        bool          `name:"sink" help:"Be the builder as well and check that each accepted order arrives; its URL is printed and must be the only builder of the door." default:"false"`
	SinkListen  string        `name:"sink_listen" help:"Address of the sink." default:"127.0.0.1:8645"`
	Admin       string        `name:"admin" help:"Admin listener whose ledger is checked, such as http://127.0.0.1:8090."`
	Target      string        `name:"target" help:"Name of the target whose records are checked." default:"builder"`
	Settle      time.Duration `name:"settle" help:"How long accepted orders may take to end after the last answer." default:"10s"`
	PID         []int         `name:"pid" help:"Processes whose CPU and memory are reported."`
	JSON        bool          `name:"json" help:"Print the report as JSON."`

	// Notes gets the sink's URL and how far a long run is; nil: the sink's URL goes to stdout.
	Notes io.Writer `kong:"-"`
}

// Run runs the test and writes the report to stdout; ErrViolations when a promise was broken. When
// ctx ends the test is broken off without a verdict.
func (c *Command) Run(ctx context.Context, stdout io.Writer) error {
	s := Scenario{
		Flows: []Flow{{
			Name: "load", URLs: c.URL, Rate: c.Rate, Duration: c.Duration, Connections: c.Connections, First: c.First,
			Preload: c.Preload,
			Corpus:  CorpusConfig{Seed: c.Seed, ChainID: c.ChainID, Mix: c.mix(), Signers: c.Signers, FirstSigner: c.FirstSigner},
		}},
		Admin: c.Admin, PIDs: c.PID, Expect: Expect{Targets: []string{c.Target}}, Settle: c.Settle, Notes: c.Notes,
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	if c.Sink {
		s.Sink = NewSink()
		ln, url, err := s.Sink.Bind(ctx, c.SinkListen)
		if err != nil {
			return err
		}
		notes := c.Notes
		if notes == nil {
			notes = stdout
		}
		_, _ = fmt.Fprintf(notes, "sink: %s\n", url)
		g.Go(func() error { return s.Sink.Run(ctx, ln) })
	}
	var rep *Report
	g.Go(func() error {
		defer stop()
		var err error
		rep, err = Run(ctx, s)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return c.print(stdout, rep)
}

// mix is the shapes in equal parts; nil, the default, when there are none.
func (c *Command) mix() Mix {
	var m Mix
	for _, s := range c.Shape {
		m = append(m, Weight{Shape: s, Weight: 1})
	}
	return m
}

func (c *Command) print(stdout io.Writer, rep *Report) error {
	write := rep.WriteTable
	if c.JSON {
		write = rep.WriteJSON
	}
	if err := write(stdout); err != nil {
		return err
	}
	if rep.Check != nil {
		return rep.Check.Err()
	}
	return nil
}
