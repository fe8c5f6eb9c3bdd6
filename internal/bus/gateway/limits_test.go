package gateway

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/ingress/rpc/limit"
	"millrace/internal/natstest"
)

// TestTwoProcessesHaveOneLimitOverTheBus asks both for more than the limit, for a few seconds.
func TestTwoProcessesHaveOneLimitOverTheBus(t *testing.T) {
	s := natstest.Start(t)
	client := netip.MustParseAddr("192.0.2.1")
	var ls []*limit.Limiter
	regs := []*prometheus.Registry{prometheus.NewRegistry(), prometheus.NewRegistry()}
	for _, reg := range regs {
		l, err := limit.New(limit.Config{Budget: limit.Budget{Total: limit.Rate{Count: 100, Window: time.Second}}}, NewGossip(port(t, s)), quiet(), reg)
		require.NoError(t, err)
		background(t, l.Run)
		ls = append(ls, l)
	}
	for _, reg := range regs {
		require.Eventually(t, func() bool { return peers(t, reg) == 1 }, soon, tick)
	}
	var at []time.Time
	start := time.Now()
	for step := time.NewTicker(2 * time.Millisecond); time.Since(start) < 3*time.Second; <-step.C {
		for _, l := range ls {
			if _, ok := l.Allow(client, "", "eth_call", 1); ok {
				at = append(at, time.Now())
			}
		}
	}
	for i := range at {
		j, _ := slices.BinarySearchFunc(at, at[i].Add(time.Second), time.Time.Compare)
		require.LessOrEqual(t, j-i, 120)
	}
	require.GreaterOrEqual(t, len(at), 3*90)
}

func peers(t *testing.T, reg *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "millrace_gateway_limit_peers" {
			n = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return n
}
