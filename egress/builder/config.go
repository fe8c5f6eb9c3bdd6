package builder

import (
	"errors"
	"fmt"
	"time"

	"millrace/egress"
	"millrace/egress/post"
)

// ShortName is the target name of the builder given in the short form.
const ShortName = "builder"

// defaultTimeout is FlowProxy's.
const defaultTimeout = 2 * time.Second

// Config says which builders there are and how to speak to them.
type Config struct {
	Builders []Target `name:"builders" help:"Builders to deliver to: name, url, ready_url, timeout."`
	Builder  Short    `embed:"" prefix:"builder."`
	// BusyCodes are JSON-RPC error codes that mean "not now".
	BusyCodes []int  `name:"builder.busy_codes" help:"JSON-RPC error codes with which a builder says that it is busy: the order is sent again."`
	Signer    string `name:"egress.orderflow_signer" env:"MILLRACE_EGRESS_ORDERFLOW_SIGNER,FLASHBOTS_ORDERFLOW_SIGNER" secret:"" help:"Private key (hex, or a file with it) of X-Flashbots-Signature towards builders; random when not set."`
}

// Target is one builder.
type Target struct {
	Name     string        `name:"name" help:"Name in metrics and records."`
	URL      string        `name:"url" help:"Where orders are posted."`
	ReadyURL string        `name:"ready_url" help:"Where the builder says whether it is ready; /readyz is asked when there is no path."`
	Timeout  time.Duration `name:"timeout" default:"2s" help:"How long one request may take."`
}

// Short is the short form for a single builder.
type Short struct {
	URL      string        `name:"url" env:"MILLRACE_BUILDER_URL,BUILDER_ENDPOINT" help:"Builder to deliver to."`
	ReadyURL string        `name:"ready_url" env:"MILLRACE_BUILDER_READY_URL,BUILDER_READY_ENDPOINT" help:"Where the builder says whether it is ready; /readyz is asked when there is no path."`
	Timeout  time.Duration `name:"timeout" default:"2s" help:"How long one request may take."`
}

// Targets returns every configured builder, the short form first, with defaults filled in.
func (c Config) Targets() []Target {
	var ts []Target
	if c.Builder.URL != "" {
		ts = append(ts, Target{Name: ShortName, URL: c.Builder.URL, ReadyURL: c.Builder.ReadyURL, Timeout: c.Builder.Timeout})
	}
	ts = append(ts, c.Builders...)
	for i := range ts {
		if ts[i].Timeout == 0 {
			ts[i].Timeout = defaultTimeout
		}
	}
	return ts
}

// Validate reports every fault of c, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Builder.URL == "" && c.Builder.ReadyURL != "" {
		errs = append(errs, errors.New("builder.ready_url: set without builder.url"))
	}
	names := map[string]bool{}
	for _, t := range c.Targets() {
		if names[t.Name] {
			errs = append(errs, fmt.Errorf("builders: two are named %q", t.Name))
		}
		names[t.Name] = true
		errs = append(errs, t.validate())
	}
	if _, err := post.NewSigner(c.Signer); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (t Target) validate() error {
	var errs []error
	if !egress.ValidName(t.Name) {
		errs = append(errs, fmt.Errorf("builders: name %q is not 1 to 32 letters, digits, - and _", t.Name))
	}
	if _, err := post.ParseURL(t.URL); err != nil {
		errs = append(errs, fmt.Errorf("builder %s: url: %w", t.Name, err))
	}
	if t.ReadyURL != "" {
		if _, err := post.ParseURL(t.ReadyURL); err != nil {
			errs = append(errs, fmt.Errorf("builder %s: ready_url: %w", t.Name, err))
		}
	}
	if t.Timeout < time.Millisecond || t.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("builder %s: timeout %s is not between 1ms and 1m", t.Name, t.Timeout))
	}
	return errors.Join(errs...)
}
