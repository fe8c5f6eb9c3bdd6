package access_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/bus/access"
	"millrace/internal/order"
	"millrace/subjects"
)

func testOrder(p order.Priority) *order.Order {
	o := &order.Order{
		Method: order.MethodSendBundle, Kind: order.KindBundle, Priority: p,
		ReceivedAt: time.Now().Truncate(time.Microsecond), Ingress: "door-1", Body: []byte(`{"params":[{}]}`),
	}
	_, _ = rand.Read(o.ID[:])
	o.Accept = order.NewAcceptID(o.ReceivedAt)
	o.Deadline = o.ReceivedAt.Add(36 * time.Second)
	return o
}

// applied starts a single server and makes the streams as the admin.
func applied(t *testing.T) *access.Site {
	t.Helper()
	s := newSite(t, 1)
	run(t, s, "nats")
	admin, _ := dial(t, s, "", access.Admin)
	_, err := admin.Apply(t.Context())
	require.NoError(t, err)
	return s
}

// TestEachRoleDoesItsWorkWithItsOwnKey takes orders through the pipeline, each step as the role that
// does it, and requires that the server refused nothing on the way.
func TestEachRoleDoesItsWorkWithItsOwnKey(t *testing.T) {
	t.Parallel()
	s := applied(t)
	door, doorReg := dial(t, s, "ingress", "ingress")
	work, workReg := dial(t, s, "worker", "worker")
	out, outReg := dial(t, s, "egress", "egress")
	for _, b := range []*bus.Bus{door, work, out} {
		background(t, b.Run)
		require.NoError(t, b.Healthy())
	}

	verdicts := make(chan order.Verdict, 8)
	background(t, func(ctx context.Context) error {
		return door.Verdicts(ctx, "door-1", func(v order.Verdict) { verdicts <- v })
	})
	background(t, func(ctx context.Context) error {
		return work.ConsumeIn(ctx, 2, func(_ context.Context, d order.Delivery, _ func()) (func(context.Context) error, error) {
			return func(ctx context.Context) error { return validate(ctx, work, d.Order) }, nil
		})
	})
	feed, got := deliver(t, out)
	for _, p := range order.Priorities {
		o := testOrder(p)
		_, err := door.Publish(t.Context(), o)
		require.NoError(t, err)
		d := <-got
		require.Equal(t, o.ID, d.Order.ID)
		_, err = feed.Body(t.Context(), p, d.Sequence)
		require.NoError(t, err)
		require.NoError(t, feed.Ack(p, d.Sequence))
		await(t, verdicts)
	}

	bad := testOrder(order.PriorityHigh)
	heard := make(chan *order.Reason, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		r, _ := door.AwaitRefusal(ctx, bad.ID)
		heard <- r
	}()
	require.NoError(t, work.PutRefusal(t.Context(), bad.ID, order.Refuse(1, "no")))
	require.NotNil(t, await(t, heard))

	_, err := out.Targets(t.Context())
	require.NoError(t, err)
	require.NoError(t, out.Ledger(t.Context(), time.Now().Add(-time.Hour), func(string, []byte, time.Time) error { return nil }))
	require.NoError(t, feed.Remove(t.Context()))
	for role, reg := range map[string]*prometheus.Registry{"ingress": doorReg, "worker": workReg, "egress": outReg} {
		require.Zero(t, faults(t, reg), "refused by the server: %s", role)
	}
}

func await[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(soon):
		require.Fail(t, "nothing came")
	}
	return v
}

// validate does with an order all that a worker may do with one.
func validate(ctx context.Context, b *bus.Bus, o *order.Order) error {
	if _, err := b.MarkSuspect(ctx, o.Accept); err != nil {
		return err
	}
	if err := b.ClearSuspect(ctx, o.Accept); err != nil {
		return err
	}
	if err := b.BroadcastSigners(ctx, []byte("batch")); err != nil {
		return err
	}
	if _, err := b.PublishOK(ctx, o); err != nil {
		return err
	}
	ends := b.Ends(func([]byte) ([]order.AcceptID, error) { return nil, nil })
	old := *o // of which every stream is asked
	old.Accept = order.NewAcceptID(time.Now().Add(-time.Hour))
	if _, err := ends.ClaimEnd(ctx, &old, []byte("entry")); err != nil {
		return err
	}
	if err := b.RecordRejected(ctx, &old, []byte("entry")); err != nil {
		return err
	}
	if _, err := ends.Recorded(ctx, o); err != nil {
		return err
	}
	return b.SendVerdict(ctx, o.Ingress, order.Verdict{Accept: o.Accept, ID: o.ID})
}

