package peers

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/certificate/selfsigned"
	"millrace/internal/order"
)

const aTransaction = `{"id":1,"jsonrpc":"2.0","method":"eth_sendRawTransaction","params":["0x01"]}`

const stored = `{"id":1,"jsonrpc":"2.0","result":null}`

func TestWhatIsReceivedHasThePeersNameAndItsClaims(t *testing.T) {
	n := newNetwork()
	d, _ := open(t, n)
	for _, spelling := range []func(string) string{strings.ToLower, strings.ToUpper, func(s string) string { return s }} {
		a := post(t, urlOf(d), keyOf('a'), aTransaction,
			spelling("X-BuilderNet-Priority"), "low", spelling("X-BuilderNet-SentAtUs"), "1729999999000000", spelling("X-Millrace-Repeat"), "1")
		require.JSONEq(t, stored, a.body)
		require.Equal(t, "application/json", a.header.Get("Content-Type"))
	}
	post(t, urlOf(d), keyOf('a'), aTransaction, "X-BuilderNet-Priority", "urgent", "X-BuilderNet-SentAtUs", "-5")
	post(t, urlOf(d), keyOf('f'), aTransaction)
	got := n.received()
	require.Len(t, got, 5)
	keys := map[string]bool{}
	for i, in := range got {
		require.JSONEq(t, aTransaction, string(in.Body))
		require.Equal(t, n.now, in.ArrivedAt)
		keys[in.Key] = true
		if i < 3 {
			require.Equal(t, "alice", in.Peer)
			require.Equal(t, order.PriorityLow, in.Order.Priority)
			require.Equal(t, time.UnixMicro(1729999999000000), in.SentAt)
			require.True(t, in.Redelivered)
			require.Equal(t, order.RightsOrders, in.Rights)
		}
	}
	require.Len(t, keys, 5, "each is an acceptance of its own")
	require.Nil(t, got[3].Order)
	require.Zero(t, got[3].SentAt)
	require.Equal(t, "flashbots", got[4].Peer)
	require.Equal(t, order.RightsAll, got[4].Rights)
	require.InDelta(t, 5, testutil.ToFloat64(d.metrics.outcomes[0]), 0)
}

func TestTheBuilderNetSignatureCountsWhereThereIsOne(t *testing.T) {
	n := newNetwork()
	d, _ := open(t, n)
	s, err := order.Sign(keyOf('a'), []byte(aTransaction))
	require.NoError(t, err)
	require.JSONEq(t, stored, post(t, urlOf(d), keyOf('s'), aTransaction, "x-buildernet-signature", s).body)
	require.Contains(t, post(t, urlOf(d), keyOf('a'), aTransaction, "x-buildernet-signature", "0x").body, "invalid signature provided")
}

func TestPeersComeAndGoWhileItRuns(t *testing.T) {
	n := newNetwork()
	d, _ := open(t, n)
	require.Contains(t, post(t, urlOf(d), keyOf('b'), aTransaction).body, "unknown peers")
	n.mu.Lock()
	delete(n.peers, addressOf('a'))
	n.peers[addressOf('b')] = "bob"
	n.mu.Unlock()
	require.JSONEq(t, stored, post(t, urlOf(d), keyOf('b'), aTransaction).body)
	require.Contains(t, post(t, urlOf(d), keyOf('a'), aTransaction).body, "unknown peers")
	require.Equal(t, "bob", n.received()[0].Peer)
}

func TestASignatureIsOverThisBody(t *testing.T) {
	n := newNetwork()
	d, _ := open(t, n)
	other, err := order.Sign(keyOf('a'), []byte("another"))
	require.NoError(t, err)
	claimed := addressOf('a').Hex()
	forged, err := order.Sign(keyOf('s'), []byte(aTransaction))
	require.NoError(t, err)
	_, forged, _ = strings.Cut(forged, ":")
	for _, s := range []string{other, claimed + ":" + forged, claimed + ":", claimed + ":0x00", "a:b", ":"} {
		a := post(t, urlOf(d), nil, aTransaction, "X-Flashbots-Signature", s)
		require.Equal(t, 200, a.status)
		require.Contains(t, a.body, `"code":-32600,"message":"invalid signature provided`, s)
	}
	require.Empty(t, n.received())
}

