package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	replayer "millrace/egress/engine"
	door "millrace/ingress/engine"
	"millrace/internal/bus/enginelog"
	"millrace/subjects"
)

// Engine is everything about the Engine API: engine.* in the configuration.
type Engine struct {
	Door   door.Config      `embed:""`
	Spool  enginelog.Config `embed:""`
	Replay replayer.Config  `embed:"" prefix:"replay."`

	Secondaries []Secondary `name:"secondaries" help:"Execution clients that are kept at the primary's head from the record: name, url, jwt_secret, ca, mode (follow, shadow-build, observe, off), skip and also (patterns of methods)."`

	Failover      string        `name:"failover" help:"Promote a secondary by itself (auto) when every call to the primary has failed for engine.failover_after and it does not answer a question either, or only on request (off)." default:"off" enum:"off,auto"`
	FailoverAfter time.Duration `name:"failover_after" help:"How long the primary must have failed before a secondary is promoted by itself." default:"60s"`
}

// Secondary is one execution client beside the primary.
type Secondary struct {
	Name      string   `name:"name" help:"Name in metrics, records and commands."`
	URL       string   `name:"url" help:"The client's Engine API."`
	JWTSecret string   `name:"jwt_secret" help:"File with the client's secret. Without one: engine.jwt_secret where tokens are verified, else the consensus client's token while it is fresh."`
	CA        string   `name:"ca" help:"PEM file with the authorities that may vouch for an https URL."`
	Mode      string   `name:"mode" default:"follow" help:"What may be done with the client, until it is changed at run time."`
	Skip      []string `name:"skip" help:"Patterns of methods that the client is not sent."`
	Also      []string `name:"also" help:"Patterns of methods that the client is sent although a replay leaves them out."`
}

// primaryName is the primary of the configuration, in metrics and commands.
const primaryName = "primary"

// failoverAuto is the value of engine.failover that is not the default.
const failoverAuto = "auto"

// enabled says that there is an execution client to stand in front of.
func (e *Engine) enabled() bool { return e.Door.Primary != "" }

// Validate reports every fault.
func (e *Engine) Validate() error {
	var errs []error
	for _, err := range []error{e.Door.Validate(), e.Replay.Validate()} {
		if err != nil {
			errs = append(errs, fmt.Errorf("engine: %w", err))
		}
	}
	errs = append(errs, e.Spool.Validate())
	if e.Failover == failoverAuto && e.FailoverAfter < time.Second {
		errs = append(errs, fmt.Errorf("engine.failover_after: %s is less than 1s", e.FailoverAfter))
	}
	names := map[string]bool{primaryName: true}
	for _, s := range e.Secondaries {
		if names[s.Name] {
			errs = append(errs, fmt.Errorf("engine.secondaries: two clients are named %q", s.Name))
		}
		names[s.Name] = true
		errs = append(errs, s.validate())
	}
	return errors.Join(errs...)
}

func (s *Secondary) validate() error {
	var errs []error
	if !subjects.ValidName(s.Name) {
		errs = append(errs, fmt.Errorf("engine.secondaries: name %q is not 1 to 32 letters, digits, - and _", s.Name))
	}
	if u, err := url.Parse(s.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		errs = append(errs, fmt.Errorf("secondary %s: url: expected http://host:port or https://host:port", s.Name))
	}
	if s.Mode != "" {
		var m replayer.Mode
		if err := m.UnmarshalText([]byte(s.Mode)); err != nil {
			errs = append(errs, fmt.Errorf("secondary %s: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// clProxy are the flags of cl-proxy, whose users change one word.
type clProxy struct {
	PrimaryBuilder   string `name:"primary-builder" placeholder:"URL" help:"cl-proxy's name for engine.primary."`
	SecondaryBuilder string `name:"secondary-builder" placeholder:"URL" help:"cl-proxy's name for the only one of engine.secondaries."`
	Port             int    `name:"port" help:"cl-proxy's name for the port of engine.listen, on every interface."`
}

// defaultPort is cl-proxy's.
const defaultPort = 5656

// used says whether somebody comes from cl-proxy.
func (p *clProxy) used() bool { return *p != clProxy{} }

// onto puts what cl-proxy's flags mean into the configuration. Like cl-proxy it passes tokens on when
// it has no secret to check them with.
func (p *clProxy) onto(e *Engine) error {
	if !p.used() {
		return nil
	}
	port := p.Port
	if port == 0 {
		port = defaultPort
	}
	if port < 1 || port > 65535 {
		return fmt.Errorf("--port: %d is no port", port)
	}
	e.Door.Listen = net.JoinHostPort("", strconv.Itoa(port))
	if p.PrimaryBuilder != "" {
		e.Door.Primary = p.PrimaryBuilder
	}
	if p.SecondaryBuilder != "" {
		e.Secondaries = []Secondary{{Name: "secondary", URL: p.SecondaryBuilder, Mode: replayer.ModeFollow.String()}}
	}
	if e.Door.JWTSecret == "" {
		e.Door.Auth = door.AuthForward
	}
	return nil
}

// client is an execution client of the configuration, the primary included.
type client struct {
	Secondary
	mode replayer.Mode
}

// clients are all of them, the configured primary first.
func (e *Engine) clients() ([]client, error) {
	all := []client{{Secondary: Secondary{Name: primaryName, URL: e.Door.Primary, JWTSecret: e.Door.PrimaryJWTSecret, CA: e.Door.PrimaryCA}}}
	for _, s := range e.Secondaries {
		all = append(all, client{Secondary: s})
	}
	for i := range all {
		c := &all[i]
		c.mode = replayer.ModeFollow
		if c.Mode != "" {
			if err := c.mode.UnmarshalText([]byte(c.Mode)); err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		if c.JWTSecret == "" && e.Door.Auth == door.AuthVerify {
			c.JWTSecret = e.Door.JWTSecret
		}
	}
	return all, nil
}

// target is the client as the door sends to it.
func (c *client) target() door.Target {
	return door.Target{Name: c.Name, URL: c.URL, JWTSecret: c.JWTSecret, CA: c.CA}
}
