package bus

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

func TestVerdictsReachTheirIngressAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	door, worker := testBus(t, s), testBus(t, s)
	var mu sync.Mutex
	var got []order.Verdict
	background(t, func(ctx context.Context) error {
		return door.Verdicts(ctx, "door-1", func(v order.Verdict) { mu.Lock(); got = append(got, v); mu.Unlock() })
	})
	v := order.Verdict{Accept: order.NewAcceptID(time.Now()), ID: order.ID{1}, Reason: order.Refuse(order.CodeGasLimit, "too much")}
	arrives := func() {
		mu.Lock()
		got = nil
		mu.Unlock()
		require.Eventually(t, func() bool {
			_ = worker.SendVerdict(t.Context(), "door-2", order.Verdict{})
			_ = worker.SendVerdict(t.Context(), "door-1", v)
			mu.Lock()
			defer mu.Unlock()
			return len(got) > 0
		}, soon, tick)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, v, got[0])
	}
	arrives()
	s.Restart(t)
	arrives()
	require.Error(t, worker.SendVerdict(t.Context(), "door.>", v), "the name came in a header")
}

func TestSignerBatchesReachOtherProcessesAndNotOneself(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := testBus(t, s), testBus(t, s)
	heard := make(chan string, 1000)
	for name, bus := range map[string]*Bus{"a": a, "b": b} {
		background(t, func(ctx context.Context) error {
			return bus.SignerBatches(ctx, func(batch []byte) { heard <- name + string(batch) })
		})
	}
	require.Eventually(t, func() bool {
		require.NoError(t, a.BroadcastSigners(t.Context(), []byte("1")))
		select {
		case got := <-heard:
			require.Equal(t, "b1", got)
			return true
		default:
			return false
		}
	}, soon, tick)
}

func TestVerdictsForADoorOfTheSameProcessNeedNoServer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	got := make(chan order.Verdict, 1)
	stop := background(t, func(ctx context.Context) error {
		return b.Verdicts(ctx, "door-1", func(v order.Verdict) { got <- v })
	})
	require.Eventually(t, func() bool { return b.ears.of("door-1") != nil }, soon, tick)
	s.Stop()
	v := order.Verdict{Accept: order.NewAcceptID(time.Now()), Reason: order.Refuse(order.CodeGasLimit, "too much")}
	require.NoError(t, b.SendVerdict(t.Context(), "door-1", v))
	require.Equal(t, v, <-got)
	e := b.ears.of("door-1")
	stop()
	require.Nil(t, b.ears.of("door-1"))
	e.hear(v)
	require.Empty(t, got, "nobody listens any more")
}