func TestWhatIsNotStoredIsToBeSentAgain(t *testing.T) {
	n := newNetwork()
	d, _ := open(t, n)
	for err, text := range map[error]string{
		order.ErrFull: "order store is full", fmt.Errorf("nats at 10.0.0.1: %w", order.ErrUnavailable): "order store is unavailable",
		context.DeadlineExceeded: "order store is unavailable",
	} {
		n.receive = func(context.Context, order.Incoming) error { return err }
		a := post(t, urlOf(d), keyOf('a'), aTransaction)
		require.Equal(t, 503, a.status)
		require.Equal(t, "1", a.header.Get("Retry-After"))
		require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","error":{"code":-32603,"message":"`+text+`"}}`, a.body, "no detail")
	}
	n.receive = func(context.Context, order.Incoming) error { panic("a bug") }
	require.Equal(t, 503, post(t, urlOf(d), keyOf('a'), aTransaction).status)
	n.receive = nil
	require.JSONEq(t, stored, post(t, urlOf(d), keyOf('a'), aTransaction).body)

	n.mu.Lock()
	n.closed = "volume 93 % full"
	n.mu.Unlock()
	a := post(t, urlOf(d), keyOf('a'), aTransaction)
	require.Equal(t, 503, a.status)
	require.Contains(t, a.body, "Disk full: volume 93 % full")
	require.EqualError(t, d.Ready(), "volume 93 % full")
}

func TestBodiesAreBounded(t *testing.T) {
	n := newNetwork()
	d, _ := open(t, n, func(c *Config) { c.MaxBody, c.InflightBytes = 1<<16, 1<<17 })
	size := 1<<16 + bodyRoom
	body := aTransaction + strings.Repeat(" ", size-len(aTransaction))
	require.JSONEq(t, stored, post(t, urlOf(d), keyOf('a'), body).body)
	const tooBig = `{"id":null,"jsonrpc":"2.0","error":{"code":-32600,"message":"request body is too big, max size: 65536"}}`
	require.JSONEq(t, tooBig, post(t, urlOf(d), keyOf('a'), body+" ").body)

	chunked := func(body string) string { // without a length
		s, err := order.Sign(keyOf('a'), []byte(body))
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, urlOf(d), io.MultiReader(strings.NewReader(body)))
		require.NoError(t, err)
		r.Header.Set("X-Flashbots-Signature", s)
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		require.NoError(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return string(b)
	}
	require.JSONEq(t, stored, chunked(aTransaction))
	require.JSONEq(t, stored, chunked(body))
	require.JSONEq(t, tooBig, chunked(body+" "))
	require.Equal(t, int64(1<<17), d.room.left, "all is given back")
}

func TestBytesInFlightAreBounded(t *testing.T) {
	n := newNetwork()
	d, _ := open(t, n, func(c *Config) { c.MaxBody, c.InflightBytes = 1<<10, 1<<10+bodyRoom+1 })
	entered, release := make(chan struct{}), make(chan struct{})
	n.receive = func(context.Context, order.Incoming) error {
		entered <- struct{}{}
		<-release
		return nil
	}
	large := aTransaction + strings.Repeat(" ", 1<<10+bodyRoom-len(aTransaction))
	done := make(chan answer)
	go func() { done <- post(t, urlOf(d), keyOf('a'), large) }() //nolint:testifylint // what fails there leaves no answer here
	<-entered
	a := post(t, urlOf(d), keyOf('a'), large)
	require.Equal(t, 503, a.status)
	require.Contains(t, a.body, "too many bytes of orders in flight")
	close(release)
	require.JSONEq(t, stored, (<-done).body)
}

func TestABodyThatDoesNotComeIsCutOff(t *testing.T) {
	n := newNetwork()
	d, _ := open(t, n, func(c *Config) { c.BodyTimeout = 50 * time.Millisecond })
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	s, err := order.Sign(keyOf('a'), []byte(aTransaction))
	require.NoError(t, err)
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nX-Flashbots-Signature: %s\r\n\r\n{", s)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Contains(t, string(b), "body is truncated, or came too slowly")
	require.Eventually(t, func() bool {
		d.room.mu.Lock()
		defer d.room.mu.Unlock()
		return d.room.left == d.cfg.InflightBytes
	}, soon, time.Millisecond)
}

// Who is not a peer gets his answer without the body being waited for.
func TestAStrangersBodyIsNotRead(t *testing.T) {
	d, _ := open(t, newNetwork())
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nX-Flashbots-Signature: %s:0x00\r\n\r\n", addressOf('s').Hex())
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.True(t, res.Close)
}

func TestManyAtATimeGetTheirOwnAnswers(t *testing.T) {
	n := newNetwork()
	d, _ := open(t, n)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for who := range 8 {
		all.Go(func() {
			for i := range 40 {
				id := fmt.Sprintf(`"%d-%d"`, who, i)
				body := strings.Replace(aTransaction, `"id":1`, `"id":`+id, 1)
				s, _ := order.Sign(keyOf('a'), []byte(body))
				r, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, urlOf(d), strings.NewReader(body))
				r.Header.Set("X-Flashbots-Signature", s)
				res, err := client.Do(r)
				if err != nil {
					panic(err)
				}
				b, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if string(b) != `{"id":`+id+`,"jsonrpc":"2.0","result":null}` {
					panic(string(b))
				}
			}
		})
	}
	all.Wait()
	require.Len(t, n.received(), 320)
}

