package enginelog_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/bus/enginelog"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
	"millrace/subjects"
)

var _ enginelog.Bus = (*bus.Bus)(nil)

func options() subjects.Options {
	return subjects.Options{
		MaxAge: 36 * time.Second, MaxBody: 1 << 20, InMaxBytes: 16 << 20, OKMaxBytes: 16 << 20,
		LedgerMaxBytes: 16 << 20, LedgerMaxAge: 24 * time.Hour, EngineMaxAge: 24 * time.Hour, EngineMaxBytes: 64 << 20,
	}
}

func dial(t *testing.T, dir string, topo subjects.Options) *bus.Bus {
	t.Helper()
	b, err := bus.Dial(t.Context(), bus.Config{StoreDir: dir, Sync: bus.SyncInterval, Replicas: 1, Role: "engine"}, topo,
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

// TestADoorRecordsOnTheBusOfItsProcess holds the door's lease on a real bus, records, and replays what it
// recorded; a second life of the process has a later epoch and reads the first one's records.
func TestADoorRecordsOnTheBusOfItsProcess(t *testing.T) {
	t.Parallel()
	store, spool := filepath.Join(t.TempDir(), "nats"), filepath.Join(t.TempDir(), "spool")
	log := slog.New(slog.DiscardHandler)
	var epochs []uint64
	for life := range 2 {
		b := dial(t, store, options())
		r, err := enginelog.New(enginelog.Config{SpoolDir: spool, SpoolMax: 16 << 20}, b, log, prometheus.NewRegistry())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		recorded := make(chan error, 1)
		go func() { recorded <- r.Run(ctx) }()
		state := enginelog.NewState(b, log)
		require.NoError(t, state.HoldDoor(t.Context(), b, "geth", func(_ context.Context, epoch uint64, valid func() bool) error {
			require.True(t, valid())
			epochs = append(epochs, epoch)
			id := record.ID{Epoch: epoch, Sequence: 1}
			r.Request(&record.Request{ID: id, Method: "engine_forkchoiceUpdatedV3", Raw: []byte(`{}`)})
			r.Outcome(&record.Outcome{ID: id, Method: "engine_forkchoiceUpdatedV3", Result: engineapi.Result{Status: engineapi.StatusValid}})
			return nil
		}))
		cancel()
		require.NoError(t, <-recorded, "it drains before it ends")

		l, err := enginelog.NewReader(b, log, prometheus.NewRegistry()).Log("geth", nil)
		require.NoError(t, err)
		var ids []record.ID
		enough := errors.New("enough")
		err = l.Follow(t.Context(), 1, func(e record.Entry) error {
			ids = append(ids, e.ID())
			if len(ids) == 2*(life+1) {
				return enough
			}
			return nil
		})
		require.Equal(t, enough, err)
		require.Equal(t, epochs[life], ids[2*life].Epoch)
		b.Close()
	}
	require.Greater(t, epochs[1], epochs[0])
}

func TestTheBusHasNoEngineStreamsUnlessTheyAreConfigured(t *testing.T) {
	topo := options()
	topo.EngineMaxBytes = 0
	dir := filepath.Join(t.TempDir(), "nats")
	b := dial(t, dir, topo)
	l, err := enginelog.NewReader(b, slog.New(slog.DiscardHandler), prometheus.NewRegistry()).Log("", nil)
	require.NoError(t, err)
	_, err = l.First(t.Context())
	require.ErrorIs(t, err, enginelog.ErrNoLog)
	b.Close()

	b = dial(t, dir, options()) // and has them as soon as they are
	changes, err := b.Plan(t.Context())
	require.NoError(t, err)
	require.Empty(t, changes)
	l, err = enginelog.NewReader(b, slog.New(slog.DiscardHandler), prometheus.NewRegistry()).Log("", nil)
	require.NoError(t, err)
	_, err = l.First(t.Context())
	require.NoError(t, err)
}
