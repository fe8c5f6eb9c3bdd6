package peers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/internal/order"
)

// formRoom is what the builder-ready form may add to the sender's bytes.
const formRoom = 4 << 10

// ErrConfig wraps every fault of a configuration, and a missing port.
var ErrConfig = errors.New("peers configuration")

// ReceiverConfig is what a Receiver needs to know.
type ReceiverConfig struct {
	// Revalidate has each transaction checked as a worker would.
	Revalidate bool `name:"revalidate" help:"Check the transactions of peers' orders against the consensus rules, as those of our own senders are."`

	// MaxBytes keeps one peer from filling the store for all.
	MaxBytes int64 `name:"max_bytes" type:"bytes" help:"Bytes of orders that one peer may have stored within orders.max_age; 0 is unlimited." default:"1GiB"`

	MaxAge  time.Duration `kong:"-"` // orders.max_age
	MaxBody int64         `kong:"-"` // ingress.max_body
	Limits  order.Limits  `kong:"-"` // orders.max_txs
}

func (c *ReceiverConfig) validate(p *Ports) error {
	var errs []error
	fault := func(wrong bool, text string) {
		if wrong {
			errs = append(errs, fmt.Errorf("%w: %s", ErrConfig, text))
		}
	}
	fault(c.MaxAge <= 0, "orders.max_age must be positive")
	fault(c.MaxBody < 1<<10, "ingress.max_body must be at least 1 KiB")
	fault(c.MaxBytes != 0 && c.MaxBytes < c.MaxBody+formRoom, "max_bytes must have room for an order of ingress.max_body")
	fault(c.Limits.MaxTxs < 0, "orders.max_txs must not be negative")
	fault(p.Publisher == nil, "no publisher")
	fault(p.Clock == nil, "no clock")
	fault(c.Revalidate && p.Rules == nil, "no rules to check transactions with")
	return errors.Join(errs...)
}

// Publisher stores an order in OK under a message id made from its origin, id and acceptance, so that a retry is stored
// once. It waits while OK is full or unavailable, until ctx ends.
type Publisher interface {
	PublishOK(ctx context.Context, o *order.Order) (order.Receipt, error)
}

// Clock is the bus clock.
type Clock interface {
	Now() time.Time
}

// Rules checks one transaction; every error is a *order.Reason.
type Rules interface {
	Check(raw []byte, kind order.Kind, now time.Time) (order.TxInfo, error)
}

// Ports join a Receiver to the rest of the system. Rules may be nil without Revalidate.
type Ports struct {
	Publisher Publisher
	Clock     Clock
	Rules     Rules
}
