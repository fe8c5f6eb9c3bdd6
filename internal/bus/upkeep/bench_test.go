package upkeep

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

// What the door asks per order.
func BenchmarkBacklogOldest(b *testing.B) {
	l := NewBacklog(nil, discard(), prometheus.NewRegistry())
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Oldest(order.PriorityLow)
	}
}

func BenchmarkClockNow(b *testing.B) {
	c := LocalClock()
	b.ReportAllocs()
	for b.Loop() {
		_ = c.Now()
	}
}

func benchTopology(b *testing.B) (*natstest.Server, jetstream.JetStream) {
	b.Helper()
	s := natstest.Start(b)
	js := s.JetStream(b)
	for _, c := range subjects.Streams(testOptions()) {
		_, err := js.CreateStream(b.Context(), c)
		require.NoError(b, err)
	}
	for _, p := range order.Priorities {
		_, err := js.CreateConsumer(b.Context(), subjects.StreamIn(p), subjects.WorkerConsumer())
		require.NoError(b, err)
	}
	return s, js
}

// One of thirty samples a second.
func BenchmarkBacklogSample(b *testing.B) {
	_, js := benchTopology(b)
	l := NewBacklog(js, discard(), prometheus.NewRegistry())
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, l.classes[0].sample(b.Context()))
	}
}

// One of every two seconds' rounds, with nothing to purge.
func BenchmarkPurgeSweep(b *testing.B) {
	_, js := benchTopology(b)
	p := NewPurge(js, PurgeConfig{Window: time.Hour, Record: true}, discard(), prometheus.NewRegistry())
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, p.Sweep(b.Context()))
	}
}

// How much later the door opens after the death of the machine, per stream.
func BenchmarkBurn(b *testing.B) {
	_, js := benchTopology(b)
	for b.Loop() {
		require.NoError(b, Burn(b.Context(), js, []string{subjects.StreamIn(order.PriorityHigh)}, BurnCount))
	}
}
