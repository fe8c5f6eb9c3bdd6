package peerlink

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

// handshake connects to a node's leafnode listener and reads what comes first.
func handshake(t *testing.T, n *node, c *tls.Config) error {
	t.Helper()
	c.InsecureSkipVerify = true
	conn, err := (&tls.Dialer{Config: c}).DialContext(t.Context(), "tcp", strings.TrimPrefix(n.url(), "tls://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
	_, err = io.ReadFull(conn, make([]byte, 4))
	return err
}

func refusedBy(n *node, reason string) func() float64 {
	return func() float64 { return testutil.ToFloat64(n.links.m.refused.WithLabelValues(reason)) }
}

type verifierFunc func(string, tls.ConnectionState) error

func (f verifierFunc) Verify(peer string, cs tls.ConnectionState) error { return f(peer, cs) }

func TestListenerRefusesWhoIsNoPeerAndCountsWhy(t *testing.T) {
	a := start(t, "a")
	b := issue(t, t.TempDir(), "b", time.Now().Add(time.Hour), nil)
	late := issue(t, t.TempDir(), "late", time.Now().Add(-time.Minute), nil)
	stranger := issue(t, t.TempDir(), "b", time.Now().Add(time.Hour), nil) // in the name of a peer
	a.set(t, Peer{Name: "b", Pins: []string{b.pin}}, Peer{Name: "late", Pins: []string{strings.ToUpper(late.pin)}})
	with := func(id *identity) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{id.pair}} }
	require.NoError(t, handshake(t, a, with(b)))
	for reason, c := range map[string]*tls.Config{
		refusedAbsent:   {},
		refusedUnknown:  with(stranger),
		refusedValidity: with(late),
		refusedVersion:  {Certificates: []tls.Certificate{b.pair}, MaxVersion: tls.VersionTLS12},
	} {
		t.Run(reason, func(t *testing.T) {
			require.Error(t, handshake(t, a, c))
			require.InDelta(t, 1, refusedBy(a, reason)(), 0)
		})
	}
	a.links.trust.verifier = verifierFunc(func(string, tls.ConnectionState) error { return errors.New("no quote") })
	require.Error(t, handshake(t, a, with(b)))
	require.InDelta(t, 1, refusedBy(a, refusedVerifier)(), 0)
}

func TestPlainConnectionGetsNothing(t *testing.T) {
	a := start(t, "a")
	raw, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(a.url(), "tls://"))
	require.NoError(t, err)
	defer raw.Close()
	_, err = io.WriteString(raw, "CONNECT {\"user\":\"high\"}\r\n")
	require.NoError(t, err)
	require.NoError(t, raw.SetDeadline(time.Now().Add(soon)))
	b, _ := io.ReadAll(raw)
	require.NotContains(t, string(b), "INFO")
}

func TestSolicitorRefusesAnImpostor(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	a.set(t, b.peer())
	impostor := a.peer()
	impostor.Pins = []string{strings.Repeat("0", 64)}
	b.set(t, impostor)
	require.Eventually(t, func() bool { return refusedBy(b, refusedUnknown)() > 0 }, soon, tick)
	require.Eventually(t, func() bool { return strings.Contains(b.links.State()[0].LastError, "peer refused") }, soon, tick)
	// The certificate of another peer is no better.
	c := start(t, "c")
	wrong := a.peer()
	wrong.Pins = []string{c.id.pin}
	other := c.peer()
	other.URL, other.Pins = "", []string{a.id.pin}
	b.set(t, wrong, other)
	require.Eventually(t, func() bool { return refusedBy(b, refusedWrongPeer)() > 0 }, soon, tick)
	for _, ln := range lanes {
		leafs, err := b.links.server.Leafs(fetching("a", ln))
		require.NoError(t, err)
		require.Empty(t, leafs)
	}
}

func TestVerifierHasTheLastWordOnBothSides(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	saw := make(chan string, 100)
	for _, n := range []*node{a, b} {
		n.links.trust.verifier = verifierFunc(func(peer string, cs tls.ConnectionState) error {
			select {
			case saw <- n.name + " judges " + peer:
			default:
			}
			if cs.Version != tls.VersionTLS13 || len(cs.PeerCertificates) == 0 {
				return errors.New("no certificate")
			}
			return nil
		})
	}
	a.set(t, b.peer())
	only := a.peer()
	b.set(t, only)
	box := b.receive(t, "a", order.PriorityHigh)
	a.store(t, order.PriorityHigh, 1, nil)
	box.await(t, 1)
	seen := map[string]bool{}
	for len(seen) < 2 {
		seen[<-saw] = true
	}
	require.True(t, seen["a judges b"] && seen["b judges a"])
}

