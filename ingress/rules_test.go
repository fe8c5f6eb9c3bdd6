package ingress

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func TestRule02EachAcceptanceHasItsOwnIdAndDeadline(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.now = time.Unix(1_730_000_000, 123_456_000)
	d := open(t, b)
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(1)).status)
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), bundle(1, `,"maxTimestamp":1730000005`)).status)
	orders := b.orders()
	require.Len(t, orders, 2)
	require.NotEqual(t, orders[0].Accept, orders[1].Accept)
	require.Equal(t, b.now.UnixMicro(), orders[0].Accept.Received().UnixMicro())
	require.Equal(t, b.now.Add(36*time.Second).UnixMicro(), orders[0].Deadline.UnixMicro())
	require.Equal(t, int64(1_730_000_005), orders[1].Deadline.Unix())
	require.Equal(t, d.ID(), orders[0].Ingress)
	require.Equal(t, rawTx(1), string(orders[0].Body))
	require.Equal(t, signed(t, keyOf(1), rawTx(1)), orders[0].Signature)
}

func TestRule02ExpiredOrdersAreRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	a := d.sent(keyOf(1), bundle(1, `,"maxTimestamp":1730000000`))
	require.Equal(t, http.StatusBadRequest, a.status)
	require.Contains(t, a.body, "maxTimestamp has passed")
	require.Empty(t, d.bus.orders())
}

func TestRule03CancelUpdateCancelAgainIsNeverARepeat(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.now = time.Unix(1_730_000_000, 0) // a clock that stands still
	d := open(t, b)
	for _, body := range []string{cancel(someUUID), bundle(1, `,"replacementUuid":"`+someUUID+`"`), cancel(someUUID), cancel(someUUID)} {
		require.Equal(t, http.StatusOK, d.sent(keyOf(1), body).status)
	}
	orders := b.orders()
	require.Len(t, orders, 4)
	for i, o := range orders {
		require.Equal(t, uint64(1_730_000_000_000_000+i), o.Nonce)
		require.True(t, o.NonceDefaulted)
	}
}

func TestRule03DefaultNonceExceedsAStoredExplicitOne(t *testing.T) {
	t.Parallel()
	b := newBus()
	d := open(t, b)
	future := uint64(time.Now().Add(time.Hour).UnixMicro())
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), bundle(1, fmt.Sprintf(`,"replacementUuid":%q,"replacementNonce":%d`, someUUID, future))).status)
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), cancel(someUUID)).status)
	require.Equal(t, http.StatusOK, d.sent(keyOf(2), cancel(someUUID)).status)
	orders := b.orders()
	require.Equal(t, future+1, orders[1].Nonce)
	require.Less(t, orders[2].Nonce, future, "another signer's key is another key")
}

func TestRule03EqualNonceWithOtherContentIsRefused(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	first := bundle(1, `,"replacementUuid":"`+someUUID+`","replacementNonce":5`)
	other := bundle(2, `,"replacementUuid":"`+someUUID+`","replacementNonce":5`)
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), first).status)
	a := d.sent(keyOf(1), other)
	require.Equal(t, http.StatusBadRequest, a.status)
	require.Contains(t, a.body, "replacement nonce")
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), first).status, "A, B, A: the second A is a repeat")
	require.Equal(t, http.StatusOK, d.sent(keyOf(2), other).status, "another signer's key")
	require.Len(t, d.bus.orders(), 2)
}

func TestRule03NothingFollowsTheHighestNonce(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), bundle(1, `,"replacementUuid":"`+someUUID+`","replacementNonce":18446744073709551615`)).status)
	require.Equal(t, http.StatusBadRequest, d.sent(keyOf(1), cancel(someUUID)).status)
}

// STYLE 17: a refused sender can try again.
func TestRule03NothingIsRememberedOfAnOrderThatWasNotStored(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.publish = func(*order.Order) error { return order.ErrFull }
	d := open(t, b)
	first := bundle(1, `,"replacementUuid":"`+someUUID+`","replacementNonce":18446744073709551615`)
	a := d.sent(keyOf(1), first)
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Contains(t, a.body, "Disk full")
	require.Equal(t, "1", a.header.Get("Retry-After"))

	b.set(func(b *bus) { b.publish = nil })
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), cancel(someUUID)).status, "the nonce was not recorded")
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), first).status, "nor was the order seen")
	require.Len(t, b.orders(), 2)
}

func TestRule04UnknownOutcomeIsAnErrorAndNotRemembered(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.publish = func(*order.Order) error { return errors.New("timed out") }
	d := open(t, b)
	a := d.sent(keyOf(1), rawTx(1))
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Contains(t, a.body, `"Internal error"`)
	require.NotContains(t, a.body, "timed out")
	b.set(func(b *bus) { b.publish = nil })
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(1)).status)
}

func TestRule05ConcurrentRepeatsJoinTheFirstOutcome(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]*order.Reason{"accepted": nil, "refused": order.Refuse(order.CodeGasLimit, "too much gas")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBus()
			release := make(chan struct{})
			b.publish = func(*order.Order) error { <-release; return nil }
			b.decide = func(*order.Order) (*order.Reason, bool) { return reason, true }
			d := open(t, b)
			const n = 8
			answers := make([]answer, n)
			var wg sync.WaitGroup
			header := signed(t, keyOf(1), rawTx(1))
			for i := range n {
				wg.Go(func() { answers[i], _ = d.try(t.Context(), rawTx(1), header) })
			}
			require.Eventually(t, func() bool { return b.calls.Load() == 1 }, 5*time.Second, time.Millisecond)
			close(release)
			wg.Wait()
			for _, a := range answers {
				require.Equal(t, answers[0].body, a.body)
				require.Equal(t, reason == nil, a.status == http.StatusOK)
			}
			require.Len(t, b.orders(), 1)
			require.Equal(t, int64(1), b.calls.Load())
		})
	}
}

