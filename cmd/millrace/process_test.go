package main

import (
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/egress"
	"millrace/egress/builder"
	"millrace/internal/bus"
	"millrace/internal/config"
)

func TestRuntimeIsTunedUnlessTheOperatorDid(t *testing.T) {
	gogc, limit, procs := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64), runtime.GOMAXPROCS(1)
	t.Cleanup(func() {
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(gogc)
		debug.SetMemoryLimit(limit)
	})
	c := Runtime{GOGC: 300, MemoryLimit: 512 << 20, SpareProcs: 2}
	tuneRuntime(c, []string{"GOGC=50", "GOMEMLIMIT=1GiB", "GOMAXPROCS=1"})
	require.Equal(t, 1, runtime.GOMAXPROCS(0))
	require.Equal(t, 100, debug.SetGCPercent(100))
	require.Equal(t, int64(math.MaxInt64), debug.SetMemoryLimit(-1))
	tuneRuntime(c, []string{"GOGCX=50"})
	require.Equal(t, 3, runtime.GOMAXPROCS(0))
	require.Equal(t, 300, debug.SetGCPercent(100))
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

func TestReloadableKeysAreThoseOfTheDoorTheBuildersAndTheSecondaries(t *testing.T) {
	require.True(t, reloadable("ingress.rate_limit.count"))
	require.True(t, reloadable("builders"))
	require.True(t, reloadable("builder.url"))
	require.True(t, reloadable("log.level"))
	require.True(t, reloadable("nats.tls.cert"))
	require.True(t, reloadable("engine.secondaries"))
	require.True(t, reloadable("engine.replay.payload_timeout"))
	for _, key := range append(pinned(), "engine.replay.max_calls", "engine.primary", "engine.jwt_secret", "engine.auth", "engine.spool_dir", "nats.url", "orders.max_age", "log.format", "egress.in_flight", "egress.orderflow_signer") {
		require.False(t, reloadable(key), key)
	}
}

func TestTLSGoesOnAndOffWithARestartOnly(t *testing.T) {
	t.Parallel()
	settings := func(section, file string) []config.Setting {
		a := &app{stdout: io.Discard, stderr: io.Discard}
		args := []string{"node"}
		if file != "" {
			args = append(args, "--"+section+".tls.cert="+file, "--"+section+".tls.key="+file)
		}
		p, err := a.parse(args)
		require.NoError(t, err)
		return p.effective()
	}
	for _, section := range []string{"ingress", "nats"} {
		keys := []string{section + ".tls.cert", section + ".tls.key"}
		p := &process{cfg: &Config{}, inForce: settings(section, "")}
		applied, waiting := p.account(settings(section, "pem"))
		require.Empty(t, applied)
		require.Equal(t, keys, waiting)
		require.Empty(t, config.Changed(settings(section, ""), p.inForce), "what was in force is")

		p.inForce = settings(section, "old.pem")
		applied, waiting = p.account(settings(section, "new.pem"))
		require.Equal(t, keys, applied)
		require.Empty(t, waiting)
	}
	p := &process{cfg: &Config{NATS: bus.Config{URL: "tls://bus:4222"}}, inForce: settings("nats", "old.pem")}
	_, waiting := p.account(settings("nats", "new.pem"))
	require.Len(t, waiting, 2, "what this process shows to a bus elsewhere")
}

func TestDeliveryRefusesToLoseItsLastBuilder(t *testing.T) {
	d := &delivery{dispatcher: &egress.Dispatcher{}}
	require.ErrorIs(t, d.reload(&Config{}), errLastBuilder)
	d = &delivery{} // an ingress process only asks
	require.NoError(t, d.check(&Config{}))
}
