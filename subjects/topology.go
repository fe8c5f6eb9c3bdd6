package subjects

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
)

// Names of the streams and buckets that have no class.
const (
	StreamRejected = "REJECTED"
	StreamDone     = "DONE"
	StreamRecord   = "RECORD"

	BucketRefusals = "REFUSALS" // order id -> refusal, for the duplicate window
	BucketLeases   = "LEASES"   // one owner per target; housekeeping
	BucketSuspects = "SUSPECTS" // orders that a worker runs alone
	BucketState    = "STATE"    // what every process must know: the door
)

const (
	// SchemaVersion is raised when a stream or consumer changes in a way that roles must know.
	SchemaVersion = "1"
	// MetaSchema is the metadata key that carries it.
	MetaSchema = "millrace.schema"
	// MetaFingerprint is the metadata key of a target consumer's URL fingerprint.
	MetaFingerprint = "millrace.target"

	// Backstop is the age at which a path stream gives up a message that nobody took; processed
	// messages are purged long before (CORRECTNESS 1).
	Backstop = 24 * time.Hour
	// HeaderRoom is what headers may add to a message.
	HeaderRoom = 64 << 10
	// WorkerDurable is the workers' consumer on each IN stream.
	WorkerDurable = "workers"
	// WorkerAckWait is how long an order of a worker that died waits for another one.
	WorkerAckWait = 4 * time.Second
	// AckWaitMargin is added to orders.max_age for target consumers (CORRECTNESS 12).
	AckWaitMargin = 30 * time.Second
)

// Options are the configured sizes of the topology.
type Options struct {
	MaxAge         time.Duration // orders.max_age: the duplicate window
	MaxBody        int64         // ingress.max_body, bytes
	InMaxBytes     int64         // streams.in.max_bytes, each class
	OKMaxBytes     int64         // streams.ok.max_bytes, each class
	RecordMaxAge   time.Duration // record.orders.max_age
	RecordMaxBytes int64         // record.orders.max_bytes; zero: no RECORD stream
	RecordS2       bool          // record.orders.compression is s2
	LedgerMaxAge   time.Duration // record.ledger.max_age, at least 24 h
	LedgerMaxBytes int64         // record.ledger.max_bytes, DONE and REJECTED together
	Replicas       int           // nats.replicas
	Partitions     int           // orders.partitions; zero: one
	Replay         bool          // ingress.replay_listen is set: marked replays have streams
	EngineMaxAge   time.Duration // record.engine.max_age
	EngineMaxBytes int64         // record.engine.max_bytes, calls and divergences together; zero: no streams of the Engine API

	NoOrders bool // the Engine API or a gateway is alone: nothing of the order pipeline, see WithoutOrders

	Gateway         bool          // there is a gateway: its nodes have a bucket
	GatewayTimeout  time.Duration // gateway.queue's timeout
	GatewayMaxBytes int64         // of the shared queue, each class; zero: no streams, queues are local
}

// WithoutOrders is o for a bus that no order ever comes to.
func (o Options) WithoutOrders() Options {
	o.NoOrders, o.Replay = true, false
	o.InMaxBytes, o.OKMaxBytes, o.RecordMaxBytes, o.LedgerMaxBytes = 0, 0, 0, 0
	return o
}

// Classes are the classes of orders that have streams.
func (o Options) Classes() []order.Priority {
	if o.NoOrders {
		return nil
	}
	return order.Priorities[:]
}

// StreamIn is the name of class p's IN stream.
func StreamIn(p order.Priority) string { return "IN_" + strings.ToUpper(p.String()) }

// StreamOK is the name of class p's OK stream.
func StreamOK(p order.Priority) string { return "OK_" + strings.ToUpper(p.String()) }

// Streams returns every stream that this version declares, in the order in which they must be made
// (a stream before those that source it).
func Streams(o Options) []jetstream.StreamConfig {
	var ss []jetstream.StreamConfig
	if !o.NoOrders {
		ss = orderStreams(o)
	}
	ss = append(ss, engineStreams(o)...)
	ss = append(ss, GatewayStreams(o)...)
	if o.RecordMaxBytes > 0 {
		ss = append(ss, Record(o))
	}
	return ss
}

// orderStreams are the pipeline's, without the record.
func orderStreams(o Options) (ss []jetstream.StreamConfig) {
	for _, p := range order.Priorities {
		ok := path(o, StreamOK(p), OKOf(order.ScopeAll, p), o.OKMaxBytes)
		// A worker's retry of one acceptance, which the server's death may bring back after its deadline.
		ok.Duplicates = o.MaxAge + AckWaitMargin
		ss = append(ss, path(o, StreamIn(p), "orders.in."+p.String()+".*", o.InMaxBytes), ok)
	}
	rejected := ledger(o, StreamRejected, "orders.rejected.*", o.LedgerMaxBytes/4)
	rejected.Duplicates = o.MaxAge + AckWaitMargin // a worker's retry of one record
	done := o.LedgerMaxBytes - o.LedgerMaxBytes/4
	if o.Replay {
		done -= 2 * (o.LedgerMaxBytes / replayShare)
		ss = append(ss, replays(o)...)
	}
	return append(ss, rejected, ledger(o, StreamDone, "orders.done.*", done))
}

