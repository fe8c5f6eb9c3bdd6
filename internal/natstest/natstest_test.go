package natstest_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/embedded"
	"millrace/internal/natstest"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// stored returns how many messages stream S has, once a server answers.
func stored(t *testing.T, js jetstream.JetStream) (n uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		s, err := js.Stream(t.Context(), "S")
		if err == nil {
			n = s.CachedInfo().State.Msgs
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	return n
}

func store(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	_, err := js.Publish(t.Context(), "S", []byte("x"))
	require.NoError(t, err)
}

func TestOneConnectionOutlivesRestartKillAndRollback(t *testing.T) {
	s := natstest.Start(t)
	js := s.JetStream(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S"})
	require.NoError(t, err)
	store(t, js)
	s.Restart(t)
	require.Equal(t, uint64(1), stored(t, js))
	store(t, js)
	s.Kill(t)
	require.Equal(t, uint64(2), stored(t, js))
	early := s.Snapshot(t)
	store(t, js)
	s.Rollback(t, early)
	require.Equal(t, uint64(2), stored(t, js))
	early = s.Snapshot(t)
	store(t, js)
	s.RollbackStream(t, early, "S")
	require.Equal(t, uint64(2), stored(t, js))
}

func TestStoppedServerRefusesConnectionsUntilItRestarts(t *testing.T) {
	s := natstest.Start(t)
	s.Stop()
	_, err := nats.Connect("", s.ConnectOption())
	require.Error(t, err)
	s.Restart(t)
	s.Connect(t)
}

func TestOptionsReachTheServer(t *testing.T) {
	dir := t.TempDir()
	s := natstest.Start(t, natstest.Listen(), natstest.StoreDir(dir+"/here"),
		natstest.Config(func(c *embedded.Config) { c.MaxPayload = 2 << 20 }))
	require.Equal(t, dir+"/here", s.Settings().StoreDir)
	require.Equal(t, int64(2<<20), s.Connect(t).MaxPayload())
	require.Regexp(t, `^nats://127\.0\.0\.1:\d+$`, s.ClientURL())
}

func TestClusterGoesOnWithoutAnyOneOfItsServers(t *testing.T) {
	c := natstest.StartCluster(t)
	js := c.JetStream(t)
	require.Eventually(t, func() bool {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Replicas: 3})
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	for n := range 2 {
		leader := c.Leader(t, "S")
		c.Stop(leader)
		require.Eventually(t, func() bool {
			_, err := js.Publish(t.Context(), "S", []byte("x"), jetstream.WithMsgID(string(rune('a'+n))))
			return err == nil
		}, 30*time.Second, 50*time.Millisecond)
		require.NotEqual(t, leader, c.Leader(t, "S"))
		c.Start(t, leader)
	}
	require.Equal(t, uint64(2), stored(t, js))
	require.Contains(t, c.URL(), ",nats://127.0.0.1:")
}
