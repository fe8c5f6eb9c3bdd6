package gateway

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/subjects"
)

// Bus is what this package needs of internal/bus. Connections come back by themselves when the server is away.
type Bus interface {
	GatewayLink() (*nats.Conn, error)           // calls, answers, gossip; keeps nothing while it is down
	GatewayState() (jetstream.JetStream, error) // the bucket, and making streams
}

const (
	apiTimeout = 2 * time.Second
	watchTick  = time.Second
	retryLeast = 50 * time.Millisecond
	retryMost  = 2 * time.Second
)

var errWatchEnded = errors.New("watch ended")

// Gossip is core NATS between the gateways: messages that are lost are lost.
type Gossip struct{ bus Bus }

// NewGossip returns the gossip of the limits.
func NewGossip(b Bus) *Gossip { return &Gossip{b} }

// Tell sends a message to all gateways, and does not wait. It fails while the connection is down.
func (g *Gossip) Tell(payload []byte) error {
	nc, err := g.bus.GatewayLink()
	if err != nil {
		return err
	}
	return nc.Publish(subjects.GatewayLimits, payload)
}

// Hear calls f with each message, its own too, until stop is called; it goes on after the connection was down.
func (g *Gossip) Hear(f func(payload []byte)) (stop func(), err error) {
	nc, err := g.bus.GatewayLink()
	if err != nil {
		return nil, err
	}
	s, err := nc.Subscribe(subjects.GatewayLimits, func(m *nats.Msg) { f(m.Data) })
	if err != nil {
		return nil, err
	}
	return func() { _ = s.Unsubscribe() }, nil
}
