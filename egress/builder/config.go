package builder

import (
	"time"
)

// Config says which builders there are and how to speak to them.
type Config struct {
	Builders []Target `name:"builders" help:"Builders to deliver to: name, url, ready_url, timeout."`
	Builder  Short    `embed:"" prefix:"builder."`
	// BusyCodes are JSON-RPC error codes that mean "not now".
	BusyCodes []int  `name:"builder.busy_codes" help:"JSON-RPC error codes with which a builder says that it is busy: the order is sent again."`
	Signer    string `name:"egress.orderflow_signer" env:"MILLRACE_EGRESS_ORDERFLOW_SIGNER,FLASHBOTS_ORDERFLOW_SIGNER" help:"Private key (hex, or a file with it) of X-Flashbots-Signature towards builders; random when not set."`
}

// Target is one builder.
type Target struct {
	Name     string        `name:"name" help:"Name in metrics and records."`
	URL      string        `name:"url" help:"Where orders are posted."`
	ReadyURL string        `name:"ready_url" help:"Where the builder says whether it is ready; /readyz is asked when there is no path."`
	Timeout  time.Duration `name:"timeout" default:"2s" help:"How long one request may take."`
}

// Short is the short form for a single builder, named "builder".
type Short struct {
	URL      string        `name:"url" env:"MILLRACE_BUILDER_URL,BUILDER_ENDPOINT" help:"Builder to deliver to."`
	ReadyURL string        `name:"ready_url" env:"MILLRACE_BUILDER_READY_URL,BUILDER_READY_ENDPOINT" help:"Where the builder says whether it is ready; /readyz is asked when there is no path."`
	Timeout  time.Duration `name:"timeout" default:"2s" help:"How long one request may take."`
}

// Targets returns every configured builder, the short form first.
func (c Config) Targets() []Target { return nil }

// Validate reports every fault of c, joined.
func (c Config) Validate() error { return nil }