func TestWhatIsInFlightIsFinishedAtTheEnd(t *testing.T) {
	n := newNetwork()
	d, stop := open(t, n)
	require.ErrorIs(t, d.Run(t.Context()), ErrRunning)
	entered, release := make(chan struct{}), make(chan struct{})
	n.receive = func(context.Context, order.Incoming) error { close(entered); <-release; return nil }
	done := make(chan answer)
	go func() { done <- post(t, urlOf(d), keyOf('a'), aTransaction) }() //nolint:testifylint // what fails there leaves no answer here
	<-entered
	require.NoError(t, d.Ready())
	ended := make(chan error)
	go func() { ended <- stop() }()
	require.Eventually(t, func() bool { return d.Ready() != nil }, soon, time.Millisecond)
	close(release)
	require.JSONEq(t, stored, (<-done).body)
	require.NoError(t, <-ended)
	_, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.Addr().String())
	require.Error(t, err)
}

func TestTheDoorHasACertificateOfItsOwn(t *testing.T) {
	cert, key := selfsigned.Write(t, t.TempDir(), 1)
	d, _ := open(t, newNetwork(), func(c *Config) { c.TLS = TLS{Cert: cert, Key: key} })
	pem, err := os.ReadFile(cert)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}}
	s, err := order.Sign(keyOf('a'), []byte(aTransaction))
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+d.Addr().String(), strings.NewReader(aTransaction))
	require.NoError(t, err)
	r.Header.Set("X-Flashbots-Signature", s)
	res, err := tr.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, uint16(tls.VersionTLS13), res.TLS.Version)

	cfg := DefaultConfig()
	cfg.Listen, cfg.TLS = "127.0.0.1:0", TLS{Cert: filepath.Join(t.TempDir(), "none"), Key: key}
	n := newNetwork()
	broken, err := New(cfg, Ports{Peers: n, Receiver: n, Clock: n}, d.log, prometheus.NewRegistry())
	require.NoError(t, err)
	require.ErrorContains(t, broken.Run(t.Context()), "peers.tls.cert")
}

func TestHealthIsToldWithoutASignature(t *testing.T) {
	d, _ := open(t, newNetwork())
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/": 405, "/other": 404} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, urlOf(d)+path, http.NoBody)
		require.NoError(t, err)
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode, path)
	}
}

func TestConfigReportsEveryFault(t *testing.T) {
	c := Config{Listen: "x", TLS: TLS{Cert: "a"}, FlashbotsSigner: "0x1", DrainDelay: -1, MaxBody: 1 << 10}
	err := c.Validate()
	require.ErrorIs(t, err, ErrConfig)
	for _, text := range []string{"listen", "tls.cert", "flashbots_signer", "max_connections", "inflight_bytes", "body_timeout", "min_body_rate", "store_timeout", "drain_delay"} {
		require.ErrorContains(t, err, text)
	}
	good := DefaultConfig()
	require.NoError(t, good.Validate())
	_, err = New(good, Ports{}, nil, nil)
	require.ErrorIs(t, err, ErrPort)
}

func FuzzTake(f *testing.F) {
	f.Add("0x00:0x00", "high", "1", []byte(aTransaction))
	f.Add(addressOf('a').Hex()+":0x00", "", "-1", []byte(`[`))
	s, err := order.Sign(keyOf('a'), []byte(aTransaction))
	require.NoError(f, err)
	f.Add(s, "x", "9e9", []byte(aTransaction))
	n := newNetwork()
	cfg := DefaultConfig()
	d, err := New(cfg, Ports{Peers: n, Receiver: n, Clock: n}, nil, prometheus.NewRegistry())
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, signature, priority, sent string, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(string(body)))
		r.Header[headerFlashbots], r.Header[headerPriority], r.Header[headerSentAt] = []string{signature}, []string{priority}, []string{sent}
		w := httptest.NewRecorder()
		d.serve(w, r)
		require.Contains(t, []int{200, 503}, w.Code)
		require.Contains(t, w.Body.String(), `"jsonrpc":"2.0"`)
		require.Equal(t, cfg.InflightBytes, d.room.left)
	})
}

func BenchmarkServe(b *testing.B) {
	n := newNetwork()
	n.receive = func(context.Context, order.Incoming) error { return order.Refuse(order.CodeExpired, "not kept") }
	d, err := New(DefaultConfig(), Ports{Peers: n, Receiver: n, Clock: n}, nil, prometheus.NewRegistry())
	require.NoError(b, err)
	body := `{"id":1,"jsonrpc":"2.0","method":"eth_sendRawTransaction","params":["0x` + strings.Repeat("01", 3500) + `"]}`
	s, err := order.Sign(keyOf('a'), []byte(body))
	require.NoError(b, err)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header[headerFlashbots] = []string{s}
		d.serve(httptest.NewRecorder(), r)
	}
}
