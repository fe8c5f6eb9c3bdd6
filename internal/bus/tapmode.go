package bus

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/subjects"
)

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
