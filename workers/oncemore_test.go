package workers

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/ledger"
	"millrace/internal/order"
	"millrace/subjects"
)

// handedOut is the bus as a source whose deliveries a test changes: what it says of the past.
type handedOut struct {
	*bus.Bus
	change  func(*order.Delivery)
	settled chan<- struct{}
}

func (s *handedOut) telling(settled chan<- struct{}) *handedOut {
	return &handedOut{s.Bus, s.change, settled}
}

func (s *handedOut) ConsumeIn(ctx context.Context, slots int,
	h func(context.Context, order.Delivery, func()) (func(context.Context) error, error),
) error {
	return s.Bus.ConsumeIn(ctx, slots, func(ctx context.Context, d order.Delivery, yield func()) (func(context.Context) error, error) {
		s.change(&d)
		finish, err := h(ctx, d, yield)
		if err != nil || finish == nil {
			return finish, err
		}
		return func(ctx context.Context) error {
			err := finish(ctx)
			if err == nil || order.AsReason(err) != nil {
				s.settled <- struct{}{}
			}
			return err
		}, nil
	})
}

// workFrom runs a pool on source's orders until stop is called; settled gets a value for each that
// ended.
func workFrom(t *testing.T, source *handedOut) (settled <-chan struct{}, stop func()) {
	t.Helper()
	b := source.Bus
	ended := make(chan struct{}, 8)
	ports := Ports{Source: source.telling(ended), Publisher: b, Recorder: b, Ends: b.Ends(ledger.Accepts), Refusals: b, Verdicts: b, Suspects: b, Clock: b}
	w, err := New(Config{SignerCache: cacheConfig()}, ports, anything, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return ended, func() {
		cancel()
		require.NoError(t, <-done)
	}
}

// builder does what a target's loop does: one record for each order in OK that has none yet.
type builder struct {
	log   *bus.DoneLog
	feed  *bus.Feed
	ended map[order.AcceptID]bool
}

func openBuilder(t *testing.T, b *bus.Bus) *builder {
	t.Helper()
	l := &builder{log: b.Done("builder"), feed: b.Feed("builder", "test", order.ScopeAll), ended: map[order.AcceptID]bool{}}
	require.NoError(t, l.feed.Open(t.Context()))
	require.NoError(t, l.log.Tail(t.Context(), b.Now().Add(-time.Hour), func(batch []byte) error {
		es, err := ledger.Decode(batch)
		for _, e := range es {
			l.ended[e.Accept] = true
		}
		return err
	}))
	return l
}

// settle ends everything that is in class p's OK now.
func (l *builder) settle(t *testing.T, b *bus.Bus, p order.Priority) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	last := live(t, b, acceptedBundle(t, sign(t, "last", dynamicTx(99))), p, time.Minute)
	_, err := b.PublishOK(t.Context(), last)
	require.NoError(t, err)
	go func() {
		done <- l.feed.Receive(ctx, p, func(d order.Delivery) {
			if d.Order.Accept == last.Accept {
				cancel()
				return
			}
			if !l.ended[d.Order.Accept] {
				l.ended[d.Order.Accept] = true
				e := ledger.Of(d.Order)
				e.Outcome, e.DoneAt = ledger.Expired, b.Now()
				if err := l.log.Append(t.Context(), e.AppendTo(nil)); err != nil {
					t.Errorf("append: %v", err)
				}
			}
			if err := l.feed.Ack(p, d.Sequence); err != nil {
				t.Errorf("ack: %v", err)
			}
		})
	}()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(soon):
		require.Fail(t, "the builder did not get to the end")
	}
}

// requireOneEnd reads the ledger back: o has this end and no other.
func requireOneEnd(t *testing.T, b *bus.Bus, o *order.Order, want ledger.Outcome) {
	t.Helper()
	audit := ledger.NewAudit()
	var got []ledger.Outcome
	require.NoError(t, b.Ledger(t.Context(), b.Now().Add(-time.Hour), func(subject string, batch []byte, _ time.Time) error {
		target := ledger.AnyTarget
		if subject == subjects.Done("builder") {
			target = "builder"
		}
		es, err := ledger.Decode(batch)
		for _, e := range es {
			if e.Accept == o.Accept {
				got = append(got, e.Outcome)
			}
		}
		require.NoError(t, err)
		return audit.Add(target, batch)
	}))
	require.Empty(t, audit.Violations())
	require.Equal(t, []ledger.Outcome{want}, got)
}

// Hole (a): the record is stored, the server dies and forgets the acknowledgement of IN.
func TestRule09AnOrderThatIsRecordedAsExpiredIsNotRecordedAgainWhenItComesBack(t *testing.T) {
	t.Parallel()
	store, early := t.TempDir(), filepath.Join(t.TempDir(), "early")
	b := dialAt(t, store)
	openBuilder(t, b)
	o := live(t, b, acceptedBundle(t, sign(t, "a", dynamicTx(1))), order.PriorityMedium, -time.Second)
	require.NoError(t, os.CopyFS(early, os.DirFS(store)))
	first := &handedOut{Bus: b, change: func(d *order.Delivery) { d.Seen = false }}
	settled, stop := workFrom(t, first)
	<-settled
	stop()
	requireOneEnd(t, b, o, ledger.Expired)
	b.Close()

	forget(t, store, early, subjects.StreamIn(order.PriorityMedium))
	b = dialAt(t, store)
	settled, stop = workFrom(t, &handedOut{Bus: b, change: func(d *order.Delivery) { require.True(t, d.Seen) }})
	<-settled
	stop()
	openBuilder(t, b).settle(t, b, order.PriorityMedium)
	requireOneEnd(t, b, o, ledger.Expired)
}

// Hole (b): an earlier attempt stored the order in OK and was not acknowledged; then the process is
// killed, for a reason of its own, while the order runs alone.
func TestRule08AnOrderThatIsInOKIsNotPoisonedBesides(t *testing.T) {
	t.Parallel()
	store, early := t.TempDir(), filepath.Join(t.TempDir(), "early")
	b := dialAt(t, store)
	openBuilder(t, b)
	o := live(t, b, acceptedBundle(t, sign(t, "a", dynamicTx(1))), order.PriorityMedium, time.Minute)
	require.NoError(t, os.CopyFS(early, os.DirFS(store)))
	settled, stop := workFrom(t, &handedOut{Bus: b, change: func(*order.Delivery) {}})
	<-settled
	stop()
	already, err := b.MarkSuspect(t.Context(), o.Accept)
	require.NoError(t, err)
	require.False(t, already)
	b.Close()

	forget(t, store, early, subjects.StreamIn(order.PriorityMedium))
	b = dialAt(t, store)
	settled, stop = workFrom(t, &handedOut{Bus: b, change: func(d *order.Delivery) { d.Deliveries += suspectAfter }})
	<-settled
	stop()
	openBuilder(t, b).settle(t, b, order.PriorityMedium)
	requireOneEnd(t, b, o, ledger.Expired)
	reason, err := b.Refusal(t.Context(), o.ID)
	require.NoError(t, err)
	require.Nil(t, reason, "its sender is not told what is not so")
	already, err = b.MarkSuspect(t.Context(), o.Accept)
	require.NoError(t, err)
	require.False(t, already, "the mark is gone")
	require.NoError(t, b.ClearSuspect(t.Context(), o.Accept))
}
