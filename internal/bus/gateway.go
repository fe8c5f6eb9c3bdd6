package bus

import (
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// GatewayLink is what internal/bus/gateway is given for calls, their answers and its gossip. Nothing that is written
// while it is down is kept: who waits for it hears at once.
func (b *Bus) GatewayLink() (*nats.Conn, error) {
	l, err := b.links.link(lane{use: useGateway})
	if err != nil {
		return nil, err
	}
	return l.nc, nil
}

// GatewayState is its connection for requests to the JetStream API and for its bucket.
func (b *Bus) GatewayState() (jetstream.JetStream, error) {
	l, err := b.links.link(lane{use: useControl})
	if err != nil {
		return nil, err
	}
	return l.js, nil
}
