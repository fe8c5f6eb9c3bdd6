package bus

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

func roomy(o *subjects.Options) {
	o.InMaxBytes, o.OKMaxBytes, o.RecordMaxBytes = 2<<30, 2<<30, 0
}

func benchOrder(p order.Priority) *order.Order {
	o := testOrder(p)
	o.Body = make([]byte, 7<<10)
	return o
}

func BenchmarkPublish(b *testing.B) {
	for _, callers := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			bus := testBus(b, natstest.Start(b), roomy)
			b.ReportAllocs()
			b.SetBytes(7 << 10)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						if _, err := bus.Publish(context.Background(), benchOrder(order.PriorityHigh)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func BenchmarkConsumeIn(b *testing.B) {
	bus := testBus(b, natstest.Start(b), roomy)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range b.N/64 + 1 {
				_, _ = bus.Publish(context.Background(), benchOrder(order.PriorityHigh))
			}
		})
	}
	wg.Wait()
	total := int64(b.N/64+1) * 64
	var seen atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	background(b, func(ctx context.Context) error {
		return bus.ConsumeIn(ctx, 2, func(context.Context, order.Delivery, func()) (func(context.Context) error, error) {
			seen.Add(1)
			return nil, nil
		})
	})
	require.Eventually(b, func() bool { return seen.Load() >= total }, time.Minute, time.Millisecond)
}

func BenchmarkLedgerAppend(b *testing.B) {
	bus := testBus(b, natstest.Start(b), roomy)
	l := bus.Done("x")
	tail(b, l, time.Now())
	batch := make([]byte, 64*320)
	b.ReportAllocs()
	for b.Loop() {
		batch[0]++
		require.NoError(b, l.Append(context.Background(), batch))
	}
}

func BenchmarkQueue(b *testing.B) {
	q := newQueue(room)
	j := testJob(order.PriorityHigh, 1)
	b.ReportAllocs()
	for b.Loop() {
		q.put(j)
		q.done(q.take())
	}
}

func BenchmarkDecodeVerdict(b *testing.B) {
	data := encodeVerdict(order.Verdict{Reason: order.Refuse(order.CodeGasLimit, "intrinsic gas too low")})
	b.ReportAllocs()
	for b.Loop() {
		_, _ = decodeVerdict(data)
	}
}
