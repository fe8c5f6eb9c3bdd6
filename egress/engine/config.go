package engine

import (
	"errors"
	"fmt"
	"path"
	"time"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi"
)

// Config sets deadlines and bounds of the replayers.
type Config struct {
	PayloadTimeout    time.Duration `name:"payload_timeout" help:"Time for a newPayload or getPayload call to a client." default:"30s"`
	ForkchoiceTimeout time.Duration `name:"forkchoice_timeout" help:"Time for a forkchoiceUpdated call to a client." default:"30s"`
	ProbeTimeout      time.Duration `name:"probe_timeout" help:"Time for a question about a client's head or version." default:"5s"`
	Checkpoint        int           `name:"checkpoint" help:"Payloads between two forkchoice calls while catching up, at most 128." default:"32"`

	RetryMin     time.Duration `name:"retry_min" help:"First wait before a failed call to a client is repeated; it doubles, with full jitter." default:"250ms"`
	RetryMax     time.Duration `name:"retry_max" help:"Longest wait before a failed call to a client is repeated." default:"15s"`
	PrimaryRetry time.Duration `name:"primary_retry" help:"Longest wait before a primary that is down is asked again." default:"500ms"`
	BreakerAfter int           `name:"breaker_after" help:"Failures in a row after which a client is only probed." default:"5"`
	BreakerTime  time.Duration `name:"breaker_time" help:"Time of failures in a row after which a client is only probed." default:"30s"`
	ProbeEvery   time.Duration `name:"probe_every" help:"Shortest time between two probes of a client that is down." default:"1s"`

	CheckEvery  time.Duration `name:"check_every" help:"How often a client's head is read back." default:"12s"`
	Recheck     time.Duration `name:"recheck" help:"How often a halted client is asked again." default:"30s"`
	StallProbes int           `name:"stall_probes" help:"Probes without progress after which a client that answers SYNCING is given up." default:"5"`
	StallTime   time.Duration `name:"stall_time" help:"Time without progress after which a client that answers SYNCING is given up." default:"2m"`

	HeadStateEvery time.Duration `name:"head_state_every" help:"How often what a secondary at the head shows of it (number, state and receipts root, safe and finalized block) is compared with the primary's. 0: never." default:"0s"`

	OutcomeWait time.Duration `name:"outcome_wait" help:"Age at which a call without a recorded outcome counts as unknown." default:"60s"`
	VouchedWait time.Duration `name:"vouched_wait" help:"How long a verified call waits for the primary's outcome before secondaries get it." default:"2s"`
	MaxCalls    int           `name:"max_calls" help:"Recorded calls that are indexed, without bodies, about 600 bytes each." default:"65536"`
	MaxBodies   int64         `name:"max_bodies" help:"Newest bodies kept in memory." default:"8MiB" type:"bytes"`
}

// DefaultConfig has every default.
func DefaultConfig() Config {
	return Config{
		PayloadTimeout: 30 * time.Second, ForkchoiceTimeout: 30 * time.Second, ProbeTimeout: 5 * time.Second,
		Checkpoint: chain.DefaultCheckpoint,
		RetryMin:   250 * time.Millisecond, RetryMax: 15 * time.Second, PrimaryRetry: 500 * time.Millisecond,
		BreakerAfter: 5, BreakerTime: 30 * time.Second, ProbeEvery: time.Second,
		CheckEvery: 12 * time.Second, Recheck: 30 * time.Second, StallProbes: 5, StallTime: 2 * time.Minute,
		OutcomeWait: time.Minute, VouchedWait: 2 * time.Second,
		MaxCalls: chain.DefaultLimit, MaxBodies: 8 << 20,
	}
}

// maxCheckpoint is geth's bound: of more blocks above its head it keeps no state.
const maxCheckpoint = 128

// Validate reports every fault.
func (c *Config) Validate() error {
	var errs []error
	positive := func(name string, ok bool) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: expected more than zero", name))
		}
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"payload_timeout", c.PayloadTimeout},
		{"forkchoice_timeout", c.ForkchoiceTimeout},
		{"probe_timeout", c.ProbeTimeout},
		{"retry_min", c.RetryMin},
		{"retry_max", c.RetryMax},
		{"primary_retry", c.PrimaryRetry},
		{"breaker_time", c.BreakerTime},
		{"probe_every", c.ProbeEvery},
		{"check_every", c.CheckEvery},
		{"recheck", c.Recheck},
		{"stall_time", c.StallTime},
		{"outcome_wait", c.OutcomeWait},
		{"vouched_wait", c.VouchedWait},
	} {
		positive(d.name, d.d > 0)
	}
	positive("breaker_after", c.BreakerAfter > 0)
	positive("stall_probes", c.StallProbes > 0)
	positive("max_calls", c.MaxCalls > 0)
	positive("max_bodies", c.MaxBodies > 0)
	if c.Checkpoint < 1 || c.Checkpoint > maxCheckpoint {
		errs = append(errs, fmt.Errorf("checkpoint %d: expected 1 to %d", c.Checkpoint, maxCheckpoint))
	}
	if c.HeadStateEvery < 0 {
		errs = append(errs, fmt.Errorf("head_state_every %s: expected zero or more", c.HeadStateEvery))
	}
	if c.RetryMax < c.RetryMin {
		errs = append(errs, fmt.Errorf("retry_max %s is below retry_min %s", c.RetryMax, c.RetryMin))
	}
	return errors.Join(errs...)
}

// Target is one client.
type Target struct {
	// Name is unique in a process and a metric label.
	Name string
	Role Role
	// Mode is the configured mode, ModeFollow without one.
	Mode Mode
	// Address is the client's URL without credentials, for the reproduction of divergences.
	Address string
	Caller  Caller
	// LiveOnly: the client has no secret of its own, its Caller has the consensus client's tokens while
	// they are fresh. It gets live calls, and no more than a few that it missed.
	LiveOnly bool
	// Skip and Also are patterns of methods (path.Match) which the client is not sent, or is sent though
	// a replay leaves them out, such as eth_sendRawTransaction. Payloads and forkchoices can't be
	// skipped. Also is for live calls, whose answers are not compared.
	Skip, Also []string
}

// Validate reports every fault.
func (t *Target) Validate() error {
	var errs []error
	if t.Name == "" {
		errs = append(errs, errors.New("a target without a name"))
	}
	if t.Role != Primary && t.Role != Secondary {
		errs = append(errs, fmt.Errorf("target %s has no role", t.Name))
	}
	if t.Caller == nil {
		errs = append(errs, fmt.Errorf("target %s has no caller", t.Name))
	}
	for _, pattern := range append(append([]string{}, t.Skip...), t.Also...) {
		if _, err := path.Match(pattern, ""); err != nil {
			errs = append(errs, fmt.Errorf("target %s: method pattern %q: %w", t.Name, pattern, err))
		}
	}
	for _, method := range engineapi.Methods() {
		class := engineapi.Classify(method)
		if (class == engineapi.ClassReplay || class == engineapi.ClassForkchoice) && matches(t.Skip, method) {
			errs = append(errs, fmt.Errorf("target %s: %s can't be skipped, the client would not get on", t.Name, method))
		}
	}
	return errors.Join(errs...)
}

func matches(patterns []string, method string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, method); err == nil && ok {
			return true
		}
	}
	return false
}