func TestPrivateAuthorityNamesPeersWithoutPins(t *testing.T) {
	ca := issue(t, t.TempDir(), "authority", time.Now().Add(time.Hour), nil)
	issued := func(name string) nodeOption {
		return func(c *Config, n *node) {
			n.id = issue(t, t.TempDir(), name, time.Now().Add(time.Hour), ca)
			c.TLS.CA = ca.cert
		}
	}
	a, b := start(t, "a", issued("a")), start(t, "b", issued("b"))
	unpinned := func(n *node) Peer { return Peer{Name: n.name, URL: n.url()} }
	a.set(t, unpinned(b))
	b.set(t, unpinned(a))
	box := b.receive(t, "a", order.PriorityHigh)
	a.store(t, order.PriorityHigh, 1, nil)
	box.await(t, 1)
	stranger := issue(t, t.TempDir(), "c", time.Now().Add(time.Hour), ca)
	require.Error(t, handshake(t, a, &tls.Config{Certificates: []tls.Certificate{stranger.pair}}))
	own := issue(t, t.TempDir(), "b", time.Now().Add(time.Hour), nil)
	require.Error(t, handshake(t, a, &tls.Config{Certificates: []tls.Certificate{own.pair}}))
	require.NoError(t, handshake(t, a, &tls.Config{Certificates: []tls.Certificate{b.id.pair}}))
}

func TestCertificateIsRenewedWithoutAGapAndAPinThatGoesEndsItsConnections(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	box := b.receive(t, "a", order.PriorityHigh)
	a.store(t, order.PriorityHigh, 1, nil)
	box.await(t, 1)
	next := issue(t, t.TempDir(), "b", time.Now().Add(2*time.Hour), nil)
	both := b.peer()
	both.Pins = append(both.Pins, next.pin)
	a.set(t, both)
	before, err := a.links.server.Leafs(serving("b", laneHigh))
	require.NoError(t, err)
	require.Len(t, before, 1)
	copyFile(t, next.cert, b.id.cert)
	copyFile(t, next.key, b.id.key)
	a.store(t, order.PriorityHigh, 2, nil)
	box.await(t, 2)
	// The old key is distrusted: its connections end, and the new one is shown.
	after := b.peer()
	after.Pins = []string{next.pin}
	a.set(t, after)
	require.Eventually(t, func() bool {
		now, err := a.links.server.Leafs(serving("b", laneHigh))
		return err == nil && len(now) == 1 && now[0].ID != before[0].ID
	}, soon, tick)
	a.store(t, order.PriorityHigh, 3, nil)
	box.await(t, 3)
	require.Equal(t, upTo(3), box.nonces())
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to+".new", b, 0o600))
	require.NoError(t, os.Rename(to+".new", to))
}

func TestConfigurationReportsAllFaults(t *testing.T) {
	c := Config{Operator: "a b", Listen: "nowhere", Compression: "zip", Ping: time.Millisecond}
	err := c.Validate()
	for _, part := range []string{"peers.name", "peers.listen", "peers.tls", "peers.max_bytes", "peers.compression", "peers.ping", "orders.max_age"} {
		require.ErrorContains(t, err, part)
	}
	require.NoError(t, (&Config{}).Validate())
	require.ErrorContains(t, (&Config{Listen: ":1"}).Validate(), "peers.name")
	_, err = New(Config{}, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorIs(t, err, ErrConfig)
}

func TestListOfPeersIsRefusedAsAWhole(t *testing.T) {
	c := &Config{Operator: "a"}
	pin := strings.Repeat("0", 64)
	for name, list := range map[string][]Peer{
		"name":       {{Name: "b.c", Pins: []string{pin}}},
		"own name":   {{Name: "a", Pins: []string{pin}}},
		"no pins":    {{Name: "b"}},
		"not a SHA":  {{Name: "b", Pins: []string{"00"}}},
		"tls://host": {{Name: "b", Pins: []string{pin}, URL: "nats://h:1"}},
		"no port":    {{Name: "b", Pins: []string{pin}, URL: "tls://h"}},
		"twice":      {{Name: "b", Pins: []string{pin}}, {Name: "b", Pins: []string{pin}}},
		"same pin":   {{Name: "b", Pins: []string{pin}}, {Name: "c", Pins: []string{pin}}},
	} {
		require.ErrorIs(t, validatePeers(c, list), ErrConfig, name)
	}
	require.NoError(t, validatePeers(c, []Peer{{Name: "b", Pins: []string{pin}, URL: "tls://h:7422"}}))
}
