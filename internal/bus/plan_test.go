package bus

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/embedded"
	"millrace/internal/bus/upkeep"
	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

func TestPlanIsEmptyAfterApplyAndNamesWhatDiffers(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	changes, err := b.Plan(t.Context())
	require.NoError(t, err)
	require.Empty(t, changes)

	require.NoError(t, js.DeleteConsumer(t.Context(), "IN_LOW", subjects.WorkerDurable))
	require.NoError(t, js.DeleteKeyValue(t.Context(), subjects.BucketState))
	st, err := js.Stream(t.Context(), "OK_HIGH")
	require.NoError(t, err)
	cfg := st.CachedInfo().Config
	cfg.MaxBytes, cfg.Description = 1<<20, "an operator's note"
	_, err = js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)

	want := []Change{
		{KindStream, "OK_HIGH", "max bytes: 1048576 -> 67108864"},
		{KindConsumer, "IN_LOW/workers", WhatCreate},
		{KindBucket, subjects.BucketState, WhatCreate},
	}
	changes, err = b.Plan(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, changes)
	require.Equal(t, "consumer IN_LOW/workers: create", changes[1].String())
	applied, err := b.Apply(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, applied)
	changes, err = b.Plan(t.Context())
	require.NoError(t, err)
	require.Empty(t, changes)
}

func TestApplyRefusesWhatCantBeChangedAndTouchesNothing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	require.NoError(t, js.DeleteStream(t.Context(), "OK_LOW"))
	require.NoError(t, js.DeleteStream(t.Context(), "IN_LOW"))
	cfg := subjects.Streams(b.topo)[5]
	require.Equal(t, "OK_LOW", cfg.Name)
	cfg.Storage = jetstream.MemoryStorage
	_, err := js.CreateStream(t.Context(), cfg)
	require.NoError(t, err)
	_, err = b.Apply(t.Context())
	require.ErrorIs(t, err, ErrDrift)
	require.ErrorContains(t, err, "storage: Memory -> File")
	_, err = js.Stream(t.Context(), "IN_LOW")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
}

func TestApplyRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	st, err := js.Stream(t.Context(), "IN_HIGH")
	require.NoError(t, err)
	cfg := st.CachedInfo().Config
	cfg.Metadata[subjects.MetaSchema] = "99"
	_, err = js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	_, err = b.Apply(t.Context())
	require.ErrorIs(t, err, ErrNewerSchema)
}

func TestApplyLeavesAPausedRecordingPaused(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	st, err := js.Stream(t.Context(), subjects.StreamRecord)
	require.NoError(t, err)
	cfg := st.CachedInfo().Config
	cfg.Sources = nil
	_, err = js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	changes, err := b.Apply(t.Context())
	require.NoError(t, err)
	require.Empty(t, changes)
}

func TestCapsAreScaledToTheVolume(t *testing.T) {
	o := testTopology()
	same, factor := fit(o, 10<<30)
	require.Equal(t, o, same)
	require.InDelta(t, 1, factor, 0)
	small, factor := fit(o, 300<<20)
	require.Less(t, factor, 1.0)
	sum := 3*(small.InMaxBytes+small.OKMaxBytes) + small.RecordMaxBytes + small.LedgerMaxBytes
	for _, k := range subjects.Buckets(o) {
		sum += k.MaxBytes
	}
	require.LessOrEqual(t, sum, int64(300<<20))
	require.InDelta(t, float64(o.InMaxBytes)/float64(o.RecordMaxBytes), float64(small.InMaxBytes)/float64(small.RecordMaxBytes), 0.01)
}

