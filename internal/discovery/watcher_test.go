package discovery

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/discovery/hubtest"
)

func TestTheMoreExplicitSourceWinsAsAWhole(t *testing.T) {
	hub, z := hubtest.Start(t), startZone(t)
	for i, name := range []string{"one", "two", "three", "four"} {
		b := listed(name, byte(i+1))
		b.Instance = &hubtest.Credentials{Certificate: certificatePEM(t)}
		hub.Set(b)
	}
	z.set(t,
		srvLine("a.example.org", "1"), srvLine("b.example.org", "1"), srvLine("c.example.org", "1"),
		`a.example.org. 60 IN TXT "name=one"`, `b.example.org. 60 IN TXT "name=two"`, `c.example.org. 60 IN TXT "name=three"`,
	)
	cfg := hubConfig(hub.URL("alpha"))
	cfg.SRV = service
	cfg.File = peersFile(t, "peers:\n- {name: one, address: 'file:1'}\n- {name: two, address: 'file:1'}\n")
	cfg.Static = []Entry{{Name: "one", Address: "static:1", Pins: []string{pin(1)}}}
	g := newWatcher(t, cfg, Self{}, z.resolver()).start()
	g.eventually(g.Complete)
	ps := g.Peers()
	require.Equal(t, []string{"four", "one", "three", "two"}, called(ps))
	require.Equal(t, []Source{Hub, Static, DNS, File}, []Source{ps[0].Source, ps[1].Source, ps[2].Source, ps[3].Source})
	require.Equal(t, Peer{
		Name: "one", Address: "static:1", DNSName: "static", Transport: Auto, Pins: []string{pin(1)}, Source: Static,
	}, ps[1], "nothing of the hub's is mixed in")
	for _, s := range g.State() {
		require.Equal(t, 1, s.Peers, s.Source)
		require.Len(t, s.Skipped, int(s.Source)-1, s.Source)
		require.False(t, s.LastSuccess.IsZero(), s.Source)
		require.InDelta(t, 1, testutil.ToFloat64(g.metrics.peers.WithLabelValues(s.Source.String())), 0)
		require.InDelta(t, float64(s.Source)-1, g.skipped(s.Source, "taken"), 0)
		require.InDelta(t, float64(s.LastSuccess.UnixMilli())/1000, testutil.ToFloat64(g.metrics.success.WithLabelValues(s.Source.String())), 0.001)
	}
}

func TestASignerOrAPinBelongsToOnePeer(t *testing.T) {
	hub := hubtest.Start(t)
	hub.Set(listed("thief", 1))
	hub.Set(listed("honest", 2))
	cfg := hubConfig(hub.URL("alpha"))
	cfg.Static = []Entry{{Name: "beta", Address: "h:1", Signer: addr(1)}}
	g := newWatcher(t, cfg, Self{}, nil).start()
	g.awaitSet("beta", "honest")
	skips := g.state(Hub).Skipped
	require.Len(t, skips, 1)
	require.Equal(t, "thief", skips[0].Name)
	require.ErrorIs(t, skips[0].Err, ErrTaken)
	require.ErrorContains(t, skips[0].Err, "beta")
}

func TestTheFirstSetIsToldAtOnceAndCompletenessOnce(t *testing.T) {
	hub := hubtest.Start(t)
	cfg := hubConfig(hub.URL("alpha"))
	cfg.Static = []Entry{{Name: "beta", Address: "h:1"}}
	g := newWatcher(t, cfg, Self{}, nil).start()
	require.Equal(t, []string{"beta"}, called(g.next()))
	require.Equal(t, []string{"beta"}, called(g.next()), "the hub has nobody, but now that is known")
	require.True(t, g.Complete())
	g.awaitSuccess(Hub)
	g.quiet()
}

func TestASetBelongsToWhoIsTold(t *testing.T) {
	g := newWatcher(t, Config{Static: []Entry{{Name: "beta", Address: "h:1", Pins: []string{pin(1)}}}}, Self{}, nil).start()
	ps := g.next()
	ps[0].Name, ps[0].Pins[0] = "x", "x"
	require.Equal(t, "beta", g.Peers()[0].Name)
	require.Equal(t, []string{pin(1)}, g.Peers()[0].Pins)
}

func TestTheConfigurationsOwnListMayChange(t *testing.T) {
	g := newWatcher(t, Config{}, Self{}, nil)
	require.NoError(t, g.SetStatic([]Entry{{Name: "beta", Address: "h:1"}}))
	g.start()
	g.awaitSet("beta")
	require.NoError(t, g.SetStatic([]Entry{{Name: "gamma", Address: "h:1"}}))
	g.awaitSet("gamma")
	require.ErrorIs(t, g.SetStatic([]Entry{{Name: "a b", Address: "h:1"}}), ErrName)
	g.awaitSuccess(Static)
	g.quiet()
}

func TestRunEndsWhileAHubHangs(t *testing.T) {
	hub := hubtest.Start(t)
	hub.BreakList(hubtest.Hang)
	hub.BreakRegister(hubtest.Hang)
	cfg := hubConfig(hub.URL("alpha"))
	cfg.Hub.Register = true
	g := newWatcher(t, cfg, Self{Signer: addr(9)}, nil).start()
	g.eventually(func() bool { return hub.Lists() == 1 && hub.Tries() == 1 })
	began := time.Now()
	g.stop()
	require.Less(t, time.Since(began), hubTotal)
	require.NotContains(t, g.logs.String(), "fails", "nothing has failed")
}

func TestNewRefusesABadConfiguration(t *testing.T) {
	_, err := New(Config{SRV: "no name"}, Self{}, nil, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.Error(t, err)
	cfg := hubConfig("https://hub.example.org")
	cfg.Hub.CA = peersFile(t, "no certificate")
	reg := prometheus.NewRegistry()
	_, err = New(cfg, Self{}, nil, nil, slog.New(slog.DiscardHandler), reg)
	require.ErrorContains(t, err, "peers.hub.ca")
	cfg.Hub.CA = ""
	_, err = New(cfg, Self{}, nil, nil, slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err, "the refused one has registered nothing")
}
