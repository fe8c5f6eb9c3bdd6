package bus

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

func TestMain(m *testing.M) {
	natstest.SideBySide()
	// The server's attempt to reach a source ends by its own timer, after its shutdown.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"))
}

const (
	soon = 15 * time.Second // bound of what should take milliseconds, on a busy machine
	tick = 5 * time.Millisecond
)

func testTopology() subjects.Options {
	return subjects.Options{
		MaxAge: 36 * time.Second, MaxBody: 1 << 20,
		InMaxBytes: 64 << 20, OKMaxBytes: 64 << 20, RecordMaxBytes: 16 << 20, RecordMaxAge: time.Hour,
		LedgerMaxBytes: 16 << 20, LedgerMaxAge: 24 * time.Hour, Replicas: 1, Partitions: 4,
	}
}

// testBus connects a Bus to the test's server as a process of its own would.
func testBus(tb testing.TB, s *natstest.Server, change ...func(*subjects.Options)) *Bus {
	tb.Helper()
	return processBus(tb, s, tapOf(tb), change...)
}

// processBus is testBus with the tap as told, as if the process had the server to itself.
func processBus(tb testing.TB, s *natstest.Server, tap string, change ...func(*subjects.Options)) *Bus {
	tb.Helper()
	topo := testTopology()
	for _, f := range change {
		f(&topo)
	}
	cfg := Config{URL: "nats://test", Sync: SyncInterval, Replicas: 1, Tap: tap}
	reg := prometheus.NewRegistry()
	b := newBus(context.Background(), cfg, topo, slog.New(slog.DiscardHandler), reg)
	b.links.base = []nats.Option{s.ConnectOption()}
	if b.tap != nil {
		b.tap.alone = strings.HasPrefix(tb.Name(), passing)
	}
	require.NoError(tb, b.start(tb.Context(), reg))
	tb.Cleanup(b.Close)
	_, err := b.Apply(tb.Context())
	require.NoError(tb, err)
	if tap == TapOn {
		require.NoError(tb, b.put(tb.Context(), subjects.BucketState, stateTap, []byte(TapOn)))
	}
	return b
}

// testOrder returns an order with a fresh id.
func testOrder(p order.Priority) *order.Order {
	o := &order.Order{
		Method: order.MethodSendBundle, Kind: order.KindBundle, Priority: p,
		ReceivedAt: time.Now().Truncate(time.Microsecond), Ingress: "door-1",
		Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{}]}`),
	}
	_, _ = rand.Read(o.ID[:])
	o.Accept = order.NewAcceptID(o.ReceivedAt)
	o.Deadline = o.ReceivedAt.Add(36 * time.Second)
	return o
}

// background runs f until the test ends or stop is called; f must return then.
func background(tb testing.TB, f func(ctx context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil && ctx.Err() == nil {
				tb.Errorf("background: %v", err)
			}
		case <-time.After(soon):
			tb.Error("background call did not return")
		}
	}
	tb.Cleanup(stop)
	return stop
}

// never asks again and again, on this goroutine: require.Never's last question may outlive the test.
func never(tb testing.TB, cond func() bool, within time.Duration, why string) {
	tb.Helper()
	for end := time.After(within); ; {
		require.False(tb, cond(), why)
		select {
		case <-end:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func consumerInfo(tb testing.TB, js jetstream.JetStream, stream, durable string) *jetstream.ConsumerInfo {
	tb.Helper()
	c, err := js.Consumer(tb.Context(), stream, durable)
	require.NoError(tb, err)
	return c.CachedInfo()
}

// drained reports whether a consumer has nothing left to deliver and nothing unacknowledged.
func drained(tb testing.TB, js jetstream.JetStream, stream, durable string) bool {
	tb.Helper()
	info := consumerInfo(tb, js, stream, durable)
	return info.NumPending == 0 && info.NumAckPending == 0
}
