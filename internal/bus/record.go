package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/bus/embedded"
	"millrace/internal/bus/upkeep"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

// Errors of reading the record.
var (
	// ErrNoRecord: the bus keeps no record of orders (record.orders.max_bytes is 0, or nothing was
	// applied yet).
	ErrNoRecord = errors.New("no record of orders is kept")
	// ErrNoStore: there is no store in the directory.
	ErrNoStore = errors.New("no store there")
)

// RecordRange says which recorded orders are meant. The zero value means all that are stored when
// the reading begins.
type RecordRange struct {
	From  uint64    // first sequence in RECORD
	Since time.Time // received at or after
	Until time.Time // received before
}

// RecordSpan is what RECORD holds: sequences, and when the first and the last of them were stored.
type RecordSpan struct {
	First, Last     uint64
	Messages, Bytes uint64
	FirstAt, LastAt time.Time
}

// RecordSpan tells what the record holds now. ErrNoRecord when there is none.
func (b *Bus) RecordSpan(ctx context.Context) (RecordSpan, error) {
	_, s, err := b.record(ctx)
	if err != nil {
		return RecordSpan{}, err
	}
	st := s.CachedInfo().State
	return RecordSpan{
		First: st.FirstSeq, Last: st.LastSeq, Messages: st.Msgs, Bytes: st.Bytes, FirstAt: st.FirstTime, LastAt: st.LastTime,
	}, nil
}

func (b *Bus) record(ctx context.Context) (*link, jetstream.Stream, error) {
	l, err := b.links.link(lane{use: useScan})
	if err != nil {
		return nil, nil, fmt.Errorf("read record: %w", err)
	}
	s, err := l.js.Stream(ctx, subjects.StreamRecord)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil, ErrNoRecord
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read record: %w", err)
	}
	return l, s, nil
}

// Record calls f with every recorded order of the range, up to now, in the order of RECORD's
// sequence, which Delivery.Sequence and Delivery.StoredAt are of. The three classes are copied into
// RECORD independently, so orders of different classes may come a moment out of the order in which
// they were received. f may block for as long as it likes; the order and its body are its own. An
// error of f ends the reading and is returned as it is.
//
// A server that is away is waited for, at most 30 s; nothing is skipped or told twice over it. What
// can't be decoded is counted, logged and left out: it was not stored by a door.
func (b *Bus) Record(ctx context.Context, r RecordRange, f func(order.Delivery) error) error {
	rd := recordReader{bus: b, r: r, f: f, next: r.From}
	lost := time.Time{}
	for n := 0; ; n++ {
		before := rd.next
		err := rd.read(ctx)
		switch {
		case err == nil, rd.failed, errors.Is(err, ErrNoRecord):
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("read record: %w", ctx.Err())
		}
		if rd.next != before || lost.IsZero() {
			n, lost = 0, time.Now()
		}
		if time.Since(lost) > recordPatience {
			return fmt.Errorf("read record: %w", err)
		}
		retry.Pause(ctx, retry.Backoff(n, 50*time.Millisecond, time.Second))
	}
}

// OpenStore opens the store of a node that is not running, to read it: nothing of the topology is
// compared or changed, no port is opened, and Run is not for it. The server itself does what it does
// at every start: what is older than its stream allows goes. A store that a process runs on is
// embedded.ErrLocked, a directory without one ErrNoStore.
func OpenStore(ctx context.Context, dir string, log *slog.Logger) (*Bus, error) {
	if _, err := os.Stat(filepath.Join(dir, "jetstream")); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, ErrNoStore)
	}
	b := newBus(ctx, Config{StoreDir: dir, Sync: SyncInterval, Replicas: 1}, subjects.Options{}, log, prometheus.NewRegistry())
	err := func() error {
		s, err := embedded.Start(ctx, embedded.Config{StoreDir: dir, MaxPayload: 32 << 20}, log)
		if err != nil {
			return fmt.Errorf("open store: %w", err)
		}
		b.server = s
		b.links.url, b.links.base = s.ClientURL(), []nats.Option{s.ConnectOption()}
		b.clock = upkeep.LocalClock()
		_, err = b.await(ctx)
		return err
	}()
	if err != nil {
		b.Close() //nolint:contextcheck // undoing takes its time whatever became of ctx
		return nil, err
	}
	return b, nil
}
