package bus

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

// acceptsOf reads what testEnds calls ledger entries: acceptances back to back.
func acceptsOf(batch []byte) ([]order.AcceptID, error) {
	if len(batch)%len(order.AcceptID{}) != 0 {
		return nil, errors.New("bad batch")
	}
	var out []order.AcceptID
	for a := range batchesOf(batch) {
		out = append(out, a)
	}
	return out, nil
}

func batchesOf(batch []byte) func(func(order.AcceptID) bool) {
	return func(yield func(order.AcceptID) bool) {
		for ; len(batch) > 0; batch = batch[len(order.AcceptID{}):] {
			if !yield(order.AcceptID(batch)) {
				return
			}
		}
	}
}

func testEnds(b *Bus) *Ends { return b.Ends(acceptsOf) }

// aged returns an order that was received so long ago.
func aged(p order.Priority, age time.Duration) *order.Order {
	o := testOrder(p)
	o.ReceivedAt = o.ReceivedAt.Add(-age)
	o.Accept, o.Deadline = order.NewAcceptID(o.ReceivedAt), o.ReceivedAt.Add(36*time.Second)
	return o
}

func TestRule09OneOfStoringAndClaimingWins(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	e, other := testEnds(b), testEnds(b)
	stored, ended := testOrder(order.PriorityHigh), testOrder(order.PriorityHigh)
	_, err := b.PublishOK(t.Context(), stored)
	require.NoError(t, err)
	got, err := e.ClaimEnd(t.Context(), stored, []byte("late"))
	require.NoError(t, err)
	require.Nil(t, got, "it is in OK")

	got, err = e.ClaimEnd(t.Context(), ended, []byte("first"))
	require.NoError(t, err)
	require.Equal(t, "first", string(got))
	got, err = other.ClaimEnd(t.Context(), ended, []byte("second"))
	require.NoError(t, err)
	require.Equal(t, "first", string(got), "whoever comes next finishes what the first began")
	r, err := b.PublishOK(t.Context(), ended)
	require.NoError(t, err)
	require.True(t, r.Duplicate, "nothing is stored behind a claim")
}

func TestRule09ManyWorkersAgreeOnOneEnd(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	e := testEnds(b)
	for range 50 {
		o := testOrder(order.PriorityMedium)
		var mu sync.Mutex
		ends := map[string]int{}
		var all sync.WaitGroup
		for _, entry := range []string{"one", "two", "three"} {
			all.Go(func() {
				got, err := e.ClaimEnd(t.Context(), o, []byte(entry))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("claim: %v", err)
				}
				ends[string(got)]++
			})
			all.Go(func() {
				if _, err := b.PublishOK(t.Context(), o); err != nil {
					t.Errorf("publish: %v", err)
				}
			})
		}
		all.Wait()
		require.Len(t, ends, 1, "%v", ends)
	}
	st, err := js.Stream(t.Context(), subjects.StreamOK(order.PriorityMedium))
	require.NoError(t, err)
	require.Equal(t, uint64(50), st.CachedInfo().State.Msgs)
}