// deliver runs a target of the egress until the test ends.
func deliver(t *testing.T, b *bus.Bus) (*bus.Feed, <-chan order.Delivery) {
	t.Helper()
	f, got, open := b.Feed("one", "print", order.ScopeAll), make(chan order.Delivery, 8), make(chan error, 1)
	background(t, func(ctx context.Context) error {
		return b.Hold(ctx, subjects.TargetDurable("one"), func(ctx context.Context, _ func() bool) error {
			log := b.Done("one")
			err := f.Open(ctx)
			if err == nil {
				err = log.Tail(ctx, time.Now().Add(-time.Hour), func([]byte) error { return nil })
			}
			for range 2 {
				if err == nil {
					err = log.Append(ctx, []byte("batch"))
				}
			}
			open <- err
			for _, p := range order.Priorities[1:] {
				go func() { _ = f.Receive(ctx, p, func(d order.Delivery) { got <- d }) }()
			}
			return f.Receive(ctx, order.Priorities[0], func(d order.Delivery) { got <- d })
		})
	})
	require.NoError(t, await(t, open))
	return f, got
}

// TestANodeDoesEverythingWithOneKey is for a node without an embedded server.
func TestANodeDoesEverythingWithOneKey(t *testing.T) {
	t.Parallel()
	s := applied(t)
	b, reg := dial(t, s, "node", "node")
	background(t, b.Run)
	o := testOrder(order.PriorityHigh)
	_, err := b.Publish(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, validate(t.Context(), b, o))
	feed, got := deliver(t, b)
	require.NoError(t, feed.Ack(order.PriorityHigh, await(t, got).Sequence))
	require.Zero(t, faults(t, reg))
}

// TestTheWorkerKeepsHouse purges with the worker's key, which neither door nor delivery could.
func TestTheWorkerKeepsHouse(t *testing.T) {
	t.Parallel()
	s := applied(t)
	work, reg := dial(t, s, "worker", "worker")
	background(t, work.Run)
	nc, _ := connect(t, s, access.Admin)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		kv, err := js.KeyValue(t.Context(), subjects.BucketLeases)
		require.NoError(t, err)
		e, err := kv.Get(t.Context(), "housekeeper")
		return err == nil && len(e.Value()) > 0
	}, soon, tick)
	// The first rounds list every consumer and read RECORD's cursor.
	require.Never(t, func() bool { return faults(t, reg) > 0 }, 3*time.Second, 10*tick)
	for _, stream := range []string{"IN_HIGH", "OK_LOW"} {
		require.NoError(t, purge(t, s, "worker", stream))
		require.ErrorIs(t, purge(t, s, "egress", stream), nats.ErrPermissionViolation)
		require.ErrorIs(t, purge(t, s, "ingress", stream), nats.ErrPermissionViolation)
	}
	require.ErrorIs(t, purge(t, s, "worker", "DONE"), nats.ErrPermissionViolation)
}

// TestTheDoorAsksWhatBecameOfAnOrder and each role that has an index answers, which nobody else may.
func TestTheDoorAsksWhatBecameOfAnOrder(t *testing.T) {
	s := applied(t)
	door, doorReg := dial(t, s, "ingress", "ingress")
	for _, role := range []string{"egress", "node"} {
		out, reg := dial(t, s, role, role)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- out.AnswerStatus(ctx, func(_ context.Context, signer common.Address, _ common.Hash) ([]byte, error) {
				return append([]byte(role), signer[0]), nil
			})
		}()
		require.Eventually(t, func() bool {
			got, err := door.AskStatus(t.Context(), common.Address{'!'}, common.Hash{})
			return err == nil && string(got) == role+"!"
		}, soon, tick)
		stop()
		require.NoError(t, await(t, ended))
		require.Zero(t, faults(t, reg), "refused by the server: %s", role)
	}
	require.Zero(t, faults(t, doorReg))
}

// TestDoorAndDeliveryKnowHowOldABacklogIsThatTheyFind asks after a start with a backlog, which neither may read.
func TestDoorAndDeliveryKnowHowOldABacklogIsThatTheyFind(t *testing.T) {
	t.Parallel()
	s := applied(t)
	before, _ := dial(t, s, "ingress", "ingress")
	_, err := before.Publish(t.Context(), testOrder(order.PriorityMedium))
	require.NoError(t, err)
	stored := time.Now()
	require.Eventually(t, func() bool { return time.Since(stored) > time.Second }, soon, tick)
	for _, role := range []string{"ingress", "egress"} {
		b, reg := dial(t, s, role, role)
		background(t, b.Run)
		require.Eventually(t, func() bool { return b.Oldest(order.PriorityMedium) > 0 }, soon, tick)
		require.GreaterOrEqual(t, b.Oldest(order.PriorityMedium), time.Second, role)
		require.Zero(t, faults(t, reg), "refused by the server: %s", role)
	}
}

func purge(t *testing.T, s *access.Site, user, stream string) error {
	t.Helper()
	return attempt(t, s, user, "$JS.API.STREAM.PURGE."+stream, `{"filter":"nothing"}`)
}

// attempt asks the server for something as the user: nil when there was an answer.
func attempt(t *testing.T, s *access.Site, user, subject, body string) error {
	t.Helper()
	nc, refused := connect(t, s, user)
	defer nc.Close()
	answered := make(chan error, 1)
	go func() {
		_, err := nc.Request(subject, []byte(body), soon)
		answered <- err
	}()
	select {
	case err := <-answered:
		return err
	case err := <-refused:
		return err
	case <-time.After(soon):
		require.Fail(t, "neither answered nor refused", "%s: %s", user, subject)
		return nil
	}
}
