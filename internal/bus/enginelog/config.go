package enginelog

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// DrainTimeout is how long a recorder that is stopped goes on publishing.
	DrainTimeout = 5 * time.Second
	// minSpool is the least bound of a spool.
	minSpool = 1 << 20
	// queueMax is the default of Config.QueueMax.
	queueMax = 64 << 20
)

// Config is where records wait: engine.spool_dir and engine.spool_max in the configuration.
type Config struct {
	SpoolDir string `name:"spool_dir" help:"Directory of the Engine API records that the bus has not stored yet." default:"./data/engine" type:"path"`
	SpoolMax int64  `name:"spool_max" help:"Most bytes of records that wait there; at the bound the oldest are lost, and counted." default:"1GiB" type:"bytes"`
	// QueueMax bounds the bytes of records in memory, those that wait for the spool and those that it
	// could not take; zero: 64 MiB. At the bound a new record is lost, and counted.
	QueueMax int64 `kong:"-"`
}

// Validate returns every fault of c.
func (c *Config) Validate() error {
	var errs []error
	if c.SpoolDir == "" {
		errs = append(errs, errors.New("engine.spool_dir: a directory is needed"))
	}
	if c.SpoolMax < minSpool {
		errs = append(errs, fmt.Errorf("engine.spool_max: %d is less than %d", c.SpoolMax, minSpool))
	}
	if c.QueueMax < 0 {
		errs = append(errs, errors.New("engine queue: negative"))
	}
	return errors.Join(errs...)
}

// Bus is what this package needs of internal/bus. Connections come back by themselves when the server is
// away.
type Bus interface {
	EngineRecord() (*nats.Conn, error)         // publishes records; keeps nothing while it is down
	EngineReplay() (*nats.Conn, error)         // reads them
	EngineState() (jetstream.JetStream, error) // buckets and divergences
}