func TestRule05JoinedCallsFailWithTheFirstAndMayRetry(t *testing.T) {
	t.Parallel()
	b := newBus()
	release := make(chan struct{})
	b.publish = func(*order.Order) error { <-release; return order.ErrUnavailable }
	d := open(t, b)
	var wg sync.WaitGroup
	statuses := make([]int, 4)
	header := signed(t, keyOf(1), rawTx(1))
	for i := range statuses {
		wg.Go(func() { a, _ := d.try(t.Context(), rawTx(1), header); statuses[i] = a.status })
	}
	require.Eventually(t, func() bool { return b.calls.Load() == 1 }, 5*time.Second, time.Millisecond)
	close(release)
	wg.Wait()
	for _, status := range statuses {
		require.Equal(t, http.StatusServiceUnavailable, status)
	}
	b.set(func(b *bus) { b.publish = nil })
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(1)).status)
}

func TestRule05InvalidOrderIsRefusedTwiceThroughTwoDoors(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]time.Duration{"waiting": 5 * time.Second, "at once": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBus()
			b.decide = func(*order.Order) (*order.Reason, bool) { return order.Refuse(order.CodeChainID, "wrong chain"), true }
			one := open(t, b)
			require.Equal(t, http.StatusBadRequest, one.sent(keyOf(1), rawTx(1)).status)
			require.NoError(t, one.stop())

			b.set(func(b *bus) { b.heard = make(chan struct{}) })
			two := open(t, b, func(c *Config) { c.VerdictWait = wait })
			a := two.sent(keyOf(1), rawTx(1))
			require.Equal(t, http.StatusBadRequest, a.status)
			require.Contains(t, a.body, "wrong chain")
			require.Len(t, b.orders(), 1)
		})
	}
}

func TestLateRefusalCountsAgainstTheSenderAndIsRepeated(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.decide = func(*order.Order) (*order.Reason, bool) { return nil, false } // no verdict in time
	d := open(t, b, func(c *Config) { c.VerdictWait = time.Millisecond })
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(1)).status)
	o := b.orders()[0]
	b.hear(order.Verdict{Accept: o.Accept, ID: o.ID, Signer: o.Signer, Reason: order.Refuse(order.CodeGasLimit, "too much gas")})
	a := d.sent(keyOf(1), rawTx(1))
	require.Equal(t, http.StatusBadRequest, a.status)
	require.Contains(t, a.body, "too much gas")
	require.Equal(t, 0, d.waiters.len())
	require.Positive(t, d.Server.memory.Load().entityScore(t, o))
}

func (m *memory) entityScore(t *testing.T, o *order.Order) float64 {
	t.Helper()
	e, ok := m.entities.GetIfPresent(o.Signer)
	require.True(t, ok)
	return e.standing(e.forger, time.Now()).score
}

func TestRule06StoredBytesPerAddressAreBudgeted(t *testing.T) {
	t.Parallel()
	b := newBus()
	big := bundle(1, `,"note":"`+strings.Repeat("x", 1000)+`"`)
	d := open(t, b, func(c *Config) { c.MaxBody = 2048; c.IPBytes = 2048 })
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), big).status)
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), big).status, "a repeat stores nothing")
	a := d.sent(keyOf(2), big)
	require.Equal(t, http.StatusTooManyRequests, a.status, "another signer, the same address")
	require.Equal(t, "1", a.header.Get("Retry-After"))
	require.Len(t, b.orders(), 1)
}

func TestRule06LargeOrdersAreNeverHigh(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(1)).status)
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(2)+strings.Repeat(" ", order.MaxHighSize)).status)
	orders := d.bus.orders()
	require.Equal(t, order.PriorityHigh, orders[0].Priority)
	require.Equal(t, order.PriorityMedium, orders[1].Priority)
}

func TestClientThatGoesAwayDoesNotStopTheStore(t *testing.T) {
	t.Parallel()
	b := newBus()
	entered, release := make(chan struct{}), make(chan struct{})
	b.publish = func(*order.Order) error { close(entered); <-release; return nil }
	d := open(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	header := signed(t, keyOf(1), rawTx(1))
	go func() { _, err := d.try(ctx, rawTx(1), header); ended <- err }()
	<-entered
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	close(release)
	require.Eventually(t, func() bool { return len(b.orders()) == 1 }, 5*time.Second, time.Millisecond)
}

func TestRule03NonceOfARefusedOrderIsFreeForAMendedOne(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.decide = func(*order.Order) (*order.Reason, bool) {
		return order.Refuse(order.CodeGasLimit, "too much gas"), true
	}
	d := open(t, b)
	nonce := `,"replacementUuid":"` + someUUID + `","replacementNonce":5`
	require.Equal(t, http.StatusBadRequest, d.sent(keyOf(1), bundle(1, nonce)).status)
	b.set(func(b *bus) { b.decide = func(*order.Order) (*order.Reason, bool) { return nil, true } })
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), bundle(2, nonce)).status)
	a := d.sent(keyOf(1), bundle(1, nonce))
	require.Equal(t, http.StatusBadRequest, a.status)
	require.Contains(t, a.body, "too much gas")
}
