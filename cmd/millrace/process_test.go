package main

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/egress"
	"millrace/egress/builder"
	"millrace/internal/config"
)

func TestRuntimeIsTunedUnlessTheOperatorDid(t *testing.T) {
	gogc, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() {
		debug.SetGCPercent(gogc)
		debug.SetMemoryLimit(limit)
	})
	c := Runtime{GOGC: 400, MemoryLimit: 512 << 20}
	tuneRuntime(c, []string{"GOGC=50", "GOMEMLIMIT=1GiB"})
	require.Equal(t, 100, debug.SetGCPercent(100))
	require.Equal(t, int64(math.MaxInt64), debug.SetMemoryLimit(-1))
	tuneRuntime(c, []string{"GOGCX=50"})
	require.Equal(t, 400, debug.SetGCPercent(100))
	require.Equal(t, int64(512<<20), debug.SetMemoryLimit(-1))
}

func TestRolesListThemselvesUpstreamFirst(t *testing.T) {
	require.Equal(t, "ingress,worker,egress", roleNode.String())
	require.Equal(t, "bus", roleBus.String())
}

func TestStubIsOnlyForANodeThatNobodyElseCanReach(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		stub   bool
		fails  bool
	}{
		{"nothing set", func(*Config) {}, true, false},
		{"localhost", func(c *Config) { c.Ingress.Listen = "localhost:1" }, true, false},
		{"IPv6 loopback", func(c *Config) { c.Ingress.Listen = "[::1]:1" }, true, false},
		{"a builder", func(c *Config) { c.Builder.Builder.URL = "http://b" }, false, false},
		{"a list of builders", func(c *Config) { c.Builder.Builders = []builder.Target{{Name: "b", URL: "http://b"}} }, false, false},
		{"every interface", func(c *Config) { c.Ingress.Listen = ":8080" }, false, true},
		{"statistics from outside", func(c *Config) { c.Ingress.BuilderListen = "10.0.0.1:1" }, false, true},
		{"NATS clients from outside", func(c *Config) { c.NATS.Listen = "0.0.0.0:4222" }, false, true},
		{"a shared bus", func(c *Config) { c.NATS.URL = "nats://b" }, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Config{}
			c.Ingress.Listen = "127.0.0.1:8080"
			tc.change(&c)
			stub, err := c.needsStub()
			require.Equal(t, tc.fails, err != nil, err)
			require.Equal(t, tc.stub, stub)
		})
	}
}

func TestReloadableKeysAreThoseOfTheDoorAndTheBuilders(t *testing.T) {
	settings := func(listen, count, cert string) []config.Setting {
		return []config.Setting{
			{Key: "ingress.listen", Value: listen}, {Key: "ingress.rate_limit.count", Value: count}, {Key: "ingress.tls.cert", Value: cert},
		}
	}
	require.True(t, reloadable("ingress.rate_limit.count"))
	require.True(t, reloadable("builders"))
	require.True(t, reloadable("builder.url"))
	require.True(t, reloadable("log.level"))
	for _, key := range append(pinned(), "nats.url", "orders.max_age", "log.format", "egress.in_flight", "egress.orderflow_signer") {
		require.False(t, reloadable(key), key)
	}
	p := &process{inForce: settings("a", "1", "")}
	require.True(t, p.tlsSwitched(settings("a", "1", "cert.pem")))
	p.inForce = settings("a", "1", "old.pem")
	require.False(t, p.tlsSwitched(settings("a", "1", "new.pem")))
}

func TestDeliveryRefusesToLoseItsLastBuilder(t *testing.T) {
	d := &delivery{dispatcher: &egress.Dispatcher{}}
	require.ErrorIs(t, d.reload(&Config{}), errLastBuilder)
	d = &delivery{} // an ingress process only asks
	require.NoError(t, d.check(&Config{}))
}
