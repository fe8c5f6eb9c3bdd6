package peerlink

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func TestOrdersOfEachClassArriveInOrderAndOnce(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	inboxes := map[order.Priority]*inbox{}
	for _, c := range order.Priorities {
		inboxes[c] = b.receive(t, "a", c)
	}
	const n = 50
	for i := range n {
		for _, c := range order.Priorities {
			a.store(t, c, i+1, []byte("body"))
		}
	}
	for _, c := range order.Priorities {
		inboxes[c].await(t, n)
		require.Equal(t, upTo(n), inboxes[c].nonces(), c.String())
		for i, m := range inboxes[c].all() {
			require.Equal(t, uint64(i+1), m.Sequence)
			require.Equal(t, uint64(i+1), m.OriginSequence)
			require.Equal(t, c, m.Order.Priority)
			require.Equal(t, "body", string(m.Body))
			require.False(t, m.Redelivered)
			require.False(t, m.ArrivedAt.IsZero())
		}
	}
}
