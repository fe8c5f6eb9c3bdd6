package enginelog

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/subjects"
)

func clusterPort(t *testing.T, c *natstest.Cluster) *testPort {
	t.Helper()
	connect := func(more ...nats.Option) *nats.Conn {
		nc, err := nats.Connect(c.URL(), append([]nats.Option{
			nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0),
		}, more...)...)
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		return nc
	}
	js, err := jetstream.New(connect(nats.ReconnectBufSize(-1)), jetstream.WithDefaultTimeout(ackTimeout))
	require.NoError(t, err)
	return &testPort{record: connect(nats.ReconnectBufSize(-1)), replay: connect(), state: js}
}

// TestALeaderThatGoesTakesNothingAlong stops the server that leads ENGINE under a load of calls, twice: all
// is stored once, in order, and the follower is told each once.
func TestALeaderThatGoesTakesNothingAlong(t *testing.T) {
	t.Parallel()
	c := natstest.StartCluster(t)
	js := c.JetStream(t)
	topo := topology()
	topo.Replicas = 3
	for _, cfg := range subjects.Streams(topo) {
		if cfg.Name == subjects.StreamEngine {
			require.Eventually(t, func() bool {
				_, err := js.CreateOrUpdateStream(t.Context(), cfg)
				return err == nil
			}, soon, 50*time.Millisecond)
		}
	}
	b := clusterPort(t, c)
	r := run(t, b, spoolDir(t))
	f := start(t, b, "geth", 1, nil)
	next := uint64(1)
	for range 2 {
		say(r, 1, next, next+99)
		next += 100
		r.settled(t, int(next)/2)
		leader := c.Leader(t, subjects.StreamEngine)
		c.Stop(leader)
		say(r, 1, next, next+99)
		next += 100
		require.Eventually(t, func() bool { return r.stored() >= 2*int(next-1) }, 3*soon, tick, "a new leader takes its time")
		c.Start(t, leader)
		complete(t, js)
	}
	f.has(t, names(1, 1, next-1))
	require.Equal(t, names(1, 1, next-1), told(t, b, 1))
	require.Empty(t, r.lost())
	require.Equal(t, 2*(next-1), state(t, js).Msgs)
}

// complete waits until every server has its copies of the stream and of the consumer: one that is stopped while
// it makes them leaves its files open.
func complete(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	current := func(c *jetstream.ClusterInfo) bool {
		if c == nil || c.Leader == "" || len(c.Replicas) != 2 {
			return false
		}
		for _, r := range c.Replicas {
			if !r.Current || r.Offline {
				return false
			}
		}
		return true
	}
	require.Eventually(t, func() bool {
		s, err := js.Stream(t.Context(), subjects.StreamEngine)
		if err != nil || !current(s.CachedInfo().Cluster) {
			return false
		}
		c, err := s.Consumer(t.Context(), subjects.EngineDurable("geth"))
		return err == nil && current(c.CachedInfo().Cluster)
	}, soon, 50*time.Millisecond)
}
