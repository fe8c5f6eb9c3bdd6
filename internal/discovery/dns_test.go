package discovery

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

const service = "_millrace._tcp.example.org"

// zone is a DNS server with these records.
type zone struct {
	mu      sync.Mutex
	records map[string][]dns.RR // by type and name
	broken  map[string]bool     // those that are answered with SERVFAIL
	asked   map[string]int
	addr    string
}

func startZone(t *testing.T) *zone {
	t.Helper()
	pc, l := bothPorts(t)
	z := &zone{records: map[string][]dns.RR{}, broken: map[string]bool{}, asked: map[string]int{}, addr: pc.LocalAddr().String()}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: z}, {Listener: l, Handler: z}} {
		up, done := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(up) }
		go func() { done <- s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() {
			require.NoError(t, s.Shutdown())
			require.NoError(t, <-done)
		})
	}
	return z
}

// bothPorts listens at one number over UDP and, for long answers, TCP.
func bothPorts(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 { // the number may be in use by the other
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		pc, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return pc, l
		}
		require.NoError(t, l.Close())
	}
	t.Fatal("no number is free for both")
	return nil, nil
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	m := new(dns.Msg).SetReply(q)
	key := dns.TypeToString[q.Question[0].Qtype] + " " + strings.ToLower(q.Question[0].Name)
	z.asked[key]++
	m.Answer = z.records[key]
	switch {
	case z.broken[key]:
		m.Answer, m.Rcode = nil, dns.RcodeServerFailure
	case len(m.Answer) == 0:
		m.Rcode = dns.RcodeNameError
	}
	z.mu.Unlock()
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		m.Truncate(512)
	}
	_ = w.WriteMsg(m)
}

// set replaces all records.
func (z *zone) set(t *testing.T, lines ...string) {
	t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	clear(z.records)
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		require.NoError(t, err, l)
		key := dns.TypeToString[rr.Header().Rrtype] + " " + strings.ToLower(rr.Header().Name)
		z.records[key] = append(z.records[key], rr)
	}
}

func (z *zone) breaks(key string, broken bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.broken[key] = broken
}

func (z *zone) resolver() Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, z.addr)
	}}
}

func srvLine(host, port string) string { return service + ". 60 IN SRV 0 0 " + port + " " + host + "." }

func startSRV(t *testing.T, z *zone, self Self) *rig {
	t.Helper()
	return newWatcher(t, Config{SRV: service}, self, z.resolver()).start()
}

func TestSRVRecordsArePeersAndTXTRecordsPinThem(t *testing.T) {
	z := startZone(t)
	z.set(t,
		srvLine("beta.example.org", "7422"), srvLine("gamma.example.org", "5544"), srvLine("alpha.example.org", "7422"),
		`beta.example.org. 60 IN TXT "pin=`+pin(2)+`"`,
		`beta.example.org. 60 IN TXT "v=spf1 -all"`,
		`beta.example.org. 60 IN TXT "name=beta pin=`+pin(1)+` transport=leafnode signer=`+addr(1).Hex()+`"`,
		`alpha.example.org. 60 IN TXT "name=alpha"`,
	)
	g := startSRV(t, z, Self{Name: "alpha"})
	ps := g.awaitSet("beta", "gamma-example-org")
	pins, err := normalPins([]string{pin(1), pin(2)})
	require.NoError(t, err)
	require.Equal(t, Peer{
		Name: "beta", Address: "beta.example.org:7422", DNSName: "beta.example.org", Transport: Leafnode,
		Pins: pins, Signer: addr(1), Source: DNS,
	}, ps[0])
	require.Equal(t, Peer{
		Name: "gamma-example-org", Address: "gamma.example.org:5544", DNSName: "gamma.example.org", Transport: Auto,
		Pins: []string{}, Source: DNS,
	}, ps[1])
}

func TestALongListOfSRVRecordsComesOverTCP(t *testing.T) {
	z := startZone(t)
	var lines []string
	for n := range 60 {
		host := "n" + strings.Repeat("x", n) + ".example.org"
		lines = append(lines, srvLine(host, "7422"))
	}
	z.set(t, lines...)
	g := startSRV(t, z, Self{})
	g.next()
	require.Len(t, g.next(), 60)
}

