package upkeep

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	natstest.SideBySide()
	natstest.VerifyTestMain(m)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testOptions() subjects.Options {
	return subjects.Options{
		MaxAge: time.Second, MaxBody: 1 << 20,
		InMaxBytes: 64 << 20, OKMaxBytes: 64 << 20,
		RecordMaxAge: time.Hour, RecordMaxBytes: 64 << 20,
		LedgerMaxAge: 24 * time.Hour, LedgerMaxBytes: 64 << 20, Replicas: 1,
	}
}

// apply makes the whole topology, as bus.Apply does.
func apply(t *testing.T, js jetstream.JetStream, o subjects.Options) {
	t.Helper()
	for _, c := range subjects.Streams(o) {
		_, err := js.CreateOrUpdateStream(t.Context(), c)
		require.NoError(t, err)
	}
	for _, p := range order.Priorities {
		_, err := js.CreateOrUpdateConsumer(t.Context(), subjects.StreamIn(p), subjects.WorkerConsumer())
		require.NoError(t, err)
	}
	for _, b := range subjects.Buckets(o) {
		_, err := js.CreateOrUpdateKeyValue(t.Context(), b)
		require.NoError(t, err)
	}
}

func started(t *testing.T) (*natstest.Server, jetstream.JetStream) {
	t.Helper()
	s := natstest.Start(t)
	js := s.JetStream(t)
	apply(t, js, testOptions())
	return s, js
}

func publish(t *testing.T, js jetstream.JetStream, subject string, n int) {
	t.Helper()
	for range n {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte("order")})
		require.NoError(t, err)
	}
}

func state(t *testing.T, js jetstream.JetStream, stream string) jetstream.StreamState {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	return s.CachedInfo().State
}

// take acknowledges the next n messages of a consumer and waits until the server has noted it.
func take(t *testing.T, js jetstream.JetStream, stream, consumer string, n int) {
	t.Helper()
	c, err := js.Consumer(t.Context(), stream, consumer)
	require.NoError(t, err)
	for range n {
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		require.NoError(t, err)
		require.NoError(t, m.DoubleAck(t.Context()))
	}
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, patience, 10*time.Millisecond)
}