func dialEmbedded(t *testing.T, dir string) *Bus {
	t.Helper()
	b, err := Dial(t.Context(), Config{StoreDir: filepath.Join(dir, "nats"), Sync: SyncInterval, Replicas: 1, MaxStore: 1 << 30},
		testTopology(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	return b
}

func TestEmbeddedBusIsReadyAfterDialAndKeepsWhatItStored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := dialEmbedded(t, dir)
	stop := background(t, b.Run)
	require.NoError(t, b.Healthy())
	require.NotNil(t, b.Monitor())
	require.WithinDuration(t, time.Now(), b.Now(), time.Second)
	require.Zero(t, b.Oldest(order.PriorityHigh))
	o := testOrder(order.PriorityHigh)
	_, err := b.Publish(t.Context(), o)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return b.Oldest(order.PriorityHigh) > 0 }, soon, tick)
	stop()
	_, err = b.Publish(t.Context(), o)
	require.ErrorIs(t, err, order.ErrUnavailable)

	b = dialEmbedded(t, dir)
	background(t, b.Run)
	r, err := b.Publish(t.Context(), o)
	require.NoError(t, err)
	require.True(t, r.Duplicate, "the window survives a restart")
}

func TestLeasesOfADeadNodeDoNotHoldUpTheNext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := dialEmbedded(t, dir)
	dead := &lease{bus: b, name: "target-x", holding: "gone"}
	require.NoError(t, dead.acquire(t.Context()))
	b.Close() // the lease is not released
	b = dialEmbedded(t, dir)
	t.Cleanup(b.Close)
	kv, err := b.bucket(t.Context(), subjects.BucketLeases)
	require.NoError(t, err)
	_, err = kv.Get(t.Context(), "target-x")
	require.ErrorIs(t, err, jetstream.ErrKeyNotFound, "nobody waits for it to run out")
}

func TestDoorStateReachesEveryProcess(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := testBus(t, s), testBus(t, s)
	background(t, func(ctx context.Context) error { return b.watchDoor(ctx) })
	kv, err := a.bucket(t.Context(), subjects.BucketState)
	require.NoError(t, err)
	closedFor := func(want string) {
		require.Eventually(t, func() bool {
			reason, closed := b.DoorClosed()
			return reason == want && closed == (want != "")
		}, soon, tick)
	}
	set := func(reason string) {
		require.Eventually(t, func() bool {
			_, err := kv.Put(t.Context(), upkeep.DoorKey, upkeep.DoorValue(reason))
			return err == nil
		}, soon, tick)
	}
	set("volume is full")
	closedFor("volume is full")
	s.Restart(t)
	set("")
	closedFor("")
}