func TestABadTargetCostsThatTargetOnly(t *testing.T) {
	z := startZone(t)
	z.set(t,
		srvLine("beta.example.org", "7422"), srvLine("badpin.example.org", "1"), srvLine("badname.example.org", "1"),
		srvLine("badsigner.example.org", "1"), srvLine("badtransport.example.org", "1"), srvLine("dark.example.org", "1"),
		srvLine("noport.example.org", "0"),
		`badpin.example.org. 60 IN TXT "pin=12"`, `badname.example.org. 60 IN TXT "name=a.b"`,
		`badsigner.example.org. 60 IN TXT "signer=me"`, `badtransport.example.org. 60 IN TXT "transport=pigeon"`,
	)
	z.breaks("TXT dark.example.org.", true)
	g := startSRV(t, z, Self{})
	g.awaitSet("beta-example-org")
	for _, reason := range []string{"pin", "name", "signer", "transport", "lookup", "address"} {
		require.InDelta(t, 1, g.skipped(DNS, reason), 0, reason)
	}
}

func TestPinsStayWhenTheirLookUpFails(t *testing.T) {
	z := startZone(t)
	z.set(t, srvLine("beta.example.org", "7422"), `beta.example.org. 60 IN TXT "pin=`+pin(1)+`"`)
	g := startSRV(t, z, Self{})
	require.Equal(t, []string{pin(1)}, g.awaitSet("beta-example-org")[0].Pins)
	z.breaks("TXT beta.example.org.", true)
	z.mu.Lock()
	before := z.asked["TXT beta.example.org."]
	z.mu.Unlock()
	g.awaitSuccess(DNS)
	z.mu.Lock()
	require.Greater(t, z.asked["TXT beta.example.org."], before)
	z.mu.Unlock()
	require.Equal(t, []string{pin(1)}, g.Peers()[0].Pins)
	z.breaks("TXT beta.example.org.", false)
	z.set(t, srvLine("beta.example.org", "7422"), `beta.example.org. 60 IN TXT "pin=`+pin(2)+`"`)
	g.Refresh()
	require.Equal(t, []string{pin(2)}, g.awaitSet("beta-example-org")[0].Pins)
}

func TestDNSThatFailsKeepsItsLastGoodSet(t *testing.T) {
	z := startZone(t)
	z.set(t, srvLine("beta.example.org", "7422"))
	g := startSRV(t, z, Self{})
	g.awaitSet("beta-example-org")
	z.set(t)
	g.awaitFault(DNS, "not_found")
	z.breaks("SRV "+service+".", true)
	g.awaitFault(DNS, "network")
	require.Equal(t, []string{"beta-example-org"}, called(g.Peers()))
	z.breaks("SRV "+service+".", false)
	z.set(t, srvLine("", "0")) // the root: nobody
	g.Refresh()
	g.awaitSet()
}

// lookups is a resolver of functions.
type lookups struct {
	srv func() ([]*net.SRV, error)
	txt func() ([]string, error)
}

func (l lookups) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	records, err := l.srv()
	return "", records, err
}

func (l lookups) LookupTXT(context.Context, string) ([]string, error) { return l.txt() }

func TestWhatAResolverLeavesOutIsCounted(t *testing.T) {
	none := func() ([]string, error) { return nil, nil }
	s := newSRV(service, lookups{txt: none, srv: func() ([]*net.SRV, error) {
		return []*net.SRV{{Target: "beta.example.org.", Port: 1}}, errors.New("some names are invalid")
	}})
	a, err := s.list(t.Context())
	require.NoError(t, err)
	require.Len(t, a.peers, 1)
	require.Len(t, a.skips, 1)

	s = newSRV(service, lookups{txt: none, srv: func() ([]*net.SRV, error) { return make([]*net.SRV, maxTargets+1), nil }})
	_, err = s.list(t.Context())
	require.ErrorIs(t, err, ErrTooLarge)

	s = newSRV(service, lookups{
		srv: func() ([]*net.SRV, error) { return []*net.SRV{{Target: "beta.example.org.", Port: 1}}, nil },
		txt: func() ([]string, error) { return nil, context.DeadlineExceeded },
	})
	_, err = s.list(t.Context())
	require.ErrorIs(t, err, ErrUnusable)
}
