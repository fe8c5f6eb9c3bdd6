package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/loadtest/regions"
)

// RegionsCommand is the test over several regions as a subcommand. Its nodes run already, or it
// starts them.
type RegionsCommand struct {
	Output `embed:""`

	Topology    string        `name:"topology" placeholder:"NAME|FILE" help:"Where the nodes are and how far apart: two-regions, or a YAML file." default:"two-regions"`
	Scenario    string        `name:"scenario" placeholder:"FILE" help:"What happens meanwhile, a YAML file: partition, slow, flap, reset, restart."`
	Node        []Named       `name:"node" sep:"none" placeholder:"NAME=DOOR,SINK,PEER,PID" help:"A node that runs: order door, address where to be its builder, its peer listener and its process; parts may be empty."`
	LinkListen  []Named       `name:"link_listen" sep:"none" placeholder:"FROM>TO=ADDR" help:"Address that FROM uses for TO; by default a free port, which is printed."`
	Start       bool          `name:"start" help:"Start the nodes here, with each other as peers over the links." default:"false"`
	Dir         string        `name:"dir" placeholder:"DIR" help:"Where started nodes keep their data and logs; by default a temporary directory that is removed."`
	Rate        float64       `name:"rate" help:"Orders per second of all doors together; 0: the topology's, else 500." default:"0"`
	Duration    time.Duration `name:"duration" help:"How long to send." default:"30s"`
	Connections int           `name:"connections" help:"Connections to each door." default:"64"`
	Spacing     Spacing       `name:"spacing" help:"How orders are spaced: even or poisson." default:"even"`
	Seed        uint64        `name:"seed" help:"Everything that is sent follows from it." default:"1"`
	Shape       []Shape       `name:"shape" help:"What to send, in equal parts; each accepted order is looked for at every builder, so none that replaces or cancels." default:"bundle"`
	Size        int           `name:"size" help:"Length of every bundle in bytes; 0: the published distribution." default:"0"`
	ChainID     uint64        `name:"chain_id" help:"Chain of the transactions." default:"1"`
	Warmup      time.Duration `name:"warmup" help:"Time for the nodes to find each other before the first order." default:"2s"`
	Settle      time.Duration `name:"settle" help:"How long accepted orders may take to be everywhere after the last answer." default:"15s"`

	// Launch makes the process of a node for Start.
	Launch Launch `kong:"-"`
	// Joined tells when they are connected; nil: it is not waited for.
	Joined Joined `kong:"-"`
	// Notes gets the addresses of links and sinks; nil: they go to stdout.
	Notes io.Writer `kong:"-"`
}

// Run runs the test and writes the report; ErrViolations when an accepted order is missing somewhere
// or came twice unmarked.
func (c *RegionsCommand) Run(ctx context.Context, stdout io.Writer) error {
	if c.Notes == nil {
		c.Notes = stdout
	}
	var rep *RegionsReport
	err := c.test(ctx, func(r *RegionsReport) { rep = r })
	if err != nil {
		return configured(err)
	}
	if err := c.print(stdout, rep); err != nil {
		return err
	}
	return rep.Err()
}

// configured makes the faults of a network's files faults of the command.
func configured(err error) error {
	if errors.Is(err, regions.ErrTopology) || errors.Is(err, regions.ErrScenario) || errors.Is(err, regions.ErrNoLink) {
		return errors.Join(ErrConfig, err)
	}
	return err
}

// test builds everything up, measures, and takes it down again.
func (c *RegionsCommand) test(ctx context.Context, done func(*RegionsReport)) error {
	cfg := RegionsConfig{Flow: c.flow(), Warmup: c.Warmup, Settle: c.Settle, Notes: c.Notes}
	var err error
	if cfg.Topology, err = regions.Load(c.Topology); err != nil {
		return err
	}
	if c.Scenario != "" {
		if cfg.Scenario, err = regions.LoadScenario(c.Scenario); err != nil {
			return err
		}
	}
	if err := cfg.Scenario.Validate(cfg.Topology); err != nil {
		return err
	}
	cfg.Flow.Rate = c.rate(cfg.Topology)
	cfg.Flow.Preload = uint64(min(cfg.Flow.Rate*c.Duration.Seconds(), preloadMost))
	places, fleet, err := c.places(ctx, cfg.Topology)
	if err != nil {
		return err
	}
	defer fleet.clean()
	peers := map[string]string{}
	for name, p := range places {
		peers[name] = p.peer
	}
	if cfg.Network, err = regions.New(cfg.Topology, peers); err != nil {
		return err
	}
	at, err := c.listeners()
	if err != nil {
		return err
	}
	if err := cfg.Network.Bind(ctx, at); err != nil {
		return err
	}
	return c.live(ctx, cfg, places, fleet, done)
}

