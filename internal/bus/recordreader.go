package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/subjects"
)

// What a new consumer is made for.
var (
	// errRecordGap: a message was sent and did not arrive; nobody acknowledges.
	errRecordGap = errors.New("read record: a message did not arrive")
	// errRecordBehind: this copy of the stream does not have all of it yet.
	errRecordBehind = errors.New("read record: this copy of it is behind")
)

const (
	// recordBatch and recordBytes bound what one fetch of the record brings.
	recordBatch = 512
	recordBytes = 16 << 20
	// recordWait is how long one fetch waits for its first message.
	recordWait = time.Second
	// recordIdle is how long the server keeps a reader that asks for nothing; a reader that was held
	// up for longer by whom it reads for is made again.
	recordIdle = 30 * time.Second
	// recordPatience is how long the server may be away until reading is given up.
	recordPatience = 30 * time.Second
	// doorSpread is by how much orders of one class may be stored in another order than they were
	// received in: a large body comes in for longer than its small successor.
	doorSpread = 2 * time.Minute
	// recordSubjects are the orders among what RECORD holds.
	recordSubjects = "orders.in.>"
)

// recordReader is one reading of RECORD, over as many consumers as it takes.
type recordReader struct {
	bus    *Bus
	r      RecordRange
	f      func(order.Delivery) error
	next   uint64                          // sequence to go on from; zero: by time, or the first
	last   map[order.Priority]uint64       // last sequence of each class when the reading began
	past   [len(order.Priorities) + 1]bool // the class has nothing more of the range
	failed bool                            // the error is f's, final
	taken  uint64                          // sequence of this consumer that was taken last
	bad    int                             // messages that can't be decoded
}

// read goes on from next until the range is done. Any error but f's may be tried again.
func (rd *recordReader) read(ctx context.Context) error {
	l, s, err := rd.bus.record(ctx)
	if err != nil {
		return err
	}
	if err := rd.ends(ctx, s); err != nil {
		return err
	}
	if rd.done() {
		return nil
	}
	c, err := s.CreateConsumer(ctx, rd.consumer())
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	rd.taken = 0
	defer rd.discard(ctx, l, c)
	for !rd.done() {
		n, err := rd.batch(ctx, c)
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		info, err := c.Info(ctx)
		if err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		if info.Delivered.Consumer > rd.taken {
			return errRecordGap
		}
		if info.NumPending == 0 {
			return rd.ended(ctx, s)
		}
	}
	return nil
}

// ended decides about a consumer that has nothing more although the range is not done: its end went by
// age or size in the meantime, or this copy of the stream is behind the others.
func (rd *recordReader) ended(ctx context.Context, s jetstream.Stream) error {
	info, err := s.Info(ctx)
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	end := uint64(0)
	for _, p := range order.Priorities {
		if !rd.past[p] {
			end = max(end, rd.last[p])
		}
	}
	if info.State.FirstSeq > end || info.State.NumDeleted > 0 {
		return nil
	}
	return errRecordBehind
}

// ends finds out, once, where each class ends: what comes later is not of this reading.
func (rd *recordReader) ends(ctx context.Context, s jetstream.Stream) error {
	if rd.last != nil {
		return nil
	}
	last := make(map[order.Priority]uint64, len(order.Priorities))
	for _, p := range order.Priorities {
		m, err := s.GetLastMsgForSubject(ctx, "orders.in."+p.String()+".*")
		switch {
		case err == nil && !m.Time.Before(rd.since()):
			last[p] = m.Sequence
		case err == nil: // all of the class was received before
		case !errors.Is(err, jetstream.ErrMsgNotFound):
			return fmt.Errorf("read record: %w", err)
		}
	}
	rd.last = last
	rd.settle(0)
	return nil
}

