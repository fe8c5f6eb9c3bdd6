package discovery

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/discovery/hubtest"
)

func TestAHubsPeersAreTold(t *testing.T) {
	hub := hubtest.Start(t)
	instance, proxy := certificatePEM(t), certificatePEM(t)
	beta := listed("beta", 1)
	beta.DNSName, beta.Instance = "beta.example.org", &hubtest.Credentials{Certificate: instance}
	beta.Proxy.Certificate = proxy
	gamma := listed("gamma", 2)
	gamma.IP, gamma.Proxy.Certificate = "10.0.0.2:9000", proxy
	hub.Set(beta)
	hub.Set(gamma)
	g := newWatcher(t, hubConfig(hub.URL("alpha")), Self{}, nil).start()
	ps := g.awaitSet("beta", "gamma")
	require.Equal(t, Peer{
		Name: "beta", Address: "beta.example.org:5544", DNSName: "beta.example.org", Transport: Auto,
		Certificate: instance, Pins: []string{}, Signer: addr(1), Source: Hub,
	}, ps[0])
	require.Equal(t, Peer{
		Name: "gamma", Address: "10.0.0.2:9000", Transport: Auto,
		Certificate: proxy, Pins: []string{}, Signer: addr(2), Source: Hub,
	}, ps[1])
}

func TestAHubIsAskedAgainAndOnlyAnotherSetIsTold(t *testing.T) {
	hub := hubtest.Start(t)
	for i, name := range []string{"beta", "gamma", "delta", "epsilon"} {
		hub.Set(listed(name, byte(i+1)))
	}
	g := newWatcher(t, hubConfig(hub.URL("alpha")), Self{}, nil).start()
	g.awaitSet("beta", "delta", "epsilon", "gamma")
	for range 5 { // the order is another each time
		g.awaitSuccess(Hub)
	}
	g.quiet()
	hub.Remove("delta")
	moved := listed("beta", 1)
	moved.IP = "10.0.0.99"
	hub.Set(moved)
	g.Refresh()
	require.Equal(t, "10.0.0.99:5544", g.awaitSet("beta", "epsilon", "gamma")[0].Address)
	require.Contains(t, g.logs.String(), "changed=beta removed=delta")
}

func TestAHubIsAskedAtItsInterval(t *testing.T) {
	hub := hubtest.Start(t)
	cfg := hubConfig(hub.URL("alpha"))
	cfg.Hub.Every = time.Second
	g := newWatcher(t, cfg, Self{}, nil).start()
	g.eventually(g.Complete)
	hub.Set(listed("beta", 1))
	g.awaitSet("beta")
	require.GreaterOrEqual(t, hub.Lists(), 2)
}

func TestWeAreNotOurOwnPeer(t *testing.T) {
	hub := hubtest.Start(t)
	hub.Set(listed("beta", 1))
	hub.Set(listed("whoever", 9))
	hub.Set(listed("alpha", 8)) // by the key of the process before this one
	g := newWatcher(t, hubConfig(hub.URL("alpha")), Self{Name: "alpha", Signer: addr(9)}, nil).start()
	g.awaitSet("beta")
	unregistered := listed("alpha", 8)
	unregistered.Proxy = nil
	hub.Set(unregistered)
	g.awaitSuccess(Hub)
	require.Empty(t, g.state(Hub).Skipped, "nobody has to be told about us")
}

