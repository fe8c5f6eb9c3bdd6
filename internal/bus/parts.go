package bus

import (
	"context"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// What of each part this version cares for stands in its compare; what an operator adds beside it, such
// as placement or a republish, stays as it is only until the next change.

type streamPart struct{ want jetstream.StreamConfig }

func (p *streamPart) compare(ctx context.Context, js jetstream.JetStream) (comparison, error) {
	s, err := js.Stream(ctx, p.want.Name)
	if err != nil {
		return comparison{}, err
	}
	has := s.CachedInfo().Config
	if len(has.Sources) == 0 && len(p.want.Sources) > 0 {
		// The disk guard has paused the recording and will resume it; a stream without sources
		// has a subject, if only its name.
		p.want.Sources, p.want.Subjects = nil, has.Subjects
	}
	want := p.want
	return comparison{
		has: has.Metadata, want: want.Metadata,
		fixed: []field{
			{"storage", has.Storage, want.Storage},
			{"retention", has.Retention, want.Retention},
		},
		fields: []field{
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
		},
	}, nil
}

func (p *streamPart) put(ctx context.Context, js jetstream.JetStream) error {
	_, err := js.CreateOrUpdateStream(ctx, p.want)
	return err
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

type consumerPart struct {
	stream string
	// declare may have to ask the bus, so it is called when the turn comes.
	declare func(context.Context) jetstream.ConsumerConfig
	want    jetstream.ConsumerConfig // what compare declared
}

func (p *consumerPart) compare(ctx context.Context, js jetstream.JetStream) (comparison, error) {
	p.want = p.declare(ctx)
	c, err := js.Consumer(ctx, p.stream, p.want.Durable)
	if err != nil {
		return comparison{}, err
	}
	has, want := c.CachedInfo().Config, p.want
	return comparison{
		has: has.Metadata, want: want.Metadata,
		fixed: []field{
			{"ack policy", has.AckPolicy, want.AckPolicy},
			{"deliver policy", has.DeliverPolicy, want.DeliverPolicy},
			{"memory storage", has.MemoryStorage, want.MemoryStorage},
		},
		fields: []field{
			{"ack wait", has.AckWait, want.AckWait},
			{"max deliver", has.MaxDeliver, want.MaxDeliver},
			{"max ack pending", has.MaxAckPending, want.MaxAckPending},
			{"backoff", has.BackOff, want.BackOff},
			{"headers only", has.HeadersOnly, want.HeadersOnly},
		},
	}, nil
}

func (p *consumerPart) put(ctx context.Context, js jetstream.JetStream) error {
	_, err := js.CreateOrUpdateConsumer(ctx, p.stream, p.want)
	return err
}

type bucketPart struct{ want jetstream.KeyValueConfig }

func (p *bucketPart) compare(ctx context.Context, js jetstream.JetStream) (comparison, error) {
	s, err := js.Stream(ctx, "KV_"+p.want.Bucket)
	if err != nil {
		return comparison{}, err
	}
	has, want := s.CachedInfo().Config, p.want
	return comparison{
		has: has.Metadata, want: want.Metadata,
		fixed: []field{{"storage", has.Storage, want.Storage}},
		fields: []field{
			{"ttl", has.MaxAge, want.TTL},
			{"max bytes", has.MaxBytes, want.MaxBytes},
			{"history", has.MaxMsgsPerSubject, int64(want.History)},
			{"replicas", has.Replicas, want.Replicas},
		},
	}, nil
}

func (p *bucketPart) put(ctx context.Context, js jetstream.JetStream) error {
	_, err := js.CreateOrUpdateKeyValue(ctx, p.want)
	return err
}
