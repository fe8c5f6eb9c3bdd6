package subjects

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What gateways share.
const (
	// BucketGatewayNodes holds the nodes that were added or removed at run time, by a hash of their URI.
	BucketGatewayNodes = "gateway_nodes"
	// GatewayLimits carries what gateways tell each other of their limits: core NATS, never stored.
	GatewayLimits = "gateway.limits.v1"
	// GatewayCancel carries the ids of calls whose callers went away: core NATS.
	GatewayCancel = "gateway.cancel.v1"
	// GatewayNews says that a call was stored, in which class: core NATS.
	GatewayNews = "gateway.news.v1"
	// GatewayDurable is the consumer of all gateways on each of the streams of calls.
	GatewayDurable = "gateway"
	// GatewayAckWait is how long a call in hand of a gateway that died waits; a living one says that it is at work.
	GatewayAckWait = 3 * time.Second
	// gatewayDeliveries is how often a call is handed out: once more when the first gateway died.
	gatewayDeliveries = 2
)

// GatewayClasses are the classes of calls, as rpcapi names them, the most urgent first.
func GatewayClasses() []string { return []string{"fast", "high", "low"} }

// GatewayCalls is where calls of a class are stored.
func GatewayCalls(class string) string { return "gateway.calls." + class }

// StreamGateway is the stream of a class's calls.
func StreamGateway(class string) string { return "GATEWAY_" + strings.ToUpper(class) }

// GatewayStreams are the queues of calls: in memory, as a call is worth nothing after queue.timeout.
func GatewayStreams(o Options) []jetstream.StreamConfig {
	if o.GatewayMaxBytes <= 0 {
		return nil
	}
	var ss []jetstream.StreamConfig
	for _, class := range GatewayClasses() {
		c := base(o, StreamGateway(class))
		c.Storage, c.Retention, c.Discard = jetstream.MemoryStorage, jetstream.WorkQueuePolicy, jetstream.DiscardNew
		c.Subjects = []string{GatewayCalls(class)}
		c.MaxAge, c.MaxBytes = o.GatewayTimeout, o.GatewayMaxBytes
		c.Duplicates = min(o.GatewayTimeout, time.Second) // not used: calls have no message ids
		ss = append(ss, c)
	}
	return ss
}

// GatewayConsumer is the consumer on each of those streams.
func GatewayConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       GatewayDurable,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       GatewayAckWait,
		MaxDeliver:    gatewayDeliveries,
		MaxAckPending: -1,
		MemoryStorage: true,
		Metadata:      map[string]string{MetaSchema: SchemaVersion},
	}
}

// gatewayBuckets is the bucket of the gateways' nodes.
func gatewayBuckets(o Options) []jetstream.KeyValueConfig {
	if !o.Gateway {
		return nil
	}
	return []jetstream.KeyValueConfig{{
		Bucket: BucketGatewayNodes, History: 1, MaxBytes: 4 << 20,
		Storage: jetstream.FileStorage, Replicas: max(o.Replicas, 1),
		Metadata: map[string]string{MetaSchema: SchemaVersion},
	}}
}
