package bus

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/internal/order"
)

func testJob(p order.Priority, size int) *job {
	return &job{delivery: order.Delivery{Order: &order.Order{Priority: p}, Size: size}, since: time.Now()}
}

func TestUrgentGoesFirstButOneInSixteenOfTheRestGetsItsTurn(t *testing.T) {
	q := newQueue(1000)
	for range 200 {
		require.True(t, q.put(testJob(order.PriorityHigh, 1)))
	}
	for range 5 {
		require.True(t, q.put(testJob(order.PriorityMedium, 1)))
		require.True(t, q.put(testJob(order.PriorityLow, 1)))
	}
	var got []order.Priority
	for range 18 {
		j := q.take()
		got = append(got, j.delivery.Order.Priority)
		q.done(j)
	}
	for i := range favour {
		require.Equal(t, order.PriorityHigh, got[i])
	}
	require.Equal(t, []order.Priority{order.PriorityMedium, order.PriorityLow}, got[favour:])
}

func TestNoClassIsPassedOverMoreThanItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(1 << 20)
		since := map[order.Priority]int{}
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			if p := order.Priority(rapid.IntRange(0, 3).Draw(t, "put")); p != 0 {
				q.put(testJob(p, 1))
				continue
			}
			q.mu.Lock()
			waiting := map[order.Priority]bool{}
			for _, p := range order.Priorities {
				waiting[p] = len(q.classes[p].waiting) > 0
			}
			q.mu.Unlock()
			if !waiting[1] && !waiting[2] && !waiting[3] {
				continue
			}
			j := q.take()
			took := j.delivery.Order.Priority
			q.done(j)
			for _, p := range order.Priorities {
				if p == took || !waiting[p] {
					since[p] = 0
				} else {
					since[p]++
				}
				if since[p] > 2*favour+2 {
					t.Fatalf("class %s waited for %d others", p, since[p])
				}
			}
		}
	})
}

func TestClassAtItsBoundDoesNotHoldBackTheOthers(t *testing.T) {
	q := newQueue(10)
	require.True(t, q.put(testJob(order.PriorityHigh, maxHeldBytes)))
	first := q.take()
	require.True(t, q.put(testJob(order.PriorityHigh, 1)))
	require.True(t, q.put(testJob(order.PriorityLow, 1)))
	require.Equal(t, order.PriorityLow, q.take().delivery.Order.Priority)
	require.Nil(t, q.takeAbove(order.PriorityLow))
	q.done(first)
	require.Equal(t, order.PriorityHigh, q.take().delivery.Order.Priority)
}

func TestPutWaitsForRoomAndCloseReturnsWhatWasNotBegun(t *testing.T) {
	q := newQueue(1)
	require.True(t, q.put(testJob(order.PriorityLow, 1)))
	refused := make(chan bool)
	go func() { refused <- q.put(testJob(order.PriorityLow, 1)) }()
	select {
	case <-refused:
		t.Fatal("put beyond the room")
	case <-time.After(10 * time.Millisecond):
	}
	require.Len(t, q.close(), 1)
	require.False(t, <-refused)
	require.Nil(t, q.take())
	require.Empty(t, q.stale(time.Now().Add(time.Hour), 0))
}

func TestTakeAboveReturnsOnlyMoreUrgentWork(t *testing.T) {
	q := newQueue(10)
	q.put(testJob(order.PriorityMedium, 1))
	require.Nil(t, q.takeAbove(order.PriorityHigh))
	require.Nil(t, q.takeAbove(order.PriorityMedium))
	require.NotNil(t, q.takeAbove(order.PriorityLow))
	require.Nil(t, q.takeAbove(order.PriorityLow))
}

func TestStaleReportsEachJobOncePerAge(t *testing.T) {
	q := newQueue(10)
	q.put(testJob(order.PriorityHigh, 1))
	at := time.Now().Add(progressAge)
	require.Len(t, q.stale(at, progressAge), 1)
	require.Empty(t, q.stale(at.Add(progressAge/2), progressAge))
	require.Len(t, q.stale(at.Add(progressAge), progressAge), 1)
}
