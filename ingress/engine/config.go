package engine

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// Auth says who judges the consensus client's tokens.
type Auth string

// The kinds of authentication.
const (
	// AuthVerify checks tokens here and signs new ones for every target.
	AuthVerify Auth = "verify"
	// AuthForward passes tokens on; the primary checks them.
	AuthForward Auth = "forward"
)

// Switch is on or off.
type Switch string

// The positions.
const (
	On  Switch = "on"
	Off Switch = "off"
)

// TLS names the certificate of the listener; both empty: plain HTTP. The files are read again when
// they change.
type TLS struct {
	Cert string `name:"cert" help:"PEM file with the certificate chain; TLS 1.3 is served when set."`
	Key  string `name:"key" help:"PEM file with the certificate's private key."`
}

// Config is the door's configuration under "engine.".
type Config struct {
	Listen           string `name:"listen" help:"Address for the consensus client." default:"127.0.0.1:8551"`
	Primary          string `name:"primary" help:"URL of the primary execution client's Engine API."`
	Auth             Auth   `name:"auth" help:"Check the consensus client's tokens here and sign new ones (verify), or pass them on (forward)." default:"verify" enum:"verify,forward"`
	JWTSecret        string `name:"jwt_secret" help:"File with the secret that the consensus client's tokens are checked with."`
	PrimaryJWTSecret string `name:"primary_jwt_secret" help:"File with the primary's secret; engine.jwt_secret when not set."`
	PrimaryCA        string `name:"primary_ca" help:"PEM file with the certificate authorities that may vouch for an https primary; the system's when not set."`
	TLS              TLS    `embed:"" prefix:"tls."`
	ClientVersions   Switch `name:"client_versions" help:"Append the secondaries' entries to the primary's in engine_getClientVersionV1." default:"on" enum:"on,off"`

	Timeout        time.Duration `name:"timeout" help:"Longest wait for the primary's answer." default:"60s"`
	MaxBody        int64         `name:"max_body" help:"Largest request body." default:"128MiB" type:"bytes"`
	InflightBytes  int64         `name:"inflight_bytes" help:"Memory for request bodies in flight." default:"512MiB" type:"bytes"`
	MaxConnections int           `name:"max_connections" help:"Open connections of the listener; more wait to be accepted." default:"512"`
	DrainTimeout   time.Duration `name:"drain_timeout" help:"Longest wait for calls in flight at shutdown." default:"10s"`
}

// DefaultConfig is the configuration that the flag defaults describe; Primary and JWTSecret have
// none.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8551", Auth: AuthVerify, ClientVersions: On,
		Timeout: time.Minute, MaxBody: 128 << 20, InflightBytes: 512 << 20, MaxConnections: 512,
		DrainTimeout: 10 * time.Second,
	}
}

// Validate reports every fault of c, joined; each wraps ErrConfig.
func (c *Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...)))
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		fault("listen: %w", err)
	}
	if _, err := parseURL(c.Primary); err != nil {
		fault("primary: %w", err)
	}
	switch c.Auth {
	case AuthVerify:
		if c.JWTSecret == "" {
			fault("jwt_secret is needed to verify tokens")
		}
	case AuthForward:
	default:
		fault("auth must be verify or forward")
	}
	if c.ClientVersions != On && c.ClientVersions != Off {
		fault("client_versions must be on or off")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		fault("tls.cert and tls.key go together")
	}
	if c.Timeout < time.Second {
		fault("timeout must be at least 1s")
	}
	if c.MaxBody < 1<<10 {
		fault("max_body must be at least 1KiB")
	}
	if c.InflightBytes < c.MaxBody {
		fault("inflight_bytes must be at least max_body")
	}
	if c.MaxConnections < 1 {
		fault("max_connections must be at least 1")
	}
	if c.DrainTimeout < 0 {
		fault("drain_timeout must be at least 0")
	}
	return errors.Join(faults...)
}

var (
	errScheme = errors.New("expected http://host:port or https://host:port")
	errUser   = errors.New("a user in the URL is not supported")
)

// parseURL reads a target's URL. Errors do not repeat it: it may hold a password.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, errScheme
	}
	if u.User != nil {
		return nil, errUser
	}
	if u.Path == "" {
		u.Path = "/"
	}
	u.Fragment = ""
	return u, nil
}
