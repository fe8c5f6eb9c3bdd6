package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

// buckets opens each KV bucket once.
type buckets struct {
	mu   sync.Mutex
	open map[string]jetstream.KeyValue
}

// bucket returns the named bucket. Leases have their connection to themselves.
func (b *Bus) bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	b.buckets.mu.Lock()
	kv, ok := b.buckets.open[name]
	b.buckets.mu.Unlock()
	if ok {
		return kv, nil
	}
	u := useControl
	if name == subjects.BucketLeases {
		u = useLease
	}
	l, err := b.links.link(lane{use: u})
	if err != nil {
		return nil, err
	}
	kv, err = l.js.KeyValue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	b.buckets.mu.Lock()
	defer b.buckets.mu.Unlock()
	b.buckets.open[name] = kv
	return kv, nil
}

// put stores a value; putting it twice is harmless, so it is tried again while its fate is unknown.
func (b *Bus) put(ctx context.Context, bucket, key string, value []byte) error {
	start := time.Now()
	for n := 0; ; n++ {
		kv, err := b.bucket(ctx, bucket)
		if err == nil {
			tryCtx, cancel := context.WithTimeout(ctx, tryTimeout)
			_, err = kv.Put(tryCtx, key, value)
			cancel()
		}
		if judge(err) != fateUnknown || time.Since(start) > publishBudget ||
			!retry.Pause(ctx, retry.Backoff(n, 10*time.Millisecond, 250*time.Millisecond)) {
			if err != nil {
				return fmt.Errorf("put into %s: %w", bucket, err)
			}
			return nil
		}
	}
}

// errSuspectBusy: another process, which may be alive, has marked the order.
var errSuspectBusy = errors.New("suspect is marked by another process")

// suspects are the marks of this process and those it saw of others.
type suspects struct {
	tick time.Duration // suspectTick

	mu   sync.Mutex
	mine map[order.AcceptID]mark
	seen map[order.AcceptID]sighting
}

// mark is one in the store: its revision, and what is in it.
type mark struct {
	revision uint64
	value    string
}

// onceMore ends a mark's value when an earlier process died with one.
const onceMore = " again"

type sighting struct {
	revision uint64
	at       time.Time // monotonic
}

// maxSightings bounds what is remembered of other processes' marks; when full all are forgotten,
// which delays their verdict by one more look.
const maxSightings = 1 << 12

// suspectDead is for how many ticks a mark must stay untouched until its process counts as dead; a
// living one touches its marks each suspectTick (CORRECTNESS 8).
const (
	suspectTick = time.Second
	suspectDead = 4
)

// MarkSuspect writes that this process is about to run the order alone. already says that two
// processes had marked it and died: one may be killed at any time, for whatever reason, and then an
// order that happens to run alone is innocent. While a process that marked it may be alive the error asks to
// come back later (retry.Delay).
func (b *Bus) MarkSuspect(ctx context.Context, a order.AcceptID) (already bool, err error) {
	b.touching.Do(func() { b.background.Go(func() { b.touchSuspects(b.life) }) })
	kv, err := b.bucket(ctx, subjects.BucketSuspects)
	if err != nil {
		return false, err
	}
	revision, err := kv.Create(ctx, a.String(), []byte(b.id))
	if err == nil {
		b.suspects.own(a, mark{revision, b.id})
		return false, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return false, fmt.Errorf("mark suspect %s: %w", a, err)
	}
	e, err := kv.Get(ctx, a.String())
	if err != nil {
		return false, fmt.Errorf("read mark of suspect %s: %w", a, err)
	}
	owner, again := strings.CutSuffix(string(e.Value()), onceMore)
	switch {
	case owner == b.id: // an earlier try whose answer was lost
		b.suspects.own(a, mark{e.Revision(), string(e.Value())})
		return false, nil
	case !b.suspects.dead(a, e.Revision(), time.Now()):
		return false, retry.After(fmt.Errorf("mark suspect %s: %w", a, errSuspectBusy), suspectDead*b.suspects.tick)
	case again:
		return true, nil
	}
	revision, err = kv.Update(ctx, a.String(), []byte(b.id+onceMore), e.Revision())
	if err != nil { // another process was first, or the answer was lost
		return false, retry.After(fmt.Errorf("mark suspect %s once more: %w", a, err), b.suspects.tick)
	}
	b.suspects.own(a, mark{revision, b.id + onceMore})
	return false, nil
}

// ClearSuspect takes the mark away.
func (b *Bus) ClearSuspect(ctx context.Context, a order.AcceptID) error {
	b.suspects.forget(a)
	kv, err := b.bucket(ctx, subjects.BucketSuspects)
	if err != nil {
		return err
	}
	if err := kv.Purge(ctx, a.String()); err != nil {
		return fmt.Errorf("clear suspect %s: %w", a, err)
	}
	return nil
}

// touchSuspects tells the others that this process is alive, until ctx ends.
func (b *Bus) touchSuspects(ctx context.Context) {
	for retry.Pause(ctx, b.suspects.tick) {
		for a, m := range b.suspects.marks() {
			kv, err := b.bucket(ctx, subjects.BucketSuspects)
			if err != nil {
				break
			}
			if next, err := kv.Update(ctx, a.String(), []byte(m.value), m.revision); err == nil {
				b.suspects.renew(a, m.revision, next)
			}
		}
	}
}

func (s *suspects) own(a order.AcceptID, m mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mine[a] = m
}

func (s *suspects) renew(a order.AcceptID, from, to uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.mine[a]; ok && m.revision == from {
		s.mine[a] = mark{to, m.value}
	}
}

func (s *suspects) forget(a order.AcceptID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mine, a)
	delete(s.seen, a)
}

func (s *suspects) marks() map[order.AcceptID]mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.mine)
}

// dead reports whether the mark at this revision was first seen at least suspectDead ticks ago.
func (s *suspects) dead(a order.AcceptID, revision uint64, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.seen[a]
	if ok && was.revision == revision {
		return now.Sub(was.at) >= suspectDead*s.tick
	}
	if len(s.seen) >= maxSightings {
		clear(s.seen)
	}
	s.seen[a] = sighting{revision, now}
	return false
}
