package feed

import (
	"errors"
	"fmt"
	"time"
)

// Config of a Feed. Zero values are not defaults: see DefaultConfig.
type Config struct {
	// Poll is how often the head is asked for where no node can be subscribed at.
	Poll time.Duration
	// Watch is how often the source is compared with the other nodes.
	Watch time.Duration
	// Silence is how long another node may be ahead before the source is given up.
	Silence time.Duration
	// Linger is how long an upstream subscription outlives its last client.
	Linger time.Duration
	// CallTimeout bounds one question to the nodes, and the making of a connection or subscription.
	CallTimeout time.Duration
	// Patience is how long the logs of a block are asked for before the subscription is ended.
	Patience time.Duration
	// BackoffMin and BackoffMax bound the pause before another try.
	BackoffMin, BackoffMax time.Duration
	// MaxGap is how many missing headers are fetched at most.
	MaxGap int
	// KeepBytes bounds the delivered logs that are kept of one filter, for saying that they are removed.
	KeepBytes int
	// MaxMessage bounds a message of a node, bytes.
	MaxMessage int64
	// MaxGroups bounds the distinct subscriptions.
	MaxGroups int
	// Dedupe is how many pending transactions are remembered for each subscription.
	Dedupe int
	// QueueSteps and QueueResults are bounds of queues: see Backpressure.
	QueueSteps, QueueResults int
}

// DefaultConfig is for Ethereum's slots.
func DefaultConfig() Config {
	return Config{
		Poll: time.Second, Watch: 500 * time.Millisecond, Silence: 3 * time.Second, Linger: 10 * time.Second,
		CallTimeout: 10 * time.Second, Patience: time.Minute,
		BackoffMin: 100 * time.Millisecond, BackoffMax: 5 * time.Second,
		MaxGap: 1024, KeepBytes: 16 << 20, MaxMessage: 32 << 20, MaxGroups: 1000,
		Dedupe: 1 << 14, QueueSteps: 256, QueueResults: 1024,
	}
}

// Validate reports every fault of the configuration.
func (c *Config) Validate() error {
	var faults []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"poll", c.Poll},
		{"watch", c.Watch},
		{"silence", c.Silence},
		{"linger", c.Linger},
		{"call_timeout", c.CallTimeout},
		{"patience", c.Patience},
		{"backoff_min", c.BackoffMin},
		{"backoff_max", c.BackoffMax},
	} {
		if d.value <= 0 {
			faults = append(faults, fmt.Errorf("%s: must be positive", d.name))
		}
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"max_gap", int64(c.MaxGap)},
		{"keep_bytes", int64(c.KeepBytes)},
		{"max_message", c.MaxMessage},
		{"max_groups", int64(c.MaxGroups)},
		{"dedupe", int64(c.Dedupe)},
		{"queue_steps", int64(c.QueueSteps)},
		{"queue_results", int64(c.QueueResults)},
	} {
		if n.value <= 0 {
			faults = append(faults, fmt.Errorf("%s: must be positive", n.name))
		}
	}
	return errors.Join(faults...)
}
