package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/subjects"
)

// TargetState is what the OK streams hold for one target, all classes together.
type TargetState struct {
	Name string
	// Fingerprint stands for the URL that the target was made for.
	Fingerprint string
	// Scope is which orders it is owed.
	Scope order.Scope
	// Held: a process has the target's lease, or had it until a moment ago.
	Held bool
	// Pulls is how many requests for orders wait at the server.
	Pulls int
	// Pending orders were not handed out yet, AckPending ones were and have no terminal record.
	Pending    uint64
	AckPending int
	// Oldest is the age of the oldest order of both; zero: there is none.
	Oldest time.Duration
}

// Targets returns every target that has consumers, configured anywhere or not, by name. What a
// target is owed is not purged before it is recorded, so one that nobody serves fills the store.
func (b *Bus) Targets(ctx context.Context) ([]TargetState, error) {
	l, err := b.links.link(lane{use: useControl})
	if err != nil {
		return nil, fmt.Errorf("list targets: %w", err)
	}
	found := map[string]*TargetState{}
	for _, p := range order.Priorities {
		if err := b.targetsOf(ctx, l, subjects.StreamOK(p), found); err != nil {
			return nil, fmt.Errorf("list targets: %w", err)
		}
	}
	var all []TargetState
	for _, t := range found {
		if t.Held, err = b.held(ctx, subjects.TargetDurable(t.Name)); err != nil {
			return nil, fmt.Errorf("list targets: %w", err)
		}
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b TargetState) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// targetsOf adds one stream's consumers to found.
func (b *Bus) targetsOf(ctx context.Context, l *link, stream string, found map[string]*TargetState) error {
	s, err := l.js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // Healthy says so
	}
	if err != nil {
		return err
	}
	consumers := s.ListConsumers(ctx)
	for info := range consumers.Info() {
		name, ok := strings.CutPrefix(info.Name, subjects.TargetDurable(""))
		if !ok {
			continue
		}
		t := found[name]
		if t == nil {
			t = &TargetState{
				Name: name, Fingerprint: info.Config.Metadata[subjects.MetaFingerprint], Scope: subjects.ScopeOf(info.Config),
			}
			found[name] = t
		}
		t.Pulls += info.NumWaiting
		t.Pending += info.NumPending
		t.AckPending += info.NumAckPending
		if info.NumPending > 0 || info.NumAckPending > 0 {
			t.Oldest = max(t.Oldest, b.oldestSince(ctx, s, info))
		}
	}
	return consumers.Err()
}

// oldestSince is the age of the first message that a consumer has not acknowledged; zero when it is
// gone meanwhile.
func (b *Bus) oldestSince(ctx context.Context, s jetstream.Stream, info *jetstream.ConsumerInfo) time.Duration {
	m, err := s.GetMsg(ctx, max(info.AckFloor.Stream+1, 1), jetstream.WithGetMsgSubject("orders.ok.>"))
	if err != nil {
		return 0
	}
	return max(b.Now().Sub(m.Time), 0)
}

// held reports whether a lease was renewed in its last term. Only one who waits for the lease can
// tell for certain.
func (b *Bus) held(ctx context.Context, lease string) (bool, error) {
	kv, err := b.bucket(ctx, subjects.BucketLeases)
	if err != nil {
		return false, err
	}
	e, err := kv.Get(ctx, lease)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return len(e.Value()) > 0 && b.Now().Sub(e.Created()) < leaseTTL, nil
}
