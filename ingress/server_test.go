package ingress

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/certificate/selfsigned"
	"millrace/internal/doortest"
	"millrace/internal/order"
)

func TestNewRefusesFaultyConfigurationAndMissingPorts(t *testing.T) {
	t.Parallel()
	cfg := Config{
		Listen: "nonsense", TrustedProxies: []string{"10.0.0.0/33", "10.0.0.1"}, Dialect: "v3",
		TLS: TLS{Cert: "x"}, RateLimit: RateLimit{Enabled: true}, IPRate: IPRate{Count: 1}, IPBytes: -1,
	}
	_, err := New(cfg, newBus().ports(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorIs(t, err, ErrConfig)
	for _, key := range []string{
		"listen", "trusted_proxies", "dialect", "tls.cert", "rate_limit.count", "ip_rate.window",
		"ip_bytes", "max_body", "gate_queue",
	} {
		require.ErrorContains(t, err, key)
	}
	_, err = New(testConfig(), Ports{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorIs(t, err, ErrPort)
}

func TestFlagDefaultsAreTheDefaultConfiguration(t *testing.T) {
	t.Parallel()
	var cfg Config
	bytes := kong.NamedMapper("bytes", kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		var text string
		if err := ctx.Scan.PopValueInto("bytes", &text); err != nil {
			return err
		}
		for suffix, unit := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
			if n, ok := strings.CutSuffix(text, suffix); ok {
				v, _ := new(big.Int).SetString(n, 10)
				target.SetInt(v.Int64() * unit)
			}
		}
		return nil
	}))
	parser, err := kong.New(&cfg, bytes)
	require.NoError(t, err)
	_, err = parser.Parse(nil)
	require.NoError(t, err)
	want := DefaultConfig()
	require.NoError(t, cfg.Validate(), "cmd sets Orders later")
	cfg.Orders = want.Orders
	require.Equal(t, want, cfg)
}

func TestRunIsForOnce(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	require.ErrorIs(t, d.Run(t.Context()), ErrRunning)
}

func TestRunFailsWhenTheAddressIsTaken(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	cfg := testConfig()
	cfg.Listen = d.Addr().String()
	s, err := New(cfg, newBus().ports(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	require.Error(t, s.Run(t.Context()))
	require.Nil(t, s.Addr())
}

func TestRunEndsWhenVerdictsFail(t *testing.T) {
	t.Parallel()
	b := newBus()
	ports := b.ports()
	ports.Verdicts = failingVerdicts{}
	s, err := New(testConfig(), ports, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	require.ErrorIs(t, s.Run(t.Context()), errNoVerdicts)
}

var errNoVerdicts = errors.New("no verdicts")

type failingVerdicts struct{}

func (failingVerdicts) Verdicts(context.Context, string, func(order.Verdict)) error {
	return errNoVerdicts
}

func TestShutdownTurnsUnreadyThenFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	b := newBus()
	entered, release := make(chan struct{}), make(chan struct{})
	b.publish = func(*order.Order) error { close(entered); <-release; return nil }
	d := open(t, b, func(c *Config) { c.DrainDelay = 200 * time.Millisecond })
	ready := func() int {
		resp, err := d.client.Get(d.url("/readyz"))
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	require.Equal(t, http.StatusOK, ready())
	answers := make(chan answer, 1)
	header := signed(t, keyOf(1), rawTx(1))
	go func() { a, _ := d.try(t.Context(), rawTx(1), header); answers <- a }()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- d.stop() }()
	require.Eventually(t, func() bool { return ready() == http.StatusServiceUnavailable }, 5*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return ready() == 0 }, 5*time.Second, time.Millisecond)
	close(release)
	require.Equal(t, http.StatusOK, (<-answers).status)
	require.NoError(t, <-stopped)
}

func TestReadyzTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := newBus()
	d := open(t, b)
	b.set(func(b *bus) { b.sick = errors.New("store is not connected") })
	resp, err := d.client.Get(d.url("/readyz"))
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "store is not connected", string(text))
}

func TestUnencryptedHTTP2IsSpoken(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	d.client = &http.Client{Transport: transport}
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(1)).status)
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(2)+strings.Repeat(" ", 1<<20)).status)
	a := d.sent(keyOf(1), strings.Repeat(" ", 11<<20))
	require.Equal(t, http.StatusRequestEntityTooLarge, a.status)
}

// writePair writes a self-signed certificate with the given serial number.
func writePair(t *testing.T, dir string, serial int64) (files TLS) {
	t.Helper()
	files.Cert, files.Key = selfsigned.Write(t, dir, serial)
	return files
}

func TestCertificateIsReplacedWithoutARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := writePair(t, dir, 1)
	d := open(t, newBus(), func(c *Config) { c.TLS = files })
	serial, err := doortest.Serial(t, d, tls.VersionTLS13)
	require.NoError(t, err)
	require.Equal(t, int64(1), serial)
	_, err = doortest.Serial(t, d, tls.VersionTLS12)
	require.Error(t, err, "TLS 1.3 only")

	require.NoError(t, os.WriteFile(files.Cert, []byte("half a file"), 0o600))
	d.certificate.Refresh()
	require.Error(t, d.Reload(d.policy.Load().Config))
	serial, err = doortest.Serial(t, d, tls.VersionTLS13)
	require.NoError(t, err)
	require.Equal(t, int64(1), serial, "a bad file keeps the old one")

	writePair(t, dir, 2)
	d.certificate.Refresh()
	serial, err = doortest.Serial(t, d, tls.VersionTLS13)
	require.NoError(t, err)
	require.Equal(t, int64(2), serial)
}

func TestReloadAppliesWhatItCanAndNamesTheRest(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	cfg := d.policy.Load().Config
	cfg.MaxBody, cfg.Listen, cfg.GateQueue, cfg.Orders.MaxAge = 1<<11, "127.0.0.1:1", 7, time.Second
	err := d.Reload(cfg)
	require.ErrorIs(t, err, ErrNeedsRestart)
	require.ErrorContains(t, err, "ingress.listen, ingress.gate_queue, orders.max_age")
	require.Equal(t, int64(1<<11), d.policy.Load().MaxBody)
	require.Equal(t, 1024, d.policy.Load().GateQueue)
	require.Equal(t, http.StatusRequestEntityTooLarge, d.sent(keyOf(1), strings.Repeat(" ", 1<<12)).status)

	cfg.MaxBody = 0
	require.ErrorIs(t, d.Reload(cfg), ErrConfig)
	require.Equal(t, int64(1<<11), d.policy.Load().MaxBody)
}

func TestBuilderStatisticsRaiseAnEntity(t *testing.T) {
	t.Parallel()
	d := open(t, newBus(), func(c *Config) { c.BuilderListen = "127.0.0.1:0" })
	require.NotNil(t, d.BuilderAddr())
	alice := strings.ToLower(crypto.PubkeyToAddress(keyOf(1).PublicKey).Hex())
	bob := crypto.PubkeyToAddress(keyOf(2).PublicKey)
	post := func(body string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.BuilderAddr().String()+"/", strings.NewReader(body))
		require.NoError(t, err)
		a, err := d.do(req)
		require.NoError(t, err)
		return a.status
	}
	stats := `{"passed_tob_simulation_total":10,"included_in_the_block_total":4,"max_block_contribution_pct":1.5}`
	require.Equal(t, http.StatusOK, post(`{"`+alice+`":`+stats+`,"Unknown":`+stats+`,"0x12":{},"Signer(`+bob.Hex()+`)":`+stats+`,"`+alice+`0":7}`))
	for _, signer := range []*ecdsa.PrivateKey{keyOf(1), keyOf(2)} {
		e, ok := d.Server.memory.Load().entities.GetIfPresent(crypto.PubkeyToAddress(signer.PublicKey))
		require.True(t, ok)
		require.Negative(t, e.standing(netip.Addr{}, time.Now()).score)
	}
	require.Equal(t, http.StatusBadRequest, post(`[]`))
	require.Equal(t, http.StatusBadRequest, post(`{"a":`))
	require.Equal(t, http.StatusBadRequest, post(strings.Repeat(" ", builderBodyLimit+1)))

	resp, err := d.client.Get("http://" + d.BuilderAddr().String() + "/health")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestBurstAfterAnIdleSpellCostsNoRequest(t *testing.T) {
	t.Parallel()
	d := open(t, newBus(), func(c *Config) { c.BodyTimeout = 50 * time.Millisecond })
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(0)).status)
	idle := time.NewTimer(150 * time.Millisecond) // longer than any deadline of the request before
	<-idle.C
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(1)).status)
}

func TestBatchElementsAreOrdersOfTheirOwn(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	body := "[" + rawTx(1) + ", " + rawTx(2) + "]"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url("/"), strings.NewReader(body))
	require.NoError(t, err)
	trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	a, err := d.do(req, signed(t, keyOf(1), body), "traceparent: "+trace)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, a.status)
	orders := d.bus.orders()
	require.Len(t, orders, 2)
	digest := crypto.Keccak256Hash([]byte(body)).Hex()[2:]
	require.Equal(t, "0/2:"+digest, orders[0].Batch)
	require.Equal(t, "1/2:"+digest, orders[1].Batch)
	require.Equal(t, rawTx(2), string(orders[1].Body))
	require.Equal(t, trace, orders[1].Traceparent)
	require.NotEqual(t, orders[0].Accept, orders[1].Accept)
}

func TestMalformedTraceparentIsDropped(t *testing.T) {
	t.Parallel()
	require.True(t, isTraceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	for _, s := range []string{"", "x", "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} {
		require.False(t, isTraceparent(s), s)
	}
}

func TestVerdictWaitOfZeroAnswersOnceStored(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.decide = func(*order.Order) (*order.Reason, bool) { return nil, false }
	d := open(t, b, func(c *Config) { c.VerdictWait = 0 })
	a := d.sent(keyOf(1), bundle(1, ""))
	require.Equal(t, http.StatusOK, a.status)
	require.Contains(t, a.body, "receivedTimestampMs")
	require.Zero(t, d.waiters.len())
}
