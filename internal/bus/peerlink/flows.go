package peerlink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/subjects"
)

const (
	// heartbeat is how often an idle consumer says that it is there.
	heartbeat = time.Second
	// maxUnacknowledged bounds the orders that are on their way to a peer; their bytes are bounded by the window of
	// flow control.
	maxUnacknowledged = 10_000
	// ageMargin is added to orders.max_age for what was fetched: an order's age is judged by who takes it.
	ageMargin = 30 * time.Second
)

// serve makes the consumers from which peers fetch.
func (l *Links) serve(ctx context.Context, peers []Peer) error {
	js, err := l.ordersJS()
	if err != nil {
		return err
	}
	for _, p := range peers {
		for _, c := range order.Priorities {
			f := flow{origin: l.cfg.Operator, peer: p.Name, class: c}
			_, err := js.PushConsumer(ctx, subjects.StreamOK(c), f.durable())
			if errors.Is(err, jetstream.ErrConsumerNotFound) {
				_, err = js.CreatePushConsumer(ctx, subjects.StreamOK(c), l.consumer(f))
			}
			if err != nil {
				return fmt.Errorf("consumer of peer %s: %w", p.Name, err)
			}
		}
	}
	return nil
}

// consumer is a peer's consumer. A new peer begins with what it can still deliver.
func (l *Links) consumer(f flow) jetstream.ConsumerConfig {
	start := time.Now().Add(-l.cfg.MaxAge)
	return jetstream.ConsumerConfig{
		Durable: f.durable(), DeliverSubject: f.deliver(), FilterSubject: f.exported(),
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &start,
		AckPolicy: jetstream.AckFlowControlPolicy, FlowControl: true, IdleHeartbeat: heartbeat,
		MaxDeliver: -1, MaxAckPending: maxUnacknowledged,
		Metadata: map[string]string{subjects.MetaSchema: subjects.SchemaVersion},
	}
}

// fetch makes the streams into which peers' orders go.
func (l *Links) fetch(ctx context.Context, peers []Peer) error {
	for _, p := range peers {
		if p.URL == "" {
			continue
		}
		for _, c := range order.Priorities {
			want := l.stream(p, c)
			if s, err := l.js(c).Stream(ctx, want.Name); err == nil {
				has := s.CachedInfo().Config
				if has.MaxBytes == want.MaxBytes && has.MaxAge == want.MaxAge && len(has.Sources) == 1 {
					continue
				}
			}
			if _, err := l.js(c).CreateOrUpdateStream(ctx, want); err != nil {
				return fmt.Errorf("stream of peer %s: %w", p.Name, err)
			}
		}
	}
	return nil
}

func (l *Links) js(c order.Priority) jetstream.JetStream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lane[laneOf(c)]
}

// stream is where a peer's orders of one class are kept until they are taken. What the peer sends must not stop
// it: no limit on a message, which would stall the source without a word, and the oldest go when it is full,
// those that a header of the peer declares immortal, too. Whatever subject the peer gave is put behind ours.
func (l *Links) stream(p Peer, c order.Priority) jetstream.StreamConfig {
	f := flow{origin: p.Name, peer: l.cfg.Operator, class: c}
	limit := p.MaxBytes
	if limit <= 0 {
		limit = l.cfg.MaxBytes
	}
	return jetstream.StreamConfig{
		Name: stream(p.Name, c), Storage: jetstream.FileStorage, Replicas: 1, Retention: jetstream.LimitsPolicy,
		Discard: jetstream.DiscardOld, MaxBytes: limit, MaxAge: l.cfg.MaxAge + ageMargin,
		SubjectTransform: &jetstream.SubjectTransformConfig{Source: ">", Destination: "peers." + p.Name + "." + c.String() + ".>"},
		Sources: []*jetstream.StreamSource{{
			Name: subjects.StreamOK(c), External: &jetstream.ExternalStream{APIPrefix: apiPrefix(p.Name)},
			Consumer: &jetstream.StreamConsumerSource{Name: f.durable(), DeliverSubject: f.deliver()},
		}},
		Metadata: map[string]string{subjects.MetaSchema: subjects.SchemaVersion},
	}
}

// forget deletes the consumers of who is no peer, and the streams of whom we fetch nothing from.
func (l *Links) forget(ctx context.Context, peers []Peer) error {
	consumers, streams := map[string]bool{}, map[string]bool{}
	for _, p := range peers {
		for _, c := range order.Priorities {
			consumers[flow{origin: l.cfg.Operator, peer: p.Name, class: c}.durable()] = true
			if p.URL != "" {
				streams[stream(p.Name, c)] = true
			}
		}
	}
	orders, err := l.ordersJS()
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range order.Priorities {
		errs = append(errs, forgetConsumers(ctx, orders, subjects.StreamOK(c), originPrefix(l.cfg.Operator), consumers))
	}
	js := l.js(order.PriorityHigh)
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		if strings.HasPrefix(name, "PEER_") && !streams[name] {
			errs = append(errs, js.DeleteStream(ctx, name))
		}
	}
	return errors.Join(append(errs, names.Err())...)
}

func forgetConsumers(ctx context.Context, js jetstream.JetStream, stream, prefix string, keep map[string]bool) error {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("consumers of peers: %w", err)
	}
	var errs []error
	names := s.ConsumerNames(ctx)
	for name := range names.Name() {
		if strings.HasPrefix(name, prefix) && !keep[name] {
			errs = append(errs, s.DeleteConsumer(ctx, name))
		}
	}
	return errors.Join(append(errs, names.Err())...)
}
