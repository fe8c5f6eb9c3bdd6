package health

import (
	"errors"
	"fmt"
	"time"
)

// Config says how nodes are checked and judged.
type Config struct {
	Check      Mode          `name:"check" help:"How nodes are checked: auto, full (chain id, heads, syncing), net_version, none." default:"auto"`
	Interval   time.Duration `name:"interval" help:"Time between two checks of a node, a quarter of it random." default:"3s"`
	Timeout    time.Duration `name:"timeout" help:"Time for a check." default:"3s"`
	Fall       int           `name:"fall" help:"Bad checks in a row that make a node unhealthy." default:"3"`
	Rise       int           `name:"rise" help:"Good checks in a row that make it healthy again." default:"2"`
	ChainID    uint64        `name:"chain_id" help:"The chain that nodes must be on; 0: the one that most of them are on." default:"0"`
	MaxHeadAge time.Duration `name:"max_head_age" help:"A node whose head is older is unhealthy; 0: never, as devnets stand still." default:"0s"`
	MaxLag     uint64        `name:"max_lag" help:"A node that is more blocks behind is unhealthy; 0: never." default:"16"`

	Failures   int           `name:"failures" help:"Refused connections in a row that eject a node." default:"3"`
	Window     time.Duration `name:"window" help:"Time over which calls are judged." default:"30s"`
	MinSamples int           `name:"min_samples" help:"Calls in the window below which their rates say nothing." default:"10"`
	ErrorRate  float64       `name:"error_rate" help:"A node is ejected when a larger share of calls fails." default:"0.7"`
	Throttled  float64       `name:"throttled" help:"A node is ejected when it throttles a larger share of calls." default:"0.4"`
	Slow       time.Duration `name:"slow" help:"A node is ejected when its 70th percentile of latency is above, and above slow_factor times the median of its peers." default:"3s"`
	SlowFactor float64       `name:"slow_factor" help:"See slow." default:"3"`

	EjectMin    time.Duration `name:"eject_min" help:"How long a node is ejected the first time; it doubles, half of it is random." default:"5s"`
	EjectMax    time.Duration `name:"eject_max" help:"How long a node is ejected at most." default:"5m"`
	MaxEjected  float64       `name:"max_ejected" help:"Share of nodes that may be out before one is ejected for anything but refused connections." default:"0.5"`
	ReturnShare float64       `name:"return_share" help:"Share of its places that a node is given first when it comes back." default:"0.1"`
	ReturnTime  time.Duration `name:"return_time" help:"Time in which the share grows to all of them." default:"30s"`
}

// DefaultConfig has every default.
func DefaultConfig() Config {
	return Config{
		Check: ModeAuto, Interval: 3 * time.Second, Timeout: 3 * time.Second, Fall: 3, Rise: 2, MaxLag: agreement,
		Failures: 3, Window: 30 * time.Second, MinSamples: 10, ErrorRate: 0.7, Throttled: 0.4,
		Slow: 3 * time.Second, SlowFactor: 3,
		EjectMin: 5 * time.Second, EjectMax: 5 * time.Minute, MaxEjected: 0.5,
		ReturnShare: 0.1, ReturnTime: 30 * time.Second,
	}
}

// Validate reports every fault.
func (c *Config) Validate() error {
	var errs []error
	expect := func(name string, ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: expected %s", name, what))
		}
	}
	const positive, share = "more than zero", "more than 0 and at most 1"
	expect("check", c.Check >= ModeAuto && c.Check <= ModeNone, "auto, full, net_version or none")
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"interval", c.Interval},
		{"timeout", c.Timeout},
		{"slow", c.Slow},
		{"eject_min", c.EjectMin},
		{"return_time", c.ReturnTime},
	} {
		expect(d.name, d.d > 0, positive)
	}
	for _, n := range []struct {
		name string
		n    int
	}{{"fall", c.Fall}, {"rise", c.Rise}, {"failures", c.Failures}, {"min_samples", c.MinSamples}} {
		expect(n.name, n.n > 0, positive)
	}
	for _, s := range []struct {
		name string
		s    float64
	}{{"error_rate", c.ErrorRate}, {"throttled", c.Throttled}, {"return_share", c.ReturnShare}} {
		expect(s.name, s.s > 0 && s.s <= 1, share)
	}
	expect("max_ejected", c.MaxEjected >= 0 && c.MaxEjected <= 1, "0 to 1")
	expect("slow_factor", c.SlowFactor >= 1, "at least 1")
	expect("max_head_age", c.MaxHeadAge >= 0, "zero or more")
	expect("window", c.Window >= time.Second, "at least 1s")
	expect("eject_max", c.EjectMax >= c.EjectMin, "at least eject_min")
	return errors.Join(errs...)
}

// Mode is how nodes are checked.
type Mode uint8

// Modes.
const (
	// ModeAuto is ModeFull, and ModeNetVersion for a node that does not know its methods.
	ModeAuto Mode = iota + 1
	// ModeFull asks for chain id, heads and syncing.
	ModeFull
	// ModeNetVersion only looks for any answer.
	ModeNetVersion
	// ModeNone asks nothing: nodes are judged by how calls go.
	ModeNone
)

// tellsHeads: nodes that know how are asked for their heads.
func (m Mode) tellsHeads() bool { return m == ModeAuto || m == ModeFull }

// String is the mode as it is configured.
func (m Mode) String() string {
	switch m {
	case ModeAuto:
		return "auto"
	case ModeFull:
		return "full"
	case ModeNetVersion:
		return "net_version"
	case ModeNone:
		return "none"
	default:
		return fmt.Sprintf("mode(%d)", uint8(m))
	}
}

// MarshalText is String.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what String writes.
func (m *Mode) UnmarshalText(text []byte) error {
	for k := ModeAuto; k <= ModeNone; k++ {
		if k.String() == string(text) {
			*m = k
			return nil
		}
	}
	return fmt.Errorf("check %q: expected auto, full, net_version or none", text)
}
