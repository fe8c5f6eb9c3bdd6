package access_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/bus/access"
	"millrace/internal/order"
	"millrace/subjects"
)

// TestEachRoleDoesItsPartOfMarkedReplays takes marked orders from the replay door to their records, and
// reads the record of the live ones, each step as the role that does it.
func TestEachRoleDoesItsPartOfMarkedReplays(t *testing.T) {
	t.Parallel()
	s := applied(t)
	nc, _ := connect(t, s, access.Admin)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	topo := topology()
	topo.Replay = true
	for _, c := range subjects.Streams(topo) {
		_, err := js.CreateOrUpdateStream(t.Context(), c)
		require.NoError(t, err)
	}
	door, doorReg := dial(t, s, "ingress", "ingress")
	work, workReg := dial(t, s, "worker", "worker")
	done := make(chan order.Delivery, 8)
	background(t, func(ctx context.Context) error {
		return work.ConsumeReplay(ctx, func(_ context.Context, d order.Delivery, _ func()) (func(context.Context) error, error) {
			return func(ctx context.Context) error {
				if err := work.RecordReplay(ctx, d.Order, []byte("entry")); err != nil {
					return err
				}
				done <- d
				return nil
			}, nil
		})
	})
	for _, p := range order.Priorities {
		o := testOrder(p)
		_, err := door.PublishReplay(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, o.ID, await(t, done).Order.ID)
	}
	reason := order.Refuse(order.CodeGasLimit, "intrinsic gas too low")
	require.NoError(t, work.PutReplayRefusal(t.Context(), order.ID{1}, reason))
	got, err := door.ReplayRefusal(t.Context(), order.ID{1})
	require.NoError(t, err)
	require.Equal(t, reason, got)

	reader, readerReg := dial(t, s, "", access.Reader)
	out, outReg := dial(t, s, "egress", "egress")
	for role, b := range map[string]*bus.Bus{"reader": reader, "egress": out} {
		records := 0
		require.NoError(t, b.ReplayLedger(t.Context(), time.Now().Add(-time.Hour), func(string, []byte, time.Time) error {
			records++
			return nil
		}))
		require.Len(t, order.Priorities, records, role)
	}
	require.Zero(t, faults(t, readerReg))
	require.Zero(t, faults(t, outReg))
	o := testOrder(order.PriorityHigh)
	_, err = door.Publish(t.Context(), o)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		span, err := reader.RecordSpan(t.Context())
		return err == nil && span.Messages == 1
	}, soon, 20*time.Millisecond)
	n := 0
	require.NoError(t, reader.Record(t.Context(), bus.RecordRange{}, func(d order.Delivery) error {
		require.Equal(t, o.ID, d.Order.ID)
		n++
		return nil
	}))
	require.Equal(t, 1, n)
	for role, reg := range map[string]*prometheus.Registry{"ingress": doorReg, "worker": workReg} {
		require.Zero(t, faults(t, reg), "refused by the server: %s", role)
	}
}