func FuzzDecodeVerdict(f *testing.F) {
	f.Add(encodeVerdict(order.Verdict{}))
	f.Add(encodeVerdict(order.Verdict{Accept: order.AcceptID{1}, Reason: order.Refuse(order.CodeExpired, "late")}))
	f.Add([]byte{verdictVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeVerdict(b)
		if err != nil {
			return
		}
		if again := encodeVerdict(v); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func TestRefusalIsReadableFromEveryProcess(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := testBus(t, s), testBus(t, s)
	id := order.ID{7}
	r, err := b.Refusal(t.Context(), id)
	require.NoError(t, err)
	require.Nil(t, r)
	want := order.Refuse(order.CodeChainID, "wrong chain")
	require.NoError(t, a.PutRefusal(t.Context(), id, want))
	r, err = b.Refusal(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, want, r)
}

func TestRule05RefusalIsAwaited(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := testBus(t, s), testBus(t, s)
	want := order.Refuse(order.CodeChainID, "wrong chain")

	early := order.ID{1} // refused before anyone watches
	require.NoError(t, a.PutRefusal(t.Context(), early, want))
	r, err := b.AwaitRefusal(t.Context(), early)
	require.NoError(t, err)
	require.Equal(t, want, r)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	r, err = b.AwaitRefusal(ctx, order.ID{2})
	require.NoError(t, err)
	require.Nil(t, r)

	awaits := func(id order.ID) {
		told := make(chan *order.Reason, 2)
		for range 2 {
			go func() { r, _ := b.AwaitRefusal(t.Context(), id); told <- r }()
		}
		require.Eventually(t, func() bool {
			b.refusals.mu.Lock()
			defer b.refusals.mu.Unlock()
			return len(b.refusals.waiters[id]) == 2
		}, soon, time.Millisecond)
		require.Eventually(t, func() bool { return a.PutRefusal(t.Context(), id, want) == nil }, soon, tick)
		require.Equal(t, want, <-told)
		require.Equal(t, want, <-told)
	}
	awaits(order.ID{3})
	s.Restart(t) // the watch's consumer is gone
	awaits(order.ID{4})
	b.refusals.mu.Lock()
	defer b.refusals.mu.Unlock()
	require.Empty(t, b.refusals.waiters)
}

func TestRefusalIndexIsBoundedInNumberAndAge(t *testing.T) {
	rs := newRefusals(time.Minute)
	at := time.Now()
	for i := range maxRefusals + 10 {
		rs.add(order.ID{byte(i), byte(i >> 8), byte(i >> 16)}, order.Refuse(order.CodeExpired, ""), at)
	}
	require.Len(t, rs.byID, maxRefusals)
	require.Nil(t, rs.find(order.ID{}, at), "the oldest went")
	require.NotNil(t, rs.find(order.ID{20}, at))
	require.Nil(t, rs.find(order.ID{20}, at.Add(time.Minute)))
	rs.add(order.ID{1, 2, 3, 4}, order.Refuse(order.CodeExpired, ""), at.Add(2*time.Minute))
	require.Len(t, rs.byID, 1)
	require.Len(t, rs.order, 1)
}

func TestRule08SuspectMarksOfTwoDeadProcessesCountAndOfALivingOneDoNot(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b, c := testBus(t, s), testBus(t, s), testBus(t, s)
	const quick = 400 * time.Millisecond // not suspectTick: some eighteen of them are waited for
	for _, each := range []*Bus{a, b, c} {
		each.suspects.tick = quick
	}
	id := order.NewAcceptID(time.Now())
	already, err := a.MarkSuspect(t.Context(), id)
	require.NoError(t, err)
	require.False(t, already)
	already, err = a.MarkSuspect(t.Context(), id)
	require.NoError(t, err)
	require.False(t, already, "one's own mark of this life")

	_, err = b.MarkSuspect(t.Context(), id)
	_, ok := retry.Delay(err)
	require.True(t, ok, "the other process may be alive: %v", err)
	never(t, func() bool { already, _ = b.MarkSuspect(t.Context(), id); return already }, (suspectDead+1)*quick, "it is")
	a.Close()
	require.Eventually(t, func() bool { already, err = b.MarkSuspect(t.Context(), id); return err == nil }, soon, 50*time.Millisecond)
	require.False(t, already, "a may have been killed for another reason")
	already, err = b.MarkSuspect(t.Context(), id)
	require.NoError(t, err)
	require.False(t, already, "one's own mark of this life")
	never(t, func() bool { already, _ = c.MarkSuspect(t.Context(), id); return already }, (suspectDead+1)*quick, "b lives")
	b.Close()
	require.Eventually(t, func() bool { already, _ = c.MarkSuspect(t.Context(), id); return already }, soon, 50*time.Millisecond)
	require.NoError(t, c.ClearSuspect(t.Context(), id))
	b = c
	already, err = b.MarkSuspect(t.Context(), id)
	require.NoError(t, err)
	require.False(t, already)
}

func TestUnreadableVerdictIsSkipped(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	heard := make(chan order.Verdict, 10)
	background(t, func(ctx context.Context) error {
		return b.Verdicts(ctx, "d", func(v order.Verdict) { heard <- v })
	})
	nc := s.Connect(t)
	require.Eventually(t, func() bool {
		require.NoError(t, nc.PublishMsg(&nats.Msg{Subject: subjects.Verdicts("d"), Data: []byte("?")}))
		require.NoError(t, nc.PublishMsg(&nats.Msg{Subject: subjects.Verdicts("d"), Data: encodeVerdict(order.Verdict{ID: order.ID{9}})}))
		select {
		case v := <-heard:
			return v.ID == order.ID{9}
		case <-time.After(tick):
			return false
		}
	}, soon, tick)
}
