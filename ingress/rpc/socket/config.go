package socket

import (
	"errors"
	"fmt"
	"time"
)

// Config of a Server. Zero values are not defaults: see DefaultConfig.
type Config struct {
	// MaxMessage bounds a client's message, bytes (gateway.payload_max_kb).
	MaxMessage int64
	// MaxCalls is how many messages of a connection are under way at a time.
	MaxCalls int
	// MaxSubscriptions bounds the subscriptions of a connection.
	MaxSubscriptions int
	// MaxConnections and MaxPerIP bound the connections.
	MaxConnections, MaxPerIP int
	// QueueMessages and QueueBytes bound the send queue of a connection.
	QueueMessages, QueueBytes int
	// PingEvery is how often clients are pinged, DeadAfter how long they may say nothing at all.
	PingEvery, DeadAfter time.Duration
	// WriteTimeout is how long writing one message may take.
	WriteTimeout time.Duration
	// Drain bounds the end.
	Drain time.Duration
	// Origins are patterns of hosts whose pages may connect; "*" is all.
	Origins []string
}

// DefaultConfig has axon-proxy's times.
func DefaultConfig() Config {
	return Config{
		MaxMessage: 8192 << 10, MaxCalls: 32, MaxSubscriptions: 128, MaxConnections: 10_000, MaxPerIP: 256,
		QueueMessages: 4096, QueueBytes: 16 << 20,
		PingEvery: 19 * time.Second, DeadAfter: 60 * time.Second, WriteTimeout: 30 * time.Second, Drain: 10 * time.Second,
		Origins: []string{"*"},
	}
}

// Validate reports every fault of the configuration.
func (c *Config) Validate() error {
	var faults []error
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"max_message", c.MaxMessage},
		{"max_calls", int64(c.MaxCalls)},
		{"max_subscriptions", int64(c.MaxSubscriptions)},
		{"max_connections", int64(c.MaxConnections)},
		{"max_per_ip", int64(c.MaxPerIP)},
		{"queue_messages", int64(c.QueueMessages)},
		{"queue_bytes", int64(c.QueueBytes)},
		{"ping_every", int64(c.PingEvery)},
		{"dead_after", int64(c.DeadAfter)},
		{"write_timeout", int64(c.WriteTimeout)},
		{"drain", int64(c.Drain)},
	} {
		if n.value <= 0 {
			faults = append(faults, fmt.Errorf("%s: must be positive", n.name))
		}
	}
	if c.DeadAfter <= c.PingEvery {
		faults = append(faults, errors.New("dead_after: must be longer than ping_every"))
	}
	return errors.Join(faults...)
}