// since is from when on what is stored may be of the range: nothing is stored before it was received,
// give or take what the doors' clocks are off.
func (rd *recordReader) since() time.Time {
	if rd.r.Since.IsZero() {
		return time.Time{}
	}
	return rd.r.Since.Add(-time.Second)
}

// settle notes which classes end before sequence next.
func (rd *recordReader) settle(next uint64) {
	for _, p := range order.Priorities {
		if rd.last[p] < max(next, rd.r.From, 1) {
			rd.past[p] = true
		}
	}
}

func (rd *recordReader) done() bool {
	for _, p := range order.Priorities {
		if !rd.past[p] {
			return false
		}
	}
	return true
}

func (rd *recordReader) consumer() jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1,
		InactiveThreshold: recordIdle, FilterSubject: recordSubjects, DeliverPolicy: jetstream.DeliverAllPolicy,
	}
	switch {
	case rd.next > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, rd.next
	case !rd.r.Since.IsZero():
		since := rd.since()
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	return cfg
}

// discard deletes the consumer; one that stays because the server is away goes by recordIdle.
func (rd *recordReader) discard(ctx context.Context, l *link, c jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout)
	defer cancel()
	_ = l.js.DeleteConsumer(ctx, subjects.StreamRecord, c.CachedInfo().Name)
	if rd.bad > 0 {
		rd.bus.log.LogAttrs(ctx, slog.LevelWarn, "messages in the record can't be read as orders", slog.Int("count", rd.bad))
		rd.bad = 0
	}
}

// batch reads what one fetch brings, and ends it once the range is done. A fetch has room for all that
// it asked for, so a slow f loses nothing; see intake.
func (rd *recordReader) batch(ctx context.Context, c jetstream.Consumer) (n int, err error) {
	// The library keeps a second of the deadline for itself.
	fctx, cancel := context.WithTimeout(ctx, recordWait+time.Second)
	defer cancel()
	b, err := c.Fetch(recordBatch, jetstream.FetchContext(fctx), jetstream.FetchMaxBytes(recordBytes))
	if err != nil {
		return 0, fmt.Errorf("read record: %w", err)
	}
	for m := range b.Messages() {
		n++
		if err == nil && !rd.done() {
			err = rd.take(ctx, m)
		}
		if err != nil || rd.done() {
			cancel() // the rest is of no use
		}
	}
	if err != nil || rd.done() {
		return n, err
	}
	err = b.Error()
	for _, harmless := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, jetstream.ErrBatchCompleted, jetstream.ErrMaxBytesExceeded, jetstream.ErrNoMessages,
	} {
		if errors.Is(err, harmless) {
			err = nil
		}
	}
	if err != nil {
		return n, fmt.Errorf("read record: %w", err)
	}
	return n, nil
}

// take hands one message to f if it is of the range.
func (rd *recordReader) take(ctx context.Context, m jetstream.Msg) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	seq := meta.Sequence.Stream
	if meta.Sequence.Consumer != rd.taken+1 {
		return errRecordGap
	}
	rd.taken++
	if seq < rd.next {
		return nil // told already
	}
	defer func() {
		rd.next = seq + 1
		rd.settle(rd.next)
	}()
	if subjects.IsVoid(m.Subject()) {
		return nil
	}
	o, err := subjects.DecodeOrder(m.Headers(), m.Data())
	if err != nil {
		rd.bad++
		return nil // counted
	}
	if until := rd.r.Until; !until.IsZero() && !o.ReceivedAt.Before(until) {
		rd.past[o.Priority] = rd.past[o.Priority] || o.ReceivedAt.Sub(until) > doorSpread
		return nil
	}
	if seq > rd.last[o.Priority] || o.ReceivedAt.Before(rd.r.Since) {
		return nil
	}
	d := order.Delivery{Order: o, Sequence: seq, StoredAt: meta.Timestamp, Deliveries: 1, Size: len(o.Body)}
	if err := rd.f(d); err != nil {
		rd.failed = true
		return err
	}
	return nil
}
