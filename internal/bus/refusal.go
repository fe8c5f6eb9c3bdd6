package bus

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

// maxRefusals bounds the local index of refusals; when full the oldest is dropped, and found in
// the bucket.
const maxRefusals = 1 << 15

// PutRefusal makes a refusal known to every ingress process for the duplicate window. A full
// bucket is no error: the refusal is in the ledger, only a repeat of the order will not hear of it.
func (b *Bus) PutRefusal(ctx context.Context, id order.ID, r *order.Reason) error {
	err := b.put(ctx, subjects.BucketRefusals, id.String(), appendReason(nil, r))
	if judge(err) == fateFull {
		b.m.lostRefusals.Inc()
		return nil
	}
	return err
}

// Refusal returns why the order was refused within the duplicate window, from whichever ingress
// process it came; nil, nil when there is no refusal.
func (b *Bus) Refusal(ctx context.Context, id order.ID) (*order.Reason, error) {
	if r := b.refusals.find(id, b.clock.Now()); r != nil {
		return r, nil
	}
	kv, err := b.bucket(ctx, subjects.BucketRefusals)
	if err != nil {
		return nil, err
	}
	e, err := kv.Get(ctx, id.String())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil //nolint:nilnil // documented: none
	}
	if err != nil {
		return nil, fmt.Errorf("look up refusal of %s: %w", id, err)
	}
	return decodeReason(e.Value())
}

// AwaitRefusal waits until the order is refused or ctx ends; nil, nil when it was not.
//
// All waits share one watcher of the bucket, started by the first: a watch of its own would cost
// each wait a consumer on the server, and refusals are few.
func (b *Bus) AwaitRefusal(ctx context.Context, id order.ID) (*order.Reason, error) {
	b.refusals.start.Do(func() { b.background.Go(b.watchRefusals) })
	told, leave := b.refusals.wait(id)
	defer leave()
	for n := 0; ; n++ {
		// What was refused before the watcher was up, or fell out of its index, is in the bucket
		// only. While the bus is away neither tells.
		r, err := b.Refusal(ctx, id)
		if r != nil {
			return r, nil
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(retry.Backoff(n, 10*time.Millisecond, 250*time.Millisecond))
		}
		select {
		case r := <-told:
			return r, nil
		case <-ctx.Done():
			return nil, nil //nolint:nilnil // documented: not refused in time
		case <-again:
		}
	}
}

func (b *Bus) watchRefusals() {
	b.watch(b.life, subjects.BucketRefusals, ">", func(e jetstream.KeyValueEntry) {
		var id order.ID
		if n, err := hex.Decode(id[:], []byte(e.Key())); err != nil || n != len(id) {
			return
		}
		r, err := decodeReason(e.Value())
		if err != nil || r == nil {
			return
		}
		b.refusals.add(id, r, e.Created())
	})
}

// refusals is the local index of the bucket: at most maxRefusals, none older than the window.
type refusals struct {
	window time.Duration
	start  sync.Once

	mu      sync.Mutex
	byID    map[order.ID]refusal
	order   []order.ID // oldest first
	waiters map[order.ID][]chan *order.Reason
}

type refusal struct {
	reason *order.Reason
	at     time.Time
}

func newRefusals(window time.Duration) *refusals {
	return &refusals{window: window, byID: make(map[order.ID]refusal), waiters: make(map[order.ID][]chan *order.Reason)}
}

func (rs *refusals) find(id order.ID, now time.Time) *order.Reason {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r, ok := rs.byID[id]; ok && now.Sub(r.at) < rs.window {
		return r.reason
	}
	return nil
}

func (rs *refusals) add(id order.ID, r *order.Reason, at time.Time) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if _, ok := rs.byID[id]; !ok {
		rs.order = append(rs.order, id)
	}
	rs.byID[id] = refusal{r, at}
	for len(rs.order) > maxRefusals || at.Sub(rs.byID[rs.order[0]].at) > rs.window {
		delete(rs.byID, rs.order[0])
		rs.order = rs.order[1:]
	}
	for _, w := range rs.waiters[id] {
		w <- r // has room for the one it gets
	}
	delete(rs.waiters, id)
}

// wait registers interest in id; leave ends it.
func (rs *refusals) wait(id order.ID) (told <-chan *order.Reason, leave func()) {
	ch := make(chan *order.Reason, 1)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.waiters[id] = append(rs.waiters[id], ch)
	return ch, func() {
		rs.mu.Lock()
		defer rs.mu.Unlock()
		ws := rs.waiters[id]
		for i, w := range ws {
			if w == ch {
				ws[i] = ws[len(ws)-1]
				ws = ws[:len(ws)-1]
				break
			}
		}
		if len(ws) == 0 {
			delete(rs.waiters, id)
		} else {
			rs.waiters[id] = ws
		}
	}
}

// watch calls f with every value under keys in the bucket, those that are there first, until ctx
// ends. The consumer behind a watch lives in the server's memory, so after each reconnect it is
// made anew, where the last one stopped.
func (b *Bus) watch(ctx context.Context, bucket, keys string, f func(jetstream.KeyValueEntry)) {
	var last uint64
	for n := 0; ctx.Err() == nil; n++ {
		err := b.watchOnce(ctx, bucket, keys, &last, func(e jetstream.KeyValueEntry) {
			n = 0
			f(e)
		})
		if err != nil && ctx.Err() == nil {
			b.log.LogAttrs(ctx, slog.LevelWarn, "watch of a bucket is made again", slog.String("bucket", bucket), slog.Any("error", err))
		}
		retry.Pause(ctx, retry.Backoff(n, 50*time.Millisecond, 2*time.Second))
	}
}

var errWatchEnded = errors.New("watch ended")

func (b *Bus) watchOnce(ctx context.Context, bucket, keys string, last *uint64, f func(jetstream.KeyValueEntry)) error {
	l, err := b.links.link(lane{use: useControl})
	if err != nil {
		return err
	}
	kv, err := b.bucket(ctx, bucket)
	if err != nil {
		return err
	}
	var opts []jetstream.WatchOpt
	if *last > 0 {
		opts = append(opts, jetstream.ResumeFromRevision(*last+1))
	}
	w, err := kv.Watch(ctx, keys, opts...)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	connected := l.reconnects()
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			if !ok {
				return errWatchEnded
			}
			if e != nil { // nil: all that was there has been told
				*last = e.Revision()
				f(e)
			}
		case <-tick.C:
			if l.reconnects() != connected {
				return errWatchEnded
			}
		}
	}
}

// watchTick is how soon a watch notices that its connection was made again.
const watchTick = 100 * time.Millisecond
