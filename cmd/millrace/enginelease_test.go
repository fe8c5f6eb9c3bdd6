package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/bus/enginelog"
	"millrace/subjects"
)

// leased is a lease that is held, on a bus of its own.
type leased struct {
	*doorLease
	kv    jetstream.KeyValue
	epoch uint64
	ended chan error
}

func newLeased(t *testing.T) *leased {
	t.Helper()
	log := quiet(t).Logger
	cfg := bus.Config{StoreDir: filepath.Join(t.TempDir(), "nats"), Sync: bus.SyncInterval, Replicas: 1, MaxStore: 1 << 30}
	c := &Config{}
	c.Engine.Door.Primary = "http://127.0.0.1:1"
	c.Record.Engine.MaxAge, c.Record.Engine.MaxBytes = 1e9*3600, 64<<20
	b, err := bus.Dial(t.Context(), cfg, c.topology(), log, prometheus.NewRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	runs := make(chan error, 1)
	go func() { runs <- b.Run(ctx) }()
	l := &leased{doorLease: newDoorLease(b, enginelog.NewState(b, log), log, true), ended: make(chan error, 1)}
	l.epoch, err = l.acquire(ctx)
	require.NoError(t, err)
	go func() { l.ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		_ = l.holding.stop()
		require.NoError(t, <-runs)
	})
	js, err := b.EngineState()
	require.NoError(t, err)
	l.kv, err = js.KeyValue(t.Context(), subjects.BucketLeases)
	require.NoError(t, err)
	eventually(t, "the lease is held", l.valid)
	return l
}

// steal takes the lease away, for as long as nobody renews it.
func (l *leased) steal(t *testing.T) {
	t.Helper()
	_, err := l.kv.PutString(t.Context(), subjects.EngineDoorLease(primaryName), "another 1")
	require.NoError(t, err)
	eventually(t, "the lease is lost", func() bool { return l.lost() != nil })
}

func TestRule22ALeaseThatNobodyElseHadIsHeldAgainUnderTheSameEpoch(t *testing.T) {
	t.Parallel()
	l := newLeased(t)
	l.steal(t)
	eventually(t, "it is held again", func() bool { return l.valid() && l.lost() == nil })
	kept, err := l.state.KeepEpoch(t.Context(), l.epoch)
	require.NoError(t, err)
	require.True(t, kept, "no other was claimed")
}

func TestRule22ADoorThatAnotherFollowedEnds(t *testing.T) {
	t.Parallel()
	l := newLeased(t)
	l.steal(t)
	next, err := l.state.ClaimEpoch(t.Context())
	require.NoError(t, err)
	require.Greater(t, next, l.epoch)
	require.ErrorIs(t, <-l.ended, errElsewhere)
	require.False(t, l.valid())
}