func TestABadElementCostsThatElementOnly(t *testing.T) {
	hub := hubtest.Start(t)
	hub.Set(listed("beta", 1))
	half := listed("half", 2)
	half.Proxy = nil
	hub.Set(half)
	hub.AddRaw(
		`null`, `17`, `[]`, `"x"`, `{}`,
		`{"name":5,"ip":"10.0.0.3"}`,
		`{"name":"twice","name":"twice","ip":"10.0.0.3","orderflow_proxy":{"ecdsa_pubkey_address":"`+addr(3).Hex()+`"}}`,
		`{"name":"nowhere","orderflow_proxy":{"ecdsa_pubkey_address":"`+addr(4).Hex()+`"}}`,
		`{"name":"badsigner","ip":"10.0.0.5","orderflow_proxy":{"ecdsa_pubkey_address":"0x12"}}`,
		`{"name":"zerosigner","ip":"10.0.0.5","orderflow_proxy":{"ecdsa_pubkey_address":"`+addr(0).Hex()+`"}}`,
		`{"name":"badhost","ip":"10.0.0.5/evil","orderflow_proxy":{"ecdsa_pubkey_address":"`+addr(6).Hex()+`"}}`,
		`{"name":"badcert","ip":"10.0.0.5","instance":{"tls_cert":"nonsense"},"orderflow_proxy":{"ecdsa_pubkey_address":"`+addr(7).Hex()+`"}}`,
		`{"name":"betas twin","ip":"10.0.0.5","orderflow_proxy":{"ecdsa_pubkey_address":"`+addr(1).Hex()+`"}}`,
		`{"name":"more","ip":"::1","later":{"x":[1]},"rbuilder":{"tls_cert":5},"orderflow_proxy":{"ecdsa_pubkey_address":"`+addr(8).Hex()+`","region":"x"}}`,
	)
	g := newWatcher(t, hubConfig(hub.URL("alpha")), Self{}, nil).start()
	ps := g.awaitSet("beta", "more")
	require.Equal(t, "[::1]:5544", ps[1].Address)
	for reason, n := range map[string]float64{
		"malformed": 6, "name": 1, "unregistered": 1, "signer": 2, "address": 2, "certificate": 1, "taken": 1,
	} {
		require.Equal(t, n, g.skipped(Hub, reason), reason) //nolint:testifylint // whole numbers
	}
	for _, name := range []string{"half", "twice", "nowhere", "badsigner", "badhost", "badcert"} {
		require.Contains(t, g.logs.String(), "peer="+name)
	}
	n := strings.Count(g.logs.String(), "peer left out")
	g.awaitSuccess(Hub)
	require.Equal(t, n, strings.Count(g.logs.String(), "peer left out"), "said once")

	hub.Set(listed("half", 2))
	g.Refresh()
	g.awaitSet("beta", "half", "more")
}

func TestOfTwoOfOneNameTheSameIsTakenEachTime(t *testing.T) {
	hub := hubtest.Start(t)
	for n := byte(1); n < 5; n++ {
		text, err := json.Marshal(listed("beta", n))
		require.NoError(t, err)
		hub.AddRaw(string(text))
	}
	g := newWatcher(t, hubConfig(hub.URL("alpha")), Self{}, nil).start()
	require.Equal(t, "10.0.0.1:5544", g.awaitSet("beta")[0].Address)
	for range 10 {
		g.awaitSuccess(Hub)
	}
	g.quiet()
	require.InDelta(t, 3, g.skipped(Hub, "taken"), 0)
}

func TestNamesThatAreNoTokensStayApart(t *testing.T) {
	require.Equal(t, "beta_1-eu", token("beta_1-eu"))
	seen := map[string]bool{}
	for _, s := range []string{"beta.eu", "beta eu", "beta>eu", "beta*eu", "βeta", strings.Repeat("x", 33), strings.Repeat("x", 34), ""} {
		require.True(t, validName(token(s)), "%q", s)
		require.False(t, seen[token(s)], "%q", s)
		seen[token(s)] = true
	}
	require.True(t, strings.HasPrefix(token("beta.eu"), "beta-eu-"))
}