func TestRemoteBusSaysWhatItLacks(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Listen())
	cfg := Config{
		URL: s.ClientURL(), Creds: filepath.Join(authDir(s), embedded.AdminSeed), Sync: SyncInterval, Replicas: 1,
	}
	b, err := Dial(t.Context(), cfg, testTopology(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(b.Close)
	require.ErrorContains(t, b.Healthy(), "missing")
	require.Nil(t, b.Monitor())
	_, err = b.Apply(t.Context())
	require.NoError(t, err)
	b.checkTopology(t.Context())
	require.NoError(t, b.clock.Measure(t.Context()))
	require.NoError(t, b.Healthy())

	cfg.Creds = filepath.Join(authDir(s), embedded.RoleSeed)
	role, err := Dial(t.Context(), cfg, testTopology(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(role.Close)
	require.NoError(t, role.Healthy())
	y := newTally()
	background(t, func(ctx context.Context) error { return role.ConsumeIn(ctx, 1, y.handle) })
	publishAll(t, role, 3, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 3 }, soon, tick, "least rights are enough")
	require.NoError(t, role.Feed("x", "p", order.ScopeAll).Open(t.Context()))
	require.NoError(t, role.Hold(t.Context(), "x", func(context.Context, func() bool) error { return nil }))
	l := role.Done("x")
	tail(t, l, time.Now())
	require.NoError(t, l.Append(t.Context(), []byte("batch")))
	_, err = role.MarkSuspect(t.Context(), order.AcceptID{1})
	require.NoError(t, err)
	require.NoError(t, role.ClearSuspect(t.Context(), order.AcceptID{1}))
	require.NoError(t, role.PutRefusal(t.Context(), order.ID{1}, order.Refuse(order.CodeExpired, "late")))
	r, err := role.AwaitRefusal(t.Context(), order.ID{1})
	require.NoError(t, err)
	require.NotNil(t, r)
}

func authDir(s *natstest.Server) string {
	c := s.Settings()
	if c.AuthDir != "" {
		return c.AuthDir
	}
	return filepath.Join(filepath.Dir(c.StoreDir), "auth")
}

func TestDialWaitsForABusThatComesUpLater(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	b := newBus(t.Context(), Config{URL: "nats://127.0.0.1:1"}, testTopology(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	b.links.url = "nats://127.0.0.1:1"
	_, err := b.await(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	b.Close()

	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, free.Close())
	later := natstest.Start(t, natstest.Config(func(c *embedded.Config) { c.Listen = free.Addr().String() }))
	later.Stop()
	dialled := make(chan error, 1)
	go func() {
		b, err := Dial(t.Context(), Config{
			URL: "nats://" + free.Addr().String(), Creds: filepath.Join(authDir(later), embedded.AdminSeed),
			Sync: SyncInterval, Replicas: 1,
		}, testTopology(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err == nil {
			b.Close()
		}
		dialled <- err
	}()
	later.Restart(t)
	require.NoError(t, <-dialled)

	cfg := Config{URL: "nats://127.0.0.1:1", Token: "t", TLS: TLSConfig{CA: "absent.pem"}, Sync: SyncInterval, Replicas: 1}
	_, err = Dial(t.Context(), cfg, testTopology(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.Error(t, err, "waiting does not help against a missing file")
}

func TestRule07SequencesAreBurntAfterTheMachineDied(t *testing.T) {
	t.Parallel()
	// What Burn does is tested where it lives; here: that a clean start does not burn.
	b := dialEmbedded(t, t.TempDir())
	background(t, b.Run)
	r, err := b.Publish(t.Context(), testOrder(order.PriorityHigh))
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Sequence)
}

func TestAGatewayAloneMakesNothingOfTheOrderPipeline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	alone := func(role string) []string {
		topo := testTopology()
		topo.Gateway, topo.EngineMaxBytes, topo.EngineMaxAge = role == "gateway", 1<<20, time.Hour
		if role == "gateway" {
			topo.EngineMaxBytes = 0
		}
		cfg := Config{StoreDir: filepath.Join(dir, "nats"), Sync: SyncInterval, Replicas: 1, Role: role, Tap: TapOff}
		b, err := Dial(t.Context(), cfg, topo, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		require.NoError(t, err)
		stop := background(t, b.Run)
		require.NoError(t, b.Healthy())
		_, err = b.Targets(t.Context())
		require.NoError(t, err)
		l, err := b.links.link(lane{use: useControl})
		require.NoError(t, err)
		var names []string
		list := l.js.StreamNames(t.Context())
		for name := range list.Name() {
			names = append(names, name)
		}
		require.NoError(t, list.Err())
		stop()
		slices.Sort(names)
		return names
	}
	require.Equal(t, []string{"KV_LEASES", "KV_STATE", "KV_gateway_nodes"}, alone("gateway"))
	for _, name := range alone("engine") {
		require.NotRegexp(t, "^(IN|OK)_|^(DONE|REJECTED|RECORD|KV_REFUSALS|KV_SUSPECTS)$", name)
	}
	require.Contains(t, alone("node"), "IN_HIGH", "the same store can become a node's")
	require.Contains(t, alone("gateway"), "IN_HIGH", "and what there is stays")
}

func TestConfigReportsEveryFault(t *testing.T) {
	c := Config{Sync: "never", Replicas: 9, Listen: "x", MaxStore: -1, TLS: TLSConfig{Cert: "a"}}
	err := c.Validate()
	for _, key := range []string{"nats.store_dir", "nats.sync", "nats.replicas", "nats.listen", "nats.max_store", "nats.tls"} {
		require.ErrorContains(t, err, key)
	}
	good := Config{StoreDir: "x", Sync: SyncAlways, Replicas: 1, Listen: "127.0.0.1:4222"}
	require.NoError(t, good.Validate())
	good.Replicas = 3
	require.ErrorContains(t, good.Validate(), "one copy")
}

func TestDeclaredStreamsAreDistinct(t *testing.T) {
	var names []string
	for _, s := range subjects.Streams(testTopology()) {
		require.False(t, slices.Contains(names, s.Name))
		names = append(names, s.Name)
	}
}
