package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/order"
)

// Errors of a door.
var (
	// ErrConfig wraps every fault of a configuration.
	ErrConfig = errors.New("system door configuration")
	// ErrPort means that a required port is missing.
	ErrPort = errors.New("system door: a port is missing")
	// ErrRunning means that Run was called twice.
	ErrRunning = errors.New("system door is already running")
)

// TLS names the door's certificate; both empty: plain HTTP, behind a proxy that has one.
type TLS struct {
	Cert string `name:"cert" help:"PEM file with the certificate chain; TLS 1.3 is served when set."`
	Key  string `name:"key" help:"PEM file with the certificate's private key."`
}

// Config is the door's configuration.
type Config struct {
	Listen string `name:"listen" env:"MILLRACE_PEERS_SYSTEM_LISTEN,SYSTEM_LISTEN_ADDR" help:"Address for orders of peers that speak JSON over HTTPS; empty is off."`
	TLS    TLS    `embed:"" prefix:"tls."`
	// FlashbotsSigner is who may subsidise.
	FlashbotsSigner string `name:"flashbots_signer" env:"MILLRACE_PEERS_SYSTEM_FLASHBOTS_SIGNER,FLASHBOTS_ORDERFLOW_SIGNER_ADDRESS" help:"Address that Flashbots signs with: it is a peer, and may call bid_subsidiseBlock."`

	MaxConnections int           `name:"max_connections" help:"Open connections; more wait to be accepted." default:"4096"`
	InflightBytes  int64         `name:"inflight_bytes" type:"bytes" help:"Memory for bodies being read and orders being stored." default:"128MiB"`
	BodyTimeout    time.Duration `name:"body_timeout" help:"Time for a request's headers, and for its body beyond what min_body_rate gives it." default:"5s"`
	MinBodyRate    int64         `name:"min_body_rate" type:"bytes" help:"Bytes per second below which a body is cut off." default:"256KiB"`
	StoreTimeout   time.Duration `name:"store_timeout" help:"Longest wait for the store." default:"5s"`
	DrainDelay     time.Duration `name:"drain_delay" help:"Time between turning unready and refusing connections." default:"500ms"`
	DrainTimeout   time.Duration `name:"drain_timeout" help:"Longest wait for requests in flight at shutdown." default:"10s"`

	MaxBody int64          `kong:"-"` // ingress.max_body
	Own     common.Address `kong:"-"` // our own order-flow address, which is no peer's
}

// DefaultConfig is the configuration that the flag defaults describe, with an address of its own.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:5544", MaxConnections: 4096, InflightBytes: 128 << 20, BodyTimeout: 5 * time.Second,
		MinBodyRate: 256 << 10, StoreTimeout: 5 * time.Second, DrainDelay: 500 * time.Millisecond,
		DrainTimeout: 10 * time.Second, MaxBody: 10 << 20,
	}
}

// bodyRoom is what a node's members add to the body of its sender.
const bodyRoom = 4 << 10

// Validate reports every fault of c, joined; each wraps ErrConfig.
func (c *Config) Validate() error {
	var errs []error
	fault := func(wrong bool, text string) {
		if wrong {
			errs = append(errs, fmt.Errorf("%w: %s", ErrConfig, text))
		}
	}
	_, _, err := net.SplitHostPort(c.Listen)
	fault(err != nil, "listen is not an address with a port")
	fault((c.TLS.Cert == "") != (c.TLS.Key == ""), "tls.cert and tls.key go together")
	fault(c.FlashbotsSigner != "" && !common.IsHexAddress(c.FlashbotsSigner), "flashbots_signer is not an address")
	fault(c.MaxConnections < 1, "max_connections must be positive")
	fault(c.MaxBody < 1<<10, "max_body must be at least 1 KiB")
	fault(c.InflightBytes < c.MaxBody+bodyRoom, "inflight_bytes must have room for a body of max_body")
	fault(c.BodyTimeout <= 0, "body_timeout must be positive")
	fault(c.MinBodyRate < 1, "min_body_rate must be positive")
	fault(c.StoreTimeout <= 0, "store_timeout must be positive")
	fault(c.DrainDelay < 0 || c.DrainTimeout < 0, "drain_delay and drain_timeout must not be negative")
	return errors.Join(errs...)
}

// Peers knows the peers by the address that they sign with. It is asked for each request, so it must be cheap.
type Peers interface {
	BySigner(a common.Address) (name string, ok bool)
}

// Receiver takes an order in. nil: it is stored; a *order.Reason: it is dropped for good; anything else: it is not known
// to be stored. It keeps nothing of in.Body.
type Receiver interface {
	Receive(ctx context.Context, in order.Incoming) error
}

// Clock is the bus clock.
type Clock interface {
	Now() time.Time
}

// Guard tells whether the disk guard has closed the doors, and why. It is asked for each request.
type Guard interface {
	DoorClosed() (reason string, closed bool)
}

// Ports are what the door needs from the rest of the system. Guard may be nil.
type Ports struct {
	Peers    Peers
	Receiver Receiver
	Clock    Clock
	Guard    Guard
}