func TestAHubThatFailsKeepsItsLastGoodSet(t *testing.T) {
	hub := hubtest.Start(t)
	hub.Set(listed("beta", 1))
	cfg := hubConfig(hub.URL("alpha"))
	g := newWatcher(t, cfg, Self{}, nil)
	g.hub.client.Timeout = 200 * time.Millisecond // 5 s is long for a test
	g.start()
	g.awaitSet("beta")
	for fault, reason := range map[hubtest.Fault]string{
		hubtest.FailStatus: "status", hubtest.ForbidStatus: "status", hubtest.RedirectAway: "status",
		hubtest.Hang: "timeout", hubtest.Reset: "network", hubtest.CutOff: "network",
		hubtest.NotJSON: "malformed", hubtest.NotList: "malformed",
	} {
		hub.BreakList(fault)
		g.awaitFault(Hub, reason)
		require.Equal(t, []string{"beta"}, called(g.Peers()), reason)
		require.Error(t, g.state(Hub).Err)
	}
	g.hub.client.Timeout = patience
	hub.BreakList(hubtest.TooLarge)
	g.awaitFault(Hub, "too_large")
	hub.MendList()
	hub.Remove("beta")
	hub.AddRaw(`{"name":5}`, `{"name":6}`)
	g.awaitFault(Hub, "unusable")
	g.quiet()
	require.Equal(t, 1, strings.Count(g.logs.String(), "its last good set is kept"), "said once")

	hub.RemoveRaw()
	hub.Set(listed("gamma", 2))
	g.Refresh()
	g.awaitSet("gamma")
	require.NoError(t, g.state(Hub).Err)
	require.Contains(t, g.logs.String(), "source of peers is back")
}

func TestAHubMayListNobody(t *testing.T) {
	hub := hubtest.Start(t)
	hub.Set(listed("beta", 1))
	g := newWatcher(t, hubConfig(hub.URL("alpha")), Self{}, nil).start()
	for _, f := range []hubtest.Fault{hubtest.EmptyList, hubtest.NullList} {
		hub.MendList()
		g.Refresh()
		g.awaitSet("beta")
		hub.BreakList(f)
		g.Refresh()
		g.awaitSet()
	}
}

func TestAHubThatIsAwayAtStartBlocksNobody(t *testing.T) {
	hub := hubtest.Start(t)
	hub.Set(listed("gamma", 2))
	hub.BreakList(hubtest.Hang)
	cfg := hubConfig(hub.URL("alpha"))
	cfg.Static = []Entry{{Name: "beta", Address: "10.0.0.1:7422"}}
	g := newWatcher(t, cfg, Self{}, nil)
	g.hub.client.Timeout = 100 * time.Millisecond
	g.start()
	require.Equal(t, []string{"beta"}, called(g.next()))
	require.False(t, g.Complete())
	hub.MendList()
	g.awaitSet("beta", "gamma") // by itself: the first failures are followed by early tries
	require.True(t, g.Complete())
}

func TestAHubIsSpokenToOverTLS(t *testing.T) {
	hub := hubtest.StartTLS(t)
	hub.Set(listed("beta", 1))
	cfg := hubConfig(hub.URL("alpha"))
	g := newWatcher(t, cfg, Self{}, nil).start()
	g.awaitFault(Hub, "tls")
	g.stop()

	cfg.Hub.CA = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(cfg.Hub.CA, hub.Certificate(), 0o600))
	g = newWatcher(t, cfg, Self{}, nil).start()
	g.awaitSet("beta")
}

func TestARefusedConnectionIsTheNetworks(t *testing.T) {
	g := newWatcher(t, hubConfig("http://127.0.0.1:1"), Self{}, nil).start()
	g.awaitFault(Hub, "network")
}

func TestAPasswordOfTheHubsURLIsNotTold(t *testing.T) {
	g := newWatcher(t, hubConfig("http://me:geheim@127.0.0.1:1"), Self{}, nil).start()
	g.awaitFault(Hub, "network")
	require.NotContains(t, g.logs.String(), "geheim")
}

func TestListsOfTooManyAreRefused(t *testing.T) {
	body := "[" + strings.Repeat("{},", maxBuilders) + "{}]"
	_, _, err := decodeBuilders([]byte(body), Auto)
	require.ErrorIs(t, err, ErrTooLarge)
	for _, body := range []string{"", "[", "[{}", "[{},]", "[{}] []", "null null", "{}", `"x"`, "[{]"} {
		_, _, err := decodeBuilders([]byte(body), Auto)
		require.ErrorIs(t, err, ErrMalformed, body)
	}
}
