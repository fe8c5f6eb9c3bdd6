package bus

import (
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What internal/bus/enginelog is given of the bus: connections, each opened at its first use, that come
// back by themselves and end with the bus. A server that is away is no error of these calls.

// EngineRecord is the connection on which calls of the Engine API are recorded. Nothing that is written
// while it is down is kept: a record that the store did not acknowledge stays with the recorder.
func (b *Bus) EngineRecord() (*nats.Conn, error) { return b.engine(useEngine) }

// EngineReplay is the connection on which records are read and acknowledged.
func (b *Bus) EngineReplay() (*nats.Conn, error) { return b.engine(useReplayer) }

// EngineState is the connection for requests to the JetStream API and for buckets.
func (b *Bus) EngineState() (jetstream.JetStream, error) {
	l, err := b.links.link(lane{use: useControl})
	if err != nil {
		return nil, err
	}
	return l.js, nil
}

func (b *Bus) engine(u use) (*nats.Conn, error) {
	l, err := b.links.link(lane{use: u})
	if err != nil {
		return nil, err
	}
	return l.nc, nil
}
