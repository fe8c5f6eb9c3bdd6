package natstest

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/freeport"
)

const (
	electWithin = 30 * time.Second
	electTick   = 20 * time.Millisecond
)

// Cluster is three nats-servers of this process that keep copies of each other's streams. They
// listen on loopback and let everybody in.
type Cluster struct {
	options [3]*server.Options
	servers [3]*server.Server // nil: stopped
}

// StartCluster starts the servers, waits for their meta leader and stops them when tb ends.
func StartCluster(tb testing.TB) *Cluster {
	tb.Helper()
	c := &Cluster{}
	first, err := freeport.Row(tb.Context(), 2*len(c.options))
	require.NoError(tb, err)
	var routes []*url.URL
	for i := range c.options {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", first+2*i+1)})
	}
	dir := tb.TempDir()
	for i := range c.options {
		name := fmt.Sprintf("nats-%d", i+1)
		c.options[i] = &server.Options{
			ServerName: name, Host: "127.0.0.1", Port: first + 2*i, NoSigs: true, NoLog: true, MaxPayload: 12 << 20,
			JetStream: true, StoreDir: filepath.Join(dir, name), SyncInterval: time.Second,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: first + 2*i + 1}, Routes: routes,
		}
		c.Start(tb, i)
	}
	tb.Cleanup(func() {
		for i := range c.servers {
			c.Stop(i)
		}
	})
	require.Eventually(tb, func() bool {
		for _, s := range c.servers {
			if s.JetStreamIsLeader() {
				return true
			}
		}
		return false
	}, electWithin, electTick, "a meta leader")
	return c
}

// Start starts a server on what it has stored.
func (c *Cluster) Start(tb testing.TB, i int) {
	tb.Helper()
	s, err := server.NewServer(c.options[i].Clone())
	require.NoError(tb, err)
	s.Start()
	require.True(tb, s.ReadyForConnections(startWithin))
	c.servers[i] = s
}

// Stop stops a server and leaves it stopped, until Start.
func (c *Cluster) Stop(i int) {
	if s := c.servers[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.servers[i] = nil
	}
}

// URL names all servers.
func (c *Cluster) URL() string {
	var all []string
	for _, o := range c.options {
		all = append(all, fmt.Sprintf("nats://127.0.0.1:%d", o.Port))
	}
	return strings.Join(all, ",")
}

// JetStream returns a JetStream context on a connection of its own, which goes on at another server
// when its own is stopped.
func (c *Cluster) JetStream(tb testing.TB) jetstream.JetStream {
	tb.Helper()
	nc, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(electTick), nats.ReconnectJitter(0, 0))
	require.NoError(tb, err)
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(tb, err)
	return js
}

// Leader waits for the server that leads a stream of the global account.
func (c *Cluster) Leader(tb testing.TB, stream string) (leader int) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		for i, s := range c.servers {
			if s != nil && s.JetStreamIsStreamLeader("$G", stream) {
				leader = i
				return true
			}
		}
		return false
	}, electWithin, electTick, "a leader of %s", stream)
	return leader
}
