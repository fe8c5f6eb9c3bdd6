package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/subjects"
)

// Change is one difference between what this version declares and what the bus has.
type Change struct {
	Kind string // KindStream, KindConsumer or KindBucket
	Name string // consumers as stream/consumer
	What string // WhatCreate, or the fields that differ as "field: has -> declared, ..."
}

// Kinds and what happens to them.
const (
	KindStream   = "stream"
	KindConsumer = "consumer"
	KindBucket   = "bucket"
	WhatCreate   = "create"
)

// String is the change as `millrace streams plan` prints it.
func (c Change) String() string { return c.Kind + " " + c.Name + ": " + c.What }

// Errors of Plan and Apply.
var (
	// ErrDrift: something exists with a property that can't be changed in place.
	ErrDrift = errors.New("exists with a property that can't be changed")
	// ErrNewerSchema: a newer version of Millrace made it; this one must not change it.
	ErrNewerSchema = errors.New("made by a newer version")
)

// Plan compares the streams, consumers and buckets that this version declares with those that
// exist, and changes nothing. The error joins everything that Apply would refuse.
func (b *Bus) Plan(ctx context.Context) ([]Change, error) { return b.reconcile(ctx, nil) }

// Apply makes what is missing and changes what differs, and returns what it did. It touches
// nothing when a part is refused (ErrDrift, ErrNewerSchema).
func (b *Bus) Apply(ctx context.Context) ([]Change, error) {
	if _, err := b.Plan(ctx); err != nil {
		return nil, err
	}
	l, err := b.links.link(lane{use: useControl})
	if err != nil {
		return nil, err
	}
	return b.reconcile(ctx, l.js)
}

// reconcile goes through everything declared; with to it applies each change as it is found.
func (b *Bus) reconcile(ctx context.Context, to jetstream.JetStream) ([]Change, error) {
	l, err := b.links.link(lane{use: useControl})
	if err != nil {
		return nil, err
	}
	var changes []Change
	var errs []error
	note := func(c Change, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", c.Kind, c.Name, err))
			return false
		}
		if c.What != "" {
			changes = append(changes, c)
		}
		return true
	}
	for _, s := range subjects.Streams(b.topo) {
		if !note(reconcileStream(ctx, l.js, to, s)) {
			break // its consumers and those that source it would only repeat the fault
		}
	}
	for _, p := range order.Priorities {
		if len(errs) > 0 {
			break
		}
		note(reconcileConsumer(ctx, l.js, to, subjects.StreamIn(p), b.workerConsumer(ctx)))
	}
	for _, k := range subjects.Buckets(b.topo) {
		note(reconcileBucket(ctx, l.js, to, k))
	}
	return changes, errors.Join(errs...)
}

func reconcileStream(ctx context.Context, js, to jetstream.JetStream, want jetstream.StreamConfig) (Change, error) {
	c := Change{Kind: KindStream, Name: want.Name}
	s, err := js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		c.What = WhatCreate
	case err != nil:
		return c, err
	default:
		has := s.CachedInfo().Config
		if err := checkSchema(want.Name, has.Metadata); err != nil {
			return c, err
		}
		if err := fixed(streamImmutable(has, want)); err != nil {
			return c, err
		}
		if len(has.Sources) == 0 && len(want.Sources) > 0 {
			// The disk guard has paused the recording and will resume it; a stream without sources
			// has a subject, if only its name.
			want.Sources, want.Subjects = nil, has.Subjects
		}
		c.What = differences(streamFields(has, want))
	}
	if to == nil || c.What == "" {
		return c, nil
	}
	_, err = to.CreateOrUpdateStream(ctx, want)
	return c, err
}