// live runs the network, the sinks and the nodes as long as the test takes. The network comes first
// and goes last: nodes dial it all the time.
func (c *RegionsCommand) live(ctx context.Context, cfg RegionsConfig, places map[string]place, fleet *fleet, done func(*RegionsReport)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return cfg.Network.Run(ctx) })
	ways := sinks{}
	cfg.Nodes = map[string]RegionNode{}
	for name, p := range places {
		n := RegionNode{Door: p.door, PID: p.pid}
		if p.sink != "" {
			n.Sink = ways.at(p.sink)
		}
		cfg.Nodes[name] = n
	}
	for _, p := range cfg.Topology.Pairs() {
		if addr := cfg.Network.Addr(p); addr != "" {
			_, _ = fmt.Fprintf(c.Notes, "link %s: %s\n", p, addr)
		}
	}
	g.Go(func() error {
		defer stop()
		return ways.run(ctx, c.Notes, func(ctx context.Context) error {
			if err := fleet.startAll(ctx, cfg.Network); err != nil {
				return errors.Join(err, fleet.stopAll())
			}
			fleet.adopt(cfg.Nodes)
			cfg.Hooks.Restart = fleet.hook()
			rep, err := RunRegions(ctx, cfg)
			done(rep)
			return errors.Join(err, fleet.stopAll())
		})
	})
	return g.Wait()
}

func (c *RegionsCommand) flow() Flow {
	l := Load{
		Duration: c.Duration, Connections: c.Connections, Spacing: c.Spacing, Timeout: 10 * time.Second, Seed: c.Seed,
		Shape: c.Shape, Size: c.Size, Signers: 64, ChainID: c.ChainID,
	}
	return l.flow()
}

// rate is what is asked for, else the topology's.
func (c *RegionsCommand) rate(t regions.Topology) float64 {
	switch {
	case c.Rate > 0:
		return c.Rate
	case t.Orders.Rate > 0:
		return t.Orders.Rate
	}
	return 500
}

// place is where a node is.
type place struct {
	door, sink, peer string
	pid              int
}

// places are the nodes of a topology: those given, or those that the fleet is to start.
func (c *RegionsCommand) places(ctx context.Context, t regions.Topology) (map[string]place, *fleet, error) {
	if c.Start {
		if len(c.Node) > 0 {
			return nil, nil, fmt.Errorf("%w: nodes that run and nodes to start", ErrConfig)
		}
		places, f, err := planFleet(ctx, t, c.Dir, c.Launch)
		if f != nil {
			f.joined = c.Joined
		}
		return places, f, err
	}
	out := map[string]place{}
	for _, n := range c.Node {
		p, err := parsePlace(n.Value)
		if err != nil {
			return nil, nil, err
		}
		out[n.Name] = p
	}
	for _, name := range t.NodeNames() {
		if _, ok := out[name]; !ok {
			return nil, nil, fmt.Errorf("%w: no --node %s=…; nodes of the topology are %s", ErrConfig, name, strings.Join(t.NodeNames(), ", "))
		}
	}
	if names := slices.Sorted(maps.Keys(out)); !slices.Equal(names, t.NodeNames()) {
		return nil, nil, fmt.Errorf("%w: nodes %v are not those of the topology, %v", ErrConfig, names, t.NodeNames())
	}
	return out, &fleet{clean: func() {}}, nil
}

// parsePlace reads DOOR,SINK,PEER,PID, where the last ones may be left out.
func parsePlace(text string) (place, error) {
	parts := strings.Split(text, ",")
	if len(parts) > 4 {
		return place{}, fmt.Errorf("%w: node %q", ErrConfig, text)
	}
	parts = append(parts, "", "", "", "")
	p := place{door: parts[0], sink: parts[1], peer: parts[2]}
	if p.door != "" {
		if _, err := parseDoor(p.door); err != nil {
			return place{}, err
		}
	}
	if parts[3] != "" {
		pid, err := strconv.Atoi(parts[3])
		if err != nil || pid < 1 {
			return place{}, fmt.Errorf("%w: process %q", ErrConfig, parts[3])
		}
		p.pid = pid
	}
	return p, nil
}

// listeners are the links' own addresses where they are given.
func (c *RegionsCommand) listeners() (map[regions.Pair]string, error) {
	out := map[regions.Pair]string{}
	for _, n := range c.LinkListen {
		from, to, found := strings.Cut(n.Name, ">")
		if !found {
			return nil, fmt.Errorf("%w: link %q is not FROM>TO", ErrConfig, n.Name)
		}
		out[regions.Pair{From: from, To: to}] = n.Value
	}
	return out, nil
}
