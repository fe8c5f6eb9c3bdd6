package bus

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

// reject stores a record of each acceptance.
func reject(t *testing.T, b *Bus, accepts ...order.AcceptID) {
	t.Helper()
	l, err := b.links.link(lane{use: useScan})
	require.NoError(t, err)
	for _, a := range accepts {
		_, err := l.js.PublishMsg(t.Context(), &nats.Msg{Subject: subjects.Rejected(order.PriorityLow), Data: a[:]})
		require.NoError(t, err)
	}
}

func has(t *testing.T, p *past, a order.AcceptID) bool {
	t.Helper()
	ok, err := p.has(t.Context(), a, time.Time{})
	require.NoError(t, err)
	return ok
}

func manyAccepts(n int, received time.Time) []order.AcceptID {
	out := make([]order.AcceptID, n)
	for i := range out {
		out[i] = order.NewAcceptID(received.Add(time.Duration(i) * time.Microsecond))
	}
	return out
}

func TestPastReadsOnFromWhereItStopped(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	p := testEnds(b).rejected
	now := time.Now()
	first, later := manyAccepts(3*batchMessages, now), manyAccepts(2, now)
	require.False(t, has(t, p, first[0]), "nothing is stored")
	reject(t, b, first...)
	require.True(t, has(t, p, first[len(first)-1]))
	next := p.next
	require.Equal(t, uint64(len(first)+1), next)
	require.False(t, has(t, p, later[0]))
	require.Equal(t, next, p.next)
	reject(t, b, later[0])
	require.True(t, has(t, p, later[0]))
	require.False(t, has(t, p, later[1]))
	require.Len(t, p.seen, len(first)+1)
}

func TestPastStartsAtTheQuestionsTime(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	p := testEnds(b).rejected
	now := time.Now()
	old, young := order.NewAcceptID(now.Add(-time.Hour)), order.NewAcceptID(now)
	reject(t, b, old, young)
	require.True(t, has(t, p, young))
	require.NotContains(t, p.seen, old, "nobody has asked for what is as old")
	require.True(t, has(t, p, old))
	require.False(t, has(t, p, order.NewAcceptID(now.Add(time.Hour))))
}

func TestPastBeyondItsBoundIsReadForOneQuestion(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	p := testEnds(b).rejected
	p.limit = 10
	now := time.Now()
	old, young := manyAccepts(8, now.Add(-time.Minute)), manyAccepts(8, now)
	reject(t, b, old...)
	require.True(t, has(t, p, old[0]))
	reject(t, b, young...)
	require.True(t, has(t, p, young[7]), "the old ones give way")
	require.Len(t, p.seen, 8)
	require.True(t, has(t, p, old[7]), "too many: nothing is remembered")
	require.False(t, has(t, p, order.NewAcceptID(now.Add(-time.Minute))))
	require.Empty(t, p.seen)
}

func TestPastEndsAtATime(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	p := testEnds(b).rejected
	a := manyAccepts(2, time.Now())
	reject(t, b, a[0])
	st, err := p.open(t.Context())
	require.NoError(t, err)
	between := st.CachedInfo().State.LastTime
	reject(t, b, a[1])
	ok, err := p.has(t.Context(), a[1], between)
	require.NoError(t, err)
	require.False(t, ok)
	require.True(t, p.through.After(between))
	require.Equal(t, uint64(2), p.next)
	ok, err = p.has(t.Context(), a[0], between)
	require.NoError(t, err)
	require.True(t, ok)
	require.True(t, has(t, p, a[1]))
}

func TestPastIsNotMisledByAStreamThatIsEmptyOrNew(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	p := testEnds(b).rejected
	a := manyAccepts(6, time.Now())
	reject(t, b, a[:5]...)
	require.True(t, has(t, p, a[0]))
	st, err := js.Stream(t.Context(), subjects.StreamRejected)
	require.NoError(t, err)
	reject(t, b, a[5])
	require.NoError(t, st.Purge(t.Context()))
	require.False(t, has(t, p, a[5]))
	require.True(t, has(t, p, a[0]), "it was there")
	require.NoError(t, js.DeleteStream(t.Context(), subjects.StreamRejected))
	_, err = p.has(t.Context(), order.NewAcceptID(time.Now()), time.Time{})
	require.Error(t, err)
	_, err = b.Apply(t.Context())
	require.NoError(t, err)
	reject(t, b, a[5])
	require.True(t, has(t, p, a[5]))
}

func TestPastPassesOverWhatItCantRead(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	p := testEnds(b).rejected
	l, err := b.links.link(lane{use: useScan})
	require.NoError(t, err)
	_, err = l.js.Publish(t.Context(), subjects.Rejected(order.PriorityLow), []byte("no batch"))
	require.NoError(t, err)
	a := order.NewAcceptID(time.Now())
	reject(t, b, a)
	require.True(t, has(t, p, a))
}

func TestQuestionsShareAPass(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	p := testEnds(b).rejected
	a := manyAccepts(200, time.Now())
	reject(t, b, a[:100]...)
	var all sync.WaitGroup
	for i := range a {
		all.Go(func() {
			if ok, err := p.has(t.Context(), a[i], time.Time{}); err != nil || ok != (i < 100) {
				t.Errorf("%d: %v, %v", i, ok, err)
			}
		})
	}
	all.Wait()
	p.told = 1 << 60
	require.False(t, has(t, p, a[150]), "answered by the last pass")
	p.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.has(ctx, a[0], time.Time{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestPastIsForgottenWhenNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPast(nil, "S", nil)
		inTurn := func(f func()) uint64 {
			p.turn <- struct{}{}
			defer func() { <-p.turn }()
			f()
			return p.next
		}
		inTurn(func() {
			p.restart(time.Now())
			p.next = 7
			p.stay()
		})
		time.Sleep(pastIdle / 2)
		inTurn(p.stay)
		time.Sleep(pastIdle * 3 / 4)
		synctest.Wait()
		require.Equal(t, uint64(7), inTurn(func() {}))
		time.Sleep(pastIdle)
		synctest.Wait()
		require.Zero(t, inTurn(func() {}))
	})
}