func reconcileConsumer(ctx context.Context, js, to jetstream.JetStream, stream string, want jetstream.ConsumerConfig) (Change, error) {
	c := Change{Kind: KindConsumer, Name: stream + "/" + want.Durable}
	got, err := js.Consumer(ctx, stream, want.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), to == nil && errors.Is(err, jetstream.ErrStreamNotFound):
		c.What = WhatCreate
	case err != nil:
		return c, err
	default:
		has := got.CachedInfo().Config
		if err := checkSchema(c.Name, has.Metadata); err != nil {
			return c, err
		}
		if err := fixed([]field{
			{"ack policy", has.AckPolicy, want.AckPolicy},
			{"deliver policy", has.DeliverPolicy, want.DeliverPolicy},
			{"memory storage", has.MemoryStorage, want.MemoryStorage},
		}); err != nil {
			return c, err
		}
		c.What = differences([]field{
			{"ack wait", has.AckWait, want.AckWait},
			{"max deliver", has.MaxDeliver, want.MaxDeliver},
			{"max ack pending", has.MaxAckPending, want.MaxAckPending},
			{"backoff", has.BackOff, want.BackOff},
			{"headers only", has.HeadersOnly, want.HeadersOnly},
			{"schema", has.Metadata[subjects.MetaSchema], want.Metadata[subjects.MetaSchema]},
		})
	}
	if to == nil || c.What == "" {
		return c, nil
	}
	_, err = to.CreateOrUpdateConsumer(ctx, stream, want)
	return c, err
}

// workerConsumer is the workers' consumer as this process declares it: without bodies where orders are
// tapped, which the process with the embedded server decides for all others.
func (b *Bus) workerConsumer(ctx context.Context) jetstream.ConsumerConfig {
	c := subjects.WorkerConsumer()
	if b.tap != nil || b.server == nil && b.tappedElsewhere(ctx) {
		return subjects.HeadersOnly(c)
	}
	return c
}

// stateTap says to processes elsewhere whether the one with the embedded server taps its orders.
const stateTap = "tap"

func (b *Bus) declareTap(ctx context.Context) error {
	mode := TapOff
	if b.tap != nil {
		mode = TapOn
	}
	return b.put(ctx, subjects.BucketState, stateTap, []byte(mode))
}

// tappedElsewhere reports whether the process with the embedded server says that it taps its orders.
func (b *Bus) tappedElsewhere(ctx context.Context) bool {
	kv, err := b.bucket(ctx, subjects.BucketState)
	if err != nil {
		return false // no buckets: nobody furnished this server
	}
	e, err := kv.Get(ctx, stateTap)
	return err == nil && string(e.Value()) == TapOn
}

func reconcileBucket(ctx context.Context, js, to jetstream.JetStream, want jetstream.KeyValueConfig) (Change, error) {
	c := Change{Kind: KindBucket, Name: want.Bucket}
	s, err := js.Stream(ctx, "KV_"+want.Bucket)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		c.What = WhatCreate
	case err != nil:
		return c, err
	default:
		has := s.CachedInfo().Config
		if err := checkSchema(want.Bucket, has.Metadata); err != nil {
			return c, err
		}
		if err := fixed([]field{{"storage", has.Storage, want.Storage}}); err != nil {
			return c, err
		}
		c.What = differences([]field{
			{"ttl", has.MaxAge, want.TTL},
			{"max bytes", has.MaxBytes, want.MaxBytes},
			{"history", has.MaxMsgsPerSubject, int64(want.History)},
			{"replicas", has.Replicas, want.Replicas},
			{"schema", has.Metadata[subjects.MetaSchema], want.Metadata[subjects.MetaSchema]},
		})
	}
	if to == nil || c.What == "" {
		return c, nil
	}
	_, err = to.CreateOrUpdateKeyValue(ctx, want)
	return c, err
}

// field is one property as it is and as it is declared.
type field struct {
	name      string
	has, want any
}

func (f field) differs() bool { return fmt.Sprint(f.has) != fmt.Sprint(f.want) }

func (f field) String() string { return fmt.Sprintf("%s: %v -> %v", f.name, f.has, f.want) }

func streamImmutable(has, want jetstream.StreamConfig) []field {
	return []field{
		{"storage", has.Storage, want.Storage},
		{"retention", has.Retention, want.Retention},
	}
}

