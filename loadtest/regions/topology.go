package regions

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

const (
	maxDelay = 10 * time.Second
	maxNodes = 16
	// maxFile bounds a topology or scenario, bytes.
	maxFile = 1 << 20
)

//go:embed topologies/*.yaml
var builtins embed.FS

// Conditions are those of one direction.
type Conditions struct {
	Delay  time.Duration `json:"delay_ns"            yaml:"delay"`
	Jitter time.Duration `json:"jitter_ns,omitempty" yaml:"jitter"` // to both sides of Delay, evenly
	// Bandwidth is shared by everything that goes this way.
	Bandwidth Rate `json:"bandwidth_bits,omitempty" yaml:"bandwidth"`
	// ResetEvery resets all connections that were dialed in this direction; zero: never.
	ResetEvery time.Duration `json:"reset_every_ns,omitempty" yaml:"reset_every"`
}

// Line joins two regions.
type Line struct {
	Between    []string `yaml:"between"`
	Conditions `yaml:",inline"`
	// Back is from the second region to the first where that differs.
	Back *Conditions `yaml:"back"`
}

// Orders is the load that goes with a topology.
type Orders struct {
	Rate float64 `yaml:"rate"` // per second, of all doors together
	// At are the nodes whose doors get them; none: all of them, in equal parts.
	At []string `yaml:"at"`
}

// Topology says where nodes are and how far apart. The sizes of orders are the load test's own.
type Topology struct {
	Name string `yaml:"name"`
	// Regions are named; their conditions hold between two nodes of one region.
	Regions map[string]Conditions `yaml:"regions"`
	Links   []Line                `yaml:"links"`
	// Nodes are in regions; none: one node in each region, named like it.
	Nodes  map[string]string `yaml:"nodes"`
	Orders Orders            `yaml:"orders"`
}

// Builtins are the names of the topologies that need no file.
func Builtins() []string {
	entries, err := builtins.ReadDir("topologies")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Load reads a topology: a built-in one by its name, else a file.
func Load(name string) (Topology, error) {
	b, err := builtins.ReadFile("topologies/" + name + ".yaml")
	if err != nil {
		if b, err = readFile(name); err != nil {
			return Topology{}, fmt.Errorf("%w: %w; built in are %s", ErrTopology, err, strings.Join(Builtins(), ", "))
		}
	}
	return Parse(b)
}

// Parse reads a topology, fills in what is left out, and checks it.
func Parse(b []byte) (Topology, error) {
	var t Topology
	if err := decode(b, &t); err != nil {
		return Topology{}, fmt.Errorf("%w: %w", ErrTopology, err)
	}
	if len(t.Nodes) == 0 {
		t.Nodes = map[string]string{}
		for r := range t.Regions {
			t.Nodes[r] = r
		}
	}
	return t, t.Validate()
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	return b, errors.Join(err, f.Close())
}

// decode reads one YAML document and no key that is not known.
func decode(b []byte, v any) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	return d.Decode(v)
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// Validate names every fault.
func (t Topology) Validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: "+format, append([]any{ErrTopology}, args...)...))
	}
	for _, name := range slices.Sorted(maps.Keys(t.Regions)) {
		if !nameForm.MatchString(name) {
			fault("region %q is no name of small letters, digits, - and _", name)
		}
		t.Regions[name].check("region "+name, fault)
	}
	if len(t.Nodes) < 2 || len(t.Nodes) > maxNodes {
		fault("%d nodes, not 2 to %d", len(t.Nodes), maxNodes)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Nodes)) {
		if _, ok := t.Regions[t.Nodes[name]]; !ok || !nameForm.MatchString(name) {
			fault("node %q in region %q", name, t.Nodes[name])
		}
	}
	t.checkLines(fault)
	if t.Orders.Rate < 0 {
		fault("%g orders per second", t.Orders.Rate)
	}
	for _, node := range t.Orders.At {
		if _, ok := t.Nodes[node]; !ok {
			fault("orders at %q, which is no node", node)
		}
	}
	return errors.Join(faults...)
}

// checkLines wants one line for each two regions that have nodes.
func (t Topology) checkLines(fault func(string, ...any)) {
	seen := map[Pair]bool{}
	for _, l := range t.Links {
		if len(l.Between) != 2 || l.Between[0] == l.Between[1] {
			fault("link between %v, not two regions", l.Between)
			continue
		}
		for _, r := range l.Between {
			if _, ok := t.Regions[r]; !ok {
				fault("link to %q, which is no region", r)
			}
		}
		p := Pair{l.Between[0], l.Between[1]}
		if seen[p] || seen[p.back()] {
			fault("two links between %s and %s", p.From, p.To)
		}
		seen[p] = true
		l.check("link "+p.String(), fault)
		if l.Back != nil {
			l.Back.check("link "+p.back().String(), fault)
		}
	}
	for _, a := range t.Nodes {
		for _, b := range t.Nodes {
			if p := (Pair{a, b}); a < b && !seen[p] && !seen[p.back()] {
				fault("no link between %s and %s", a, b)
				seen[p] = true
			}
		}
	}
}

func (c Conditions) check(what string, fault func(string, ...any)) {
	if c.Delay < 0 || c.Delay > maxDelay || c.Jitter < 0 || c.Jitter > c.Delay {
		fault("%s: delay %s ± %s is not between 0 and %s", what, c.Delay, c.Jitter, maxDelay)
	}
	if c.ResetEvery < 0 {
		fault("%s: a reset every %s", what, c.ResetEvery)
	}
}

// Between are the conditions from one node to another.
func (t Topology) Between(p Pair) Conditions {
	from, to := t.Nodes[p.From], t.Nodes[p.To]
	for _, l := range t.Links {
		switch {
		case l.Between[0] == from && l.Between[1] == to:
			return l.Conditions
		case l.Between[0] == to && l.Between[1] == from && l.Back != nil:
			return *l.Back
		case l.Between[0] == to && l.Between[1] == from:
			return l.Conditions
		}
	}
	return t.Regions[from]
}

// NodeNames are the nodes in order.
func (t Topology) NodeNames() []string { return slices.Sorted(maps.Keys(t.Nodes)) }

// Doors are the nodes that orders are sent to, in order.
func (t Topology) Doors() []string {
	if len(t.Orders.At) > 0 {
		return t.Orders.At
	}
	return t.NodeNames()
}

// Pairs are all ordered pairs of nodes.
func (t Topology) Pairs() []Pair {
	var out []Pair
	for _, from := range t.NodeNames() {
		for _, to := range t.NodeNames() {
			if from != to {
				out = append(out, Pair{from, to})
			}
		}
	}
	return out
}

// Pair is a direction: from a node to another.
type Pair struct{ From, To string }

// String is from>to, as on the command line.
func (p Pair) String() string { return p.From + ">" + p.To }

func (p Pair) back() Pair { return Pair{p.To, p.From} }
