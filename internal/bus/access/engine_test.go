package access_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/bus/access"
	"millrace/internal/bus/enginelog"
	"millrace/internal/engineapi/record"
)

// dialEngine is dial with the Engine API's streams declared.
func dialEngine(t *testing.T, s *access.Site, role, user string) (*bus.Bus, *prometheus.Registry) {
	t.Helper()
	topo := topology()
	topo.EngineMaxAge, topo.EngineMaxBytes = time.Hour, 16<<20
	reg := prometheus.NewRegistry()
	cfg := bus.Config{URL: s.URL(), Sync: bus.SyncInterval, Replicas: 1, Role: role, Creds: seed(s, user)}
	b, err := bus.Dial(t.Context(), cfg, topo, slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b, reg
}

// TestTheEngineRecordsAndReplaysWithItsOwnKey does all that the Engine API's process does, as its own user and
// as that of a node, and requires that the server refused nothing on the way.
func TestTheEngineRecordsAndReplaysWithItsOwnKey(t *testing.T) {
	s := newSite(t, 1)
	run(t, s, "nats")
	admin, _ := dialEngine(t, s, "", access.Admin)
	_, err := admin.Apply(t.Context())
	require.NoError(t, err)
	for _, role := range []string{"engine", "node"} {
		t.Run(role, func(t *testing.T) {
			b, reg := dialEngine(t, s, role, role)
			background(t, b.Run)
			require.NoError(t, b.Healthy())
			work(t, b)
			require.Zero(t, faults(t, reg), "the server refused something")
		})
	}
	reader, reg := dialEngine(t, s, "", access.Reader)
	l, err := enginelog.NewReader(reader, slog.New(slog.DiscardHandler), prometheus.NewRegistry()).Log("", nil)
	require.NoError(t, err)
	seen := 0
	require.NoError(t, l.Read(t.Context(), 1, func(record.Entry) error { seen++; return nil }))
	require.Equal(t, 4, seen)
	require.NoError(t, enginelog.NewDivergences(reader, slog.New(slog.DiscardHandler)).Read(t.Context(), time.Time{},
		func(enginelog.Divergence) error { seen++; return nil }))
	require.Equal(t, 6, seen)
	require.Zero(t, faults(t, reg))
}

// work holds a door, records, follows, and uses the shared state.
func work(t *testing.T, b *bus.Bus) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	r, err := enginelog.New(enginelog.Config{SpoolDir: filepath.Join(t.TempDir(), "spool"), SpoolMax: 1 << 20}, b, log, prometheus.NewRegistry())
	require.NoError(t, err)
	background(t, r.Run)
	state := enginelog.NewState(b, log)
	var id record.ID
	require.NoError(t, state.HoldDoor(t.Context(), b, "geth", func(_ context.Context, epoch uint64, _ func() bool) error {
		id = record.ID{Epoch: epoch, Sequence: 1}
		r.Request(&record.Request{ID: id, Method: "engine_newPayloadV4", Raw: []byte("{}")})
		r.Outcome(&record.Outcome{ID: id, Method: "engine_newPayloadV4"})
		return nil
	}))
	l, err := enginelog.NewReader(b, log, prometheus.NewRegistry()).Log("besu", nil)
	require.NoError(t, err)
	done := errors.New("done")
	require.ErrorIs(t, l.Follow(t.Context(), 1, func(e record.Entry) error {
		if e.ID() == id && e.Outcome != nil {
			return done
		}
		return nil
	}), done)
	_, err = l.At(t.Context(), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.NoError(t, state.Save(t.Context(), "besu", 7))
	at, err := state.Load(t.Context(), "besu")
	require.NoError(t, err)
	require.EqualValues(t, 7, at)
	require.NoError(t, state.SetMode(t.Context(), "besu", "observe"))
	require.NoError(t, state.SetPrimary(t.Context(), "geth"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.ErrorIs(t, state.Watch(ctx, "besu", func(mode string) {
		require.Equal(t, "observe", mode)
		cancel()
	}), context.Canceled)
	d := enginelog.NewDivergences(b, log)
	require.NoError(t, d.Publish(t.Context(), "besu", id.String(), []byte("{}")))
	require.NoError(t, d.Read(t.Context(), time.Time{}, func(enginelog.Divergence) error { return nil }))
}

// TestTheEngineHasNoWordInTheOrders publishes, as the engine, what is the work of others.
func TestTheEngineHasNoWordInTheOrders(t *testing.T) {
	s := applied(t)
	nc, refused := connect(t, s, "engine")
	for _, subject := range []string{
		"orders.in.high.00", "orders.ok.local.high.00", "orders.rejected.high", "orders.done.one", "verdicts.door-1", "signers.v1",
		"$JS.API.CONSUMER.MSG.NEXT.IN_HIGH.workers", "$JS.API.CONSUMER.CREATE.OK_HIGH.mine", "$JS.API.DIRECT.GET.RECORD",
		"$JS.API.DIRECT.GET.IN_HIGH", "$JS.ACK.IN_HIGH.workers.1.1.1.1.0", "$KV.REFUSALS.x", "$KV.SUSPECTS.x", "$KV.STATE.door",
		"$KV.LEASES.target-one", "$KV.LEASES.housekeeper", "$JS.API.STREAM.PURGE.ENGINE", "$JS.API.STREAM.UPDATE.ENGINE",
		"$JS.API.STREAM.DELETE.ENGINE", "$JS.API.STREAM.MSG.DELETE.ENGINE", "$JS.API.STREAM.PURGE.DIVERGENCE", "$JS.API.STREAM.PURGE.IN_HIGH",
	} {
		require.NoError(t, nc.Publish(subject, []byte("{}")))
		require.NoError(t, nc.Flush())
		err := await(t, refused)
		require.ErrorIs(t, err, nats.ErrPermissionViolation, subject)
		require.ErrorContains(t, err, subject)
	}
}

// TestNobodyElseWritesTheRecordOfTheEngine does so as each role of the orders that runs on its own.
func TestNobodyElseWritesTheRecordOfTheEngine(t *testing.T) {
	t.Parallel()
	s := applied(t)
	for _, user := range []string{"ingress", "worker", "egress", access.Reader, access.Metrics} {
		nc, refused := connect(t, s, user)
		for _, subject := range []string{
			"engine.calls.engine_newPayloadV4", "engine.outcomes.other", "engine.divergence.geth", "$KV.ENGINE_STATE.primary",
			"$KV.ENGINE_STATE.mode.geth", "$KV.LEASES.engine.door.geth", "$JS.API.STREAM.PURGE.ENGINE",
		} {
			require.NoError(t, nc.Publish(subject, []byte("{}")))
			require.NoError(t, nc.Flush())
			err := await(t, refused)
			require.ErrorIs(t, err, nats.ErrPermissionViolation, "%s: %s", user, subject)
		}
	}
}