// streamFields are the properties that this version cares for; what an operator adds beside them,
// such as placement or a republish, stays as it is only until the next change.
func streamFields(has, want jetstream.StreamConfig) []field {
	return []field{
		{"subjects", has.Subjects, want.Subjects},
		{"discard", has.Discard, want.Discard},
		{"max age", has.MaxAge, want.MaxAge},
		{"max bytes", has.MaxBytes, unlimited(want.MaxBytes)},
		{"max message size", has.MaxMsgSize, unlimited(want.MaxMsgSize)},
		{"duplicates", has.Duplicates, duplicates(has, want)},
		{"allow direct", has.AllowDirect, want.AllowDirect},
		{"compression", has.Compression, want.Compression},
		{"replicas", has.Replicas, want.Replicas},
		{"sources", sourceNames(has), sourceNames(want)},
		{"schema", has.Metadata[subjects.MetaSchema], want.Metadata[subjects.MetaSchema]},
	}
}

// unlimited is how the server stores a limit that is not set.
func unlimited[T int32 | int64](n T) T {
	if n == 0 {
		return -1
	}
	return n
}

// duplicates is the declared window; the server fills in its own where none is declared.
func duplicates(has, want jetstream.StreamConfig) any {
	if want.Duplicates == 0 {
		return has.Duplicates
	}
	return want.Duplicates
}

func sourceNames(c jetstream.StreamConfig) []string {
	var names []string
	for _, s := range c.Sources {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

func differences(fs []field) string {
	var out []string
	for _, f := range fs {
		if f.differs() {
			out = append(out, f.String())
		}
	}
	return strings.Join(out, ", ")
}

func fixed(fs []field) error {
	if d := differences(fs); d != "" {
		return fmt.Errorf("%w: %s", ErrDrift, d)
	}
	return nil
}

// checkSchema refuses what a newer version made. What carries no version is older than versions.
func checkSchema(name string, metadata map[string]string) error {
	v := metadata[subjects.MetaSchema]
	if v == "" {
		return nil
	}
	has, err := strconv.Atoi(v)
	ours, _ := strconv.Atoi(subjects.SchemaVersion)
	if err != nil || has > ours {
		return fmt.Errorf("%s: %w: schema %s, ours is %s", name, ErrNewerSchema, v, subjects.SchemaVersion)
	}
	return nil
}

// fitVolume keeps the streams' caps within the volume: a full disk freezes a stream for good, a
// full stream closes the door.
func (b *Bus) fitVolume(ctx context.Context) error {
	_, total, err := b.server.Volume()
	if err != nil {
		return fmt.Errorf("measure volume of %s: %w", b.cfg.StoreDir, err)
	}
	limit := int64(storeShare * float64(total))
	if b.cfg.MaxStore > 0 {
		limit = min(limit, b.cfg.MaxStore)
	}
	var factor float64
	if b.topo, factor = fit(b.topo, limit); factor < 1 {
		b.log.LogAttrs(ctx, slog.LevelWarn, "streams are smaller than configured, to fit the volume",
			slog.Float64("factor", factor), slog.Int64("limit_bytes", limit))
	}
	return nil
}

// storeShare is the part of the volume that all streams together may claim.
const storeShare = 0.8

// fit scales the declared caps down, all by the same factor, so that their sum stays within limit
// bytes; factor is one when it does anyway.
func fit(o subjects.Options, limit int64) (fitted subjects.Options, factor float64) {
	classes := int64(len(order.Priorities))
	sum := classes*(o.InMaxBytes+o.OKMaxBytes) + o.RecordMaxBytes + o.LedgerMaxBytes
	for _, k := range subjects.Buckets(o) {
		limit -= k.MaxBytes
	}
	if sum <= limit || limit <= 0 {
		return o, 1
	}
	factor = float64(limit) / float64(sum)
	for _, n := range []*int64{&o.InMaxBytes, &o.OKMaxBytes, &o.RecordMaxBytes, &o.LedgerMaxBytes} {
		*n = int64(float64(*n) * factor)
	}
	return o, factor
}
