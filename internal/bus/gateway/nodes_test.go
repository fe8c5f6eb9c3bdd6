package gateway

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/subjects"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

const (
	soon = 30 * time.Second // bound of what should take milliseconds, on a busy machine
	tick = 5 * time.Millisecond
)

type testBus struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func (b *testBus) GatewayLink() (*nats.Conn, error)           { return b.nc, nil }
func (b *testBus) GatewayState() (jetstream.JetStream, error) { return b.js, nil }

func port(tb testing.TB, s *natstest.Server) *testBus {
	tb.Helper()
	js, err := jetstream.New(s.Connect(tb, nats.ReconnectBufSize(-1)), jetstream.WithDefaultTimeout(apiTimeout))
	require.NoError(tb, err)
	return &testBus{nc: s.Connect(tb, nats.ReconnectBufSize(-1), nats.CustomInboxPrefix("_INBOX_gateway.gateway")), js: js}
}

func topology() subjects.Options {
	return subjects.Options{MaxAge: time.Minute, Gateway: true, GatewayTimeout: 5 * time.Second, GatewayMaxBytes: 16 << 20}
}

// furnish makes the gateway's bucket.
func furnish(tb testing.TB, s *natstest.Server) {
	tb.Helper()
	js := s.JetStream(tb)
	for _, k := range subjects.Buckets(topology()) {
		if k.Bucket == subjects.BucketGatewayNodes {
			_, err := js.CreateOrUpdateKeyValue(tb.Context(), k)
			require.NoError(tb, err)
		}
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func await[T any](tb testing.TB, c <-chan T) (v T) {
	tb.Helper()
	select {
	case v = <-c:
	case <-time.After(soon):
		require.Fail(tb, "nothing came")
	}
	return v
}

// background runs f until the test ends.
func background(tb testing.TB, f func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	tb.Cleanup(func() { cancel(); <-done })
}

func TestTwoProcessesAgreeOnTheNodesAndARestartForgetsNothing(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	a, b := NewNodes(port(t, s), quiet()), NewNodes(port(t, s), quiet())
	seen := make(chan []Entry, 16)
	background(t, func(ctx context.Context) error { return b.Watch(ctx, func(es []Entry) { seen <- es }) })
	require.Empty(t, await(t, seen))

	one := Entry{URI: "http://127.0.0.1:8545?_workers=4", Weight: 2, WSURL: "ws://127.0.0.1:8546"}
	require.NoError(t, a.Add(t.Context(), one))
	require.Equal(t, []Entry{one}, await(t, seen))
	require.NoError(t, a.Remove(t.Context(), "http://127.0.0.1:9"))
	want := []Entry{one, {URI: "http://127.0.0.1:9", Removed: true}}
	require.Equal(t, want, await(t, seen))
	require.NoError(t, a.Remove(t.Context(), one.URI))
	want[0] = Entry{URI: one.URI, Removed: true}
	require.Equal(t, want, await(t, seen))

	s.Restart(t)
	require.NoError(t, a.Add(t.Context(), one))
	want[0] = one
	require.Equal(t, want, await(t, seen), "told once, by a watch that was made again")
	got, err := b.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestWhatIsNoEntryIsRefusedOrIgnored(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	p := port(t, s)
	n := NewNodes(p, quiet())
	require.ErrorIs(t, n.Add(t.Context(), Entry{}), ErrEntry)
	require.ErrorIs(t, n.Remove(t.Context(), string(make([]byte, maxEntry))), ErrEntry)
	kv, err := p.js.KeyValue(t.Context(), subjects.BucketGatewayNodes)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), key("x"), []byte(`{"uri":"http://other"}`))
	require.NoError(t, err)
	got, err := n.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestGossipReachesTheOthers(t *testing.T) {
	s := natstest.Start(t)
	a, b := NewGossip(port(t, s)), NewGossip(port(t, s))
	heard := make(chan string, 1<<10)
	stop, err := b.Hear(func(p []byte) { heard <- string(p) })
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		require.NoError(t, a.Tell([]byte("hello")))
		return len(heard) > 0
	}, soon, tick)
	require.Equal(t, "hello", await(t, heard))
	stop()
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte(`{"uri":"http://a","weight":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := decode(key("http://a"), b); ok {
			require.Equal(t, "http://a", e.URI)
		}
	})
}