func TestAClaimIsNobodysOrder(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("builder", "f", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	_, err := testEnds(b).ClaimEnd(t.Context(), testOrder(order.PriorityLow), []byte("entry"))
	require.NoError(t, err)
	o := testOrder(order.PriorityLow)
	_, err = b.PublishOK(t.Context(), o)
	require.NoError(t, err)
	got := make(chan order.Delivery, 8)
	background(t, func(ctx context.Context) error {
		return f.Receive(ctx, order.PriorityLow, func(d order.Delivery) {
			got <- d
			_ = f.Ack(order.PriorityLow, d.Sequence)
		})
	})
	require.Equal(t, o.Accept, (<-got).Order.Accept)
	require.Eventually(t, func() bool { return drained(t, js, "OK_LOW", subjects.TargetDurable("builder")) }, soon, tick)
	require.Empty(t, got)
}

// forgetIDs makes the server know no message id of a stream any more, with or without its messages.
func forgetIDs(t *testing.T, s *natstest.Server, stream string) {
	t.Helper()
	st, err := s.JetStream(t).Stream(t.Context(), stream)
	require.NoError(t, err)
	require.NoError(t, st.Purge(t.Context()))
	s.Restart(t)
}

// What is purged from OK was settled by every target: the ledger knows it, when the table of message
// ids has forgotten it.
func TestRule09WhatWasPurgedFromOKHasEnded(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	o, lost := aged(order.PriorityMedium, 40*time.Second), aged(order.PriorityMedium, 40*time.Second)
	_, err := b.PublishOK(t.Context(), o)
	require.NoError(t, err)
	l := b.Done("builder")
	tail(t, l, time.Now())
	require.NoError(t, l.Append(t.Context(), append(aged(order.PriorityLow, 0).Accept[:], o.Accept[:]...)))
	forgetIDs(t, s, subjects.StreamOK(order.PriorityMedium))
	e := testEnds(b)
	require.Eventually(t, func() bool { _, err := e.ClaimEnd(t.Context(), o, []byte("again")); return err == nil }, soon, tick)
	got, err := e.ClaimEnd(t.Context(), o, []byte("again"))
	require.NoError(t, err)
	require.Nil(t, got)
	got, err = e.ClaimEnd(t.Context(), lost, []byte("first"))
	require.NoError(t, err)
	require.Equal(t, "first", string(got))
	require.NoError(t, l.Append(t.Context(), lost.Accept[:]))
	got, err = e.ClaimEnd(t.Context(), lost, []byte("again"))
	require.NoError(t, err)
	require.Nil(t, got, "it reads on")
}

// A claim that was purged may not have been recorded: then it is, now.
func TestRule09AClaimThatWasPurgedUnrecordedIsRecorded(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	e := testEnds(b)
	old, young := aged(order.PriorityMedium, 40*time.Second), testOrder(order.PriorityMedium)
	for _, o := range []*order.Order{old, young} {
		_, err := e.ClaimEnd(t.Context(), o, []byte("first"))
		require.NoError(t, err)
	}
	st, err := s.JetStream(t).Stream(t.Context(), subjects.StreamOK(order.PriorityMedium))
	require.NoError(t, err)
	require.NoError(t, st.Purge(t.Context()))
	got, err := e.ClaimEnd(t.Context(), old, []byte("second"))
	require.NoError(t, err)
	require.Equal(t, "second", string(got))
	_, err = e.ClaimEnd(t.Context(), young, []byte("second"))
	require.ErrorIs(t, err, jetstream.ErrMsgNotFound, "what is young is not purged: a replica is late")
}

func TestRule09WhatIsOlderThanTheWindowIsLookedForEverywhere(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	const age = 5 * time.Minute
	inOK, recorded, neither := aged(order.PriorityHigh, age), aged(order.PriorityHigh, age), aged(order.PriorityHigh, age)
	_, err := s.JetStream(t).PublishMsg(t.Context(), &nats.Msg{ // its id is forgotten
		Subject: subjects.OK("", order.PriorityHigh, 0), Header: subjects.EncodeOrder(inOK),
	})
	require.NoError(t, err)
	_, err = s.JetStream(t).PublishMsg(t.Context(), &nats.Msg{Subject: subjects.Rejected(order.PriorityHigh), Data: recorded.Accept[:]})
	require.NoError(t, err)
	e := testEnds(b)
	e.window = -time.Minute // as if they had been stored long ago
	for o, want := range map[*order.Order]string{inOK: "", recorded: "", neither: "entry"} {
		got, err := e.ClaimEnd(t.Context(), o, []byte("entry"))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	yes, err := e.Recorded(t.Context(), recorded)
	require.NoError(t, err)
	require.True(t, yes)
	yes, err = e.Recorded(t.Context(), inOK)
	require.NoError(t, err)
	require.False(t, yes)
}

func TestAClaimThatCantBeMadeSaysNothing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	e := testEnds(b)
	_, err := e.Recorded(t.Context(), testOrder(order.PriorityHigh)) // opens the connection
	require.NoError(t, err)
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = e.ClaimEnd(ctx, testOrder(order.PriorityHigh), []byte("entry"))
	require.ErrorIs(t, err, order.ErrUnavailable)
	_, err = e.Recorded(ctx, testOrder(order.PriorityHigh))
	require.Error(t, err)
	s.Restart(t)
	require.Eventually(t, func() bool {
		_, err := e.ClaimEnd(t.Context(), testOrder(order.PriorityHigh), []byte("entry"))
		return err == nil
	}, soon, tick)
}