// Record returns RECORD as it is while the volume has room; the disk guard takes the sources away.
func Record(o Options) jetstream.StreamConfig {
	c := base(o, StreamRecord)
	c.Retention, c.Discard = jetstream.LimitsPolicy, jetstream.DiscardOld
	c.MaxAge, c.MaxBytes = o.RecordMaxAge, o.RecordMaxBytes
	if o.RecordS2 {
		c.Compression = jetstream.S2Compression
	}
	c.AllowDirect = true
	for _, p := range order.Priorities {
		c.Sources = append(c.Sources, &jetstream.StreamSource{Name: StreamIn(p)})
	}
	return c
}

// path is a stream between two stages: nothing leaves it by age but after Backstop, nothing is
// dropped to make room.
func path(o Options, name, subject string, maxBytes int64) jetstream.StreamConfig {
	c := base(o, name)
	c.Subjects = []string{subject}
	c.Retention, c.Discard = jetstream.LimitsPolicy, jetstream.DiscardNew
	c.MaxAge, c.MaxBytes = Backstop, maxBytes
	c.MaxMsgSize = int32(min(o.MaxBody+HeaderRoom, 32<<20)) //nolint:gosec // bounded here
	c.Duplicates = o.MaxAge
	c.AllowDirect = true
	return c
}

func ledger(o Options, name, subject string, maxBytes int64) jetstream.StreamConfig {
	c := base(o, name)
	c.Subjects = []string{subject}
	c.Retention, c.Discard = jetstream.LimitsPolicy, jetstream.DiscardOld
	c.MaxAge, c.MaxBytes = max(o.LedgerMaxAge, Backstop), maxBytes
	c.Compression = jetstream.S2Compression
	c.AllowDirect = true
	return c
}

func base(o Options, name string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:     name,
		Storage:  jetstream.FileStorage,
		Replicas: max(o.Replicas, 1),
		Metadata: map[string]string{MetaSchema: SchemaVersion},
	}
}

// WorkerConsumer is the workers' consumer on StreamIn(p): no delivery count ends an order.
func WorkerConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       WorkerDurable,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       WorkerAckWait,
		MaxDeliver:    -1,
		MaxAckPending: -1,
		Metadata:      map[string]string{MetaSchema: SchemaVersion},
	}
}

// TargetDurable is the name of a target's consumer on each OK stream.
func TargetDurable(target string) string { return "target-" + target }

// TargetConsumer is a target's consumer on StreamOK(p), as created by the lease holder: it starts
// at what may still be delivered, waits longer than any deadline before it repeats, and has no cap
// that could stall expiry.
func TargetConsumer(target, fingerprint string, now time.Time, maxAge time.Duration) jetstream.ConsumerConfig {
	start := now.Add(-maxAge)
	return jetstream.ConsumerConfig{
		Durable:       TargetDurable(target),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       maxAge + AckWaitMargin,
		MaxDeliver:    -1,
		MaxAckPending: -1,
		DeliverPolicy: jetstream.DeliverByStartTimePolicy,
		OptStartTime:  &start,
		Metadata:      map[string]string{MetaSchema: SchemaVersion, MetaFingerprint: fingerprint},
	}
}

// OKOf matches the subjects of class p's validated orders that are in a scope, what is no order included.
func OKOf(s order.Scope, p order.Priority) string {
	if s == order.ScopeLocal {
		return "orders.ok.local." + p.String() + ".*"
	}
	return "orders.ok.*." + p.String() + ".*"
}

// Scoped is target consumer c on StreamOK(p) for a target that is owed the orders of a scope only. The filter is in
// the list of filters, so that the subject on which the consumer is made, and with it the right to make it, is the
// same.
func Scoped(c jetstream.ConsumerConfig, s order.Scope, p order.Priority) jetstream.ConsumerConfig {
	if s == order.ScopeLocal {
		c.FilterSubjects = []string{OKOf(s, p)}
	}
	return c
}

// ScopeOf is the scope that a target's consumer was made for.
func ScopeOf(c jetstream.ConsumerConfig) order.Scope {
	if len(c.FilterSubjects) > 0 || c.FilterSubject != "" {
		return order.ScopeLocal
	}
	return order.ScopeAll
}

// Buckets returns every KV bucket that this version declares.
func Buckets(o Options) []jetstream.KeyValueConfig {
	bucket := func(name string, ttl time.Duration, maxBytes int64) jetstream.KeyValueConfig {
		return jetstream.KeyValueConfig{
			Bucket: name, History: 1, TTL: ttl, MaxBytes: maxBytes,
			Storage: jetstream.FileStorage, Replicas: max(o.Replicas, 1),
			Metadata: map[string]string{MetaSchema: SchemaVersion},
		}
	}
	bs := []jetstream.KeyValueConfig{bucket(BucketLeases, 0, 1<<20), bucket(BucketState, 0, 1<<20)}
	if !o.NoOrders {
		bs = append(bs, bucket(BucketRefusals, o.MaxAge, 64<<20), bucket(BucketSuspects, Backstop, 4<<20))
	}
	return append(append(bs, engineBuckets(o)...), gatewayBuckets(o)...)
}
