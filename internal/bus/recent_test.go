package bus

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
)

// What is remembered is what would be read, and what another process stored in between is read.
func TestTapPassingFollowerRemembersWhatTheStoreHas(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	other := processBus(t, s, TapOff)
	f := b.Follow(order.LogHigh)
	store := func(b *Bus, n int) {
		for range n {
			o := testOrder(order.PriorityHigh)
			o.Hash, o.Nonce, o.TargetBlock, o.Signature = common.Hash{2}, 7, 9, "X-Flashbots-Signature: 0x1:0x2"
			o.Trail = &order.Trail{InSequence: 9, InStoredAt: o.ReceivedAt, DecidedAt: o.ReceivedAt, Attempts: 1}
			o.Trail.Mark(common.Hash{1})
			_, err := b.PublishOK(t.Context(), o)
			require.NoError(t, err)
		}
	}
	store(b, 1)
	got, to := followed(t, f, order.Place{}) // finds out which life of the stream it is
	opened := f.consumer
	require.NotNil(t, opened)
	store(b, 20)
	more, to := followed(t, f, to)
	got = append(got, more...)
	require.Len(t, got, 21)
	require.Nil(t, f.consumer, "nothing was read")
	store(other, 2)
	store(b, 3)
	more, to = followed(t, f, to)
	got = append(got, more...)
	require.Equal(t, uint64(26), to.Sequence)
	store(b, 2*recentRoom)
	more, to = followed(t, f, to)
	got = append(got, more...)
	require.Equal(t, uint64(26+2*recentRoom), to.Sequence, "what is forgotten is read")

	all, _ := followed(t, other.Follow(order.LogHigh), order.Place{})
	require.Len(t, got, len(all))
	for i := range all {
		require.WithinDuration(t, all[i].StoredAt, got[i].StoredAt, soon)
		got[i].StoredAt = all[i].StoredAt
	}
	require.Equal(t, all, got)
}
