package regions

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Action is what a step does to the network or a node.
type Action uint8

// The actions.
const (
	ActionPartition Action = iota + 1 // nothing gets through
	ActionSlow                        // other conditions
	ActionFlap                        // a partition that comes and goes
	ActionReset                       // connections are reset
	ActionRestart                     // a node is killed and started again
)

var actionNames = [...]string{"", "partition", "slow", "flap", "reset", "restart"}

// String is the action in files and reports.
func (a Action) String() string {
	if a == 0 || int(a) >= len(actionNames) {
		return fmt.Sprintf("unknown_%d", uint8(a))
	}
	return actionNames[a]
}

// MarshalText is the name.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText takes a name.
func (a *Action) UnmarshalText(b []byte) error {
	i := slices.Index(actionNames[1:], string(b))
	if i < 0 {
		return fmt.Errorf("%w: action %q is none of %v", ErrScenario, b, actionNames[1:])
	}
	*a = Action(i + 1) //nolint:gosec // a short table
	return nil
}

// maxFlaps bounds what one step makes of itself.
const maxFlaps = 10_000

// Step is one entry of a scenario.
type Step struct {
	At  time.Duration `yaml:"at"` // since the first order
	Do  Action        `yaml:"do"`
	For time.Duration `yaml:"for"` // partition, slow, flap; zero: to the end of the run
	// Every is how long each half of a flap lasts.
	Every time.Duration `yaml:"every"`
	// Between names two nodes or regions, both directions; From and To one direction.
	Between []string `yaml:"between"`
	From    string   `yaml:"from"`
	To      string   `yaml:"to"`
	Node    string   `yaml:"node"` // restart
	// Conditions are those of a slow link; the whole of them, not a change.
	Conditions `yaml:",inline"`
}

// Scenario is what happens while orders are sent.
type Scenario struct {
	Name  string `yaml:"name"`
	Steps []Step `yaml:"steps"`
}

// LoadScenario reads a file.
func LoadScenario(name string) (Scenario, error) {
	b, err := readFile(name)
	if err != nil {
		return Scenario{}, fmt.Errorf("%w: %w", ErrScenario, err)
	}
	return ParseScenario(b)
}

// ParseScenario reads a scenario; Validate checks it against a topology.
func ParseScenario(b []byte) (Scenario, error) {
	var s Scenario
	if err := decode(b, &s); err != nil {
		return Scenario{}, fmt.Errorf("%w: %w", ErrScenario, err)
	}
	return s, nil
}

// Validate names every fault.
func (s Scenario) Validate(t Topology) error {
	var faults []error
	for i, step := range s.Steps {
		if err := step.check(t); err != nil {
			faults = append(faults, fmt.Errorf("%w: step %d: %w", ErrScenario, i+1, err))
		}
	}
	return errors.Join(faults...)
}

var (
	errAction = errors.New("no action")
	errTime   = errors.New("a time that is not possible")
	errWhere  = errors.New("needs between, or from and to, of nodes or regions")
	errNode   = errors.New("needs a node")
)

func (s Step) check(t Topology) error {
	if s.At < 0 || s.For < 0 || s.Every < 0 {
		return errTime
	}
	if s.Do == 0 {
		return errAction
	}
	if s.Do == ActionRestart {
		if _, ok := t.Nodes[s.Node]; !ok {
			return fmt.Errorf("%w: %q", errNode, s.Node)
		}
		return nil
	}
	if s.Do == ActionFlap && (s.Every == 0 || s.For == 0 || s.For/s.Every > maxFlaps) {
		return fmt.Errorf("%w: a flap needs for and every", errTime)
	}
	if len(s.pairs(t)) == 0 {
		return errWhere
	}
	var faults []error
	s.Conditions.check(s.Do.String(), func(format string, args ...any) {
		faults = append(faults, fmt.Errorf(format, args...)) //nolint:err113 // Validate wraps it
	})
	return errors.Join(faults...)
}

// pairs are the directions that a step is about.
func (s Step) pairs(t Topology) []Pair {
	var out []Pair
	for _, p := range t.Pairs() {
		one := s.From != "" && s.To != "" && t.holds(s.From, p.From) && t.holds(s.To, p.To)
		both := len(s.Between) == 2 && (t.holds(s.Between[0], p.From) && t.holds(s.Between[1], p.To) ||
			t.holds(s.Between[1], p.From) && t.holds(s.Between[0], p.To))
		if one || both {
			out = append(out, p)
		}
	}
	return out
}

// holds reports whether a name is a node, or the region that it is in.
func (t Topology) holds(name, node string) bool { return name == node || name == t.Nodes[node] }
