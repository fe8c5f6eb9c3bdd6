package nodes

import (
	"errors"
	"fmt"
	"time"

	"millrace/egress/nodes/dispatch"
	"millrace/egress/nodes/health"
	"millrace/internal/rpcapi"
)

// Config is what is the same for all nodes: gateway.* in the configuration.
type Config struct {
	Workers    int           `name:"node_workers" help:"Calls that a node is given at a time, unless its URI says ?_workers=N." default:"8" env:"MILLRACE_GATEWAY_NODE_WORKERS,NUM_NODE_WORKERS"`
	Timeout    time.Duration `name:"node_timeout" help:"How long one try at a node may take." default:"3s"`
	Connect    time.Duration `name:"connect_timeout" help:"How long a connection to a node may take to be made." default:"2s"`
	MaxTries   int           `name:"max_tries" help:"Most tries of one call, at different nodes as far as there are any." default:"3" env:"MILLRACE_GATEWAY_MAX_TRIES,RETRIES_MAX"`
	MaxAnswer  int64         `name:"max_answer" help:"Most bytes of a node's answer." default:"256MiB" type:"bytes"`
	HedgeAfter time.Duration `name:"hedge_after" help:"Ask a second node for a read that takes longer than this; 0: never." default:"0s"`
	// Drain is how long calls that are under way have when the process ends.
	Drain time.Duration `kong:"-"`

	Balance Balance `name:"lb" help:"Which of the free nodes a call goes to: of two at random the one with fewer calls under way (p2c_least_requests), or a client's own as long as it can (client_ip_hashing)." default:"p2c_least_requests" enum:"p2c_least_requests,client_ip_hashing"`

	Queue  Queues        `embed:"" prefix:"queues."`
	Health health.Config `embed:"" prefix:"health_check."`
}

// Balance says which of the free nodes a call goes to, in axon-proxy's words.
type Balance string

// The rules.
const (
	BalanceLeast    Balance = "p2c_least_requests"
	BalanceByClient Balance = "client_ip_hashing"
)

// Queues are where calls wait; the names in capitals are prio-load-balancer's.
type Queues struct {
	FastMax         int           `name:"fast_max" help:"Most fast-track calls that wait; 0: any number." default:"0" env:"MILLRACE_GATEWAY_QUEUES_FAST_MAX,ITEMS_FASTTRACK_MAX"`
	HighMax         int           `name:"high_max" help:"Most high calls that wait; 0: any number." default:"0" env:"MILLRACE_GATEWAY_QUEUES_HIGH_MAX,ITEMS_HIGHPRIO_MAX"`
	LowMax          int           `name:"low_max" help:"Most low calls that wait; 0: any number." default:"0" env:"MILLRACE_GATEWAY_QUEUES_LOW_MAX,ITEMS_LOWPRIO_MAX"`
	FastPerHigh     int           `name:"fast_per_high" help:"Fast-track calls before a high one; with 0 high calls go first." default:"2" env:"MILLRACE_GATEWAY_QUEUES_FAST_PER_HIGH,ITEMS_FASTTRACK_PER_HIGHPRIO"`
	DrainFast       bool          `name:"drain_fast" help:"All fast-track calls before any other." env:"MILLRACE_GATEWAY_QUEUES_DRAIN_FAST,FASTTRACK_DRAIN_FIRST"`
	LowEvery        int           `name:"low_every" help:"One low call after so many others, so that low ones never starve; 0: low ones only when nothing else waits." default:"0"`
	Timeout         time.Duration `name:"timeout" help:"How long a call may wait." default:"5s"`
	DispatchTimeout time.Duration `name:"dispatch_timeout" help:"How long a call waits while no node could serve it at all." default:"2s"`
}

func (q *Queues) dispatch(b Balance) dispatch.Config {
	c := dispatch.Config{
		FastPerHigh: q.FastPerHigh, DrainFast: q.DrainFast, LowEvery: q.LowEvery, Timeout: q.Timeout,
		DispatchTimeout: q.DispatchTimeout, Balance: dispatch.LeastOutstanding,
	}
	c.Max[rpcapi.FastTrack], c.Max[rpcapi.High], c.Max[rpcapi.Low] = q.FastMax, q.HighMax, q.LowMax
	if b == BalanceByClient {
		c.Balance = dispatch.ByClient
	}
	return c
}

// Validate reports every fault.
func (c *Config) Validate() error {
	var errs []error
	positive := func(key string, ok bool) {
		if !ok {
			errs = append(errs, fmt.Errorf("gateway.%s: must be more than 0", key))
		}
	}
	positive("node_workers", c.Workers > 0)
	positive("node_timeout", c.Timeout > 0)
	positive("connect_timeout", c.Connect > 0)
	positive("max_tries", c.MaxTries > 0)
	positive("max_answer", c.MaxAnswer > 0)
	if c.HedgeAfter < 0 || c.Drain < 0 {
		errs = append(errs, errors.New("gateway.hedge_after, gateway.drain: must not be negative"))
	}
	queues := c.Queue.dispatch(c.Balance)
	for key, err := range map[string]error{"queues": queues.Validate(), "health_check": c.Health.Validate()} {
		if err != nil {
			errs = append(errs, fmt.Errorf("gateway.%s: %w", key, err))
		}
	}
	return errors.Join(errs...)
}
