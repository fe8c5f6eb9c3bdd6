package subjects

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
)

func TestRule20MarkedReplaysTravelApart(t *testing.T) {
	o := options()
	sum := func(ss []jetstream.StreamConfig) (n int64) {
		for _, s := range ss {
			n += s.MaxBytes
		}
		return n
	}
	without := Streams(o)
	require.False(t, slices.ContainsFunc(without, func(s jetstream.StreamConfig) bool { return strings.HasPrefix(s.Name, StreamReplay) }))
	o.Replay = true
	with := Streams(o)
	require.Len(t, with, len(without)+2)
	require.Equal(t, sum(without), sum(with), "the volume's share stays what it was")

	// A real server: the subjects overlap with no other stream's, and each is taken by one.
	js := natstest.Start(t).JetStream(t)
	for _, s := range with {
		_, err := js.CreateStream(t.Context(), s)
		require.NoError(t, err, s.Name)
	}
	for _, p := range order.Priorities {
		for subject, stream := range map[string]string{ReplayIn(p, 63): StreamReplay, ReplayDone(p): StreamReplayDone} {
			require.True(t, strings.HasPrefix(subject, "orders.in.replay.") || strings.HasPrefix(subject, "orders.done.replay."))
			name, err := js.StreamNameBySubject(t.Context(), subject)
			require.NoError(t, err)
			require.Equal(t, stream, name)
		}
	}
	for _, s := range with {
		for _, src := range s.Sources {
			require.NotEqual(t, StreamReplay, src.Name, "replays are not recorded")
		}
	}
	live := &order.Order{ID: order.ID{1}}
	require.NotEqual(t, InMsgID(live), ReplayMsgID(live))
	require.NotEqual(t, live.ID.String(), ReplayRefusal(live.ID))
	require.NotEqual(t, RejectedMsgID(live.Accept), ReplayDoneMsgID(live.Accept))
}
