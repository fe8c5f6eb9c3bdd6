package peerlink

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/embedded"
	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

const (
	soon   = 30 * time.Second
	tick   = 20 * time.Millisecond
	maxAge = 36 * time.Second
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// logBuffer is a log that a test can read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// identity is a certificate in files.
type identity struct {
	cert, key, pin string
	pair           tls.Certificate
}

// issue writes a certificate for name, valid until end, of an authority (nil: its own).
func issue(tb testing.TB, dir, name string, end time.Time, ca *identity) *identity {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(tb, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: end.Add(-24 * time.Hour), NotAfter: end, IsCA: ca == nil, BasicConstraintsValid: true,
	}
	parent, signer := template, any(k)
	if ca != nil {
		parent, signer = ca.pair.Leaf, ca.pair.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &k.PublicKey, signer)
	require.NoError(tb, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(tb, err)
	id := &identity{cert: filepath.Join(dir, name+".pem"), key: filepath.Join(dir, name+"-key.pem")}
	require.NoError(tb, os.WriteFile(id.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(tb, os.WriteFile(id.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	id.pair, err = tls.LoadX509KeyPair(id.cert, id.key)
	require.NoError(tb, err)
	id.pin = pinOf(id.pair.Leaf)
	return id
}

// node is one operator.
type node struct {
	*natstest.Server
	name  string
	id    *identity
	links *Links
	reg   *prometheus.Registry
	log   *logBuffer
	js    jetstream.JetStream
	dir   string
	stop  func()
}

type nodeOption func(*Config, *node)

// start starts an operator's node with the streams that it exports from.
func start(tb testing.TB, name string, opts ...nodeOption) *node {
	tb.Helper()
	n := &node{name: name, reg: prometheus.NewRegistry(), log: &logBuffer{}}
	n.id, n.dir = issue(tb, tb.TempDir(), name, time.Now().Add(time.Hour), nil), filepath.Join(tb.TempDir(), "nats")
	cfg := Config{
		Operator: name, Listen: "127.0.0.1:0", MaxBytes: 256 << 20, Compression: CompressionS2Fast,
		Ping: 2 * time.Second, MaxAge: maxAge,
	}
	for _, o := range opts {
		o(&cfg, n)
	}
	cfg.TLS.Cert, cfg.TLS.Key = n.id.cert, n.id.key
	var err error
	log := slog.New(slog.NewTextHandler(n.log, nil))
	n.links, err = New(cfg, nil, log, n.reg)
	require.NoError(tb, err)
	n.Server = natstest.Start(tb, natstest.StoreDir(n.dir), natstest.Log(log), natstest.Config(func(c *embedded.Config) { c.Peering = n.links.Peering() }))
	n.js = n.JetStream(tb)
	for _, s := range subjects.Streams(subjects.Options{MaxAge: maxAge, MaxBody: 11 << 20, InMaxBytes: 1 << 30, OKMaxBytes: 1 << 30, LedgerMaxBytes: 1 << 20}) {
		if len(s.Name) > 3 && s.Name[:3] == "OK_" {
			_, err := n.js.CreateOrUpdateStream(tb.Context(), s)
			require.NoError(tb, err)
		}
	}
	require.NoError(tb, n.links.Open(n.Server.Server))
	tb.Cleanup(func() {
		if tb.Failed() {
			text, _ := metricsText(n)
			for _, at := range []string{"/jsz?streams=1&consumers=1&acc=ORDERS", "/jsz?streams=1&consumers=1&acc=PEERS"} {
				rec := httptest.NewRecorder()
				n.Monitor().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, at, nil))
				tb.Log(rec.Body.String())
			}
			tb.Logf("%s: %+v\n%s\n%s", name, n.links.State(), text, n.log)
		}
	})
	n.stop = background(tb, n.links.Run)
	return n
}

// restart starts the node again on what it has stored, as another process.
func (n *node) restart(tb testing.TB) *node {
	tb.Helper()
	n.stop()
	n.Stop()
	return start(tb, n.name, func(_ *Config, now *node) { now.id, now.dir = n.id, n.dir })
}

// url is where the node accepts leafnodes.
func (n *node) url() string { return fmt.Sprintf("tls://127.0.0.1:%d", n.LeafPort()) }

// peer is the node as a peer of others.
func (n *node) peer() Peer { return Peer{Name: n.name, URL: n.url(), Pins: []string{n.id.pin}} }

func (n *node) set(tb testing.TB, peers ...Peer) {
	tb.Helper()
	require.NoError(tb, n.links.Set(tb.Context(), peers))
}

// join makes all of them peers of each other.
func join(tb testing.TB, nodes ...*node) {
	tb.Helper()
	for _, n := range nodes {
		var peers []Peer
		for _, other := range nodes {
			if other != n {
				peers = append(peers, other.peer())
			}
		}
		n.set(tb, peers...)
	}
}

// store puts an order on OK as a worker does.
func (n *node) store(tb testing.TB, c order.Priority, i int, body []byte) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), soon) // a machine that is busy takes its time over megabytes
	defer cancel()
	_, err := n.js.PublishMsg(ctx, n.message(c, i, body))
	require.NoError(tb, err)
}

func (n *node) message(c order.Priority, i int, body []byte) *nats.Msg {
	o := &order.Order{Accept: order.NewAcceptID(time.Now()), Method: order.MethodSendBundle, Kind: order.KindBundle, Priority: c, Nonce: uint64(i)}
	h := subjects.EncodeOrder(o)
	h.Set("Nats-Msg-Id", fmt.Sprintf("%s-%s-%d", n.name, c, i))
	return &nats.Msg{Subject: subjects.OK("", c, 0), Header: h, Data: body}
}

// inbox is what a node has received from a peer.
type inbox struct {
	mu  sync.Mutex
	got []Message
}

func (b *inbox) all() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Message(nil), b.got...)
}

func (b *inbox) count() int { return len(b.all()) }

// nonces are the numbers of the orders, in the order of their arrival.
func (b *inbox) nonces() []uint64 {
	var all []uint64
	for _, m := range b.all() {
		all = append(all, m.Order.Nonce)
	}
	return all
}

// receive collects what comes from a peer until the test ends.
func (n *node) receive(tb testing.TB, peer string, c order.Priority) *inbox {
	tb.Helper()
	b := &inbox{}
	background(tb, func(ctx context.Context) error {
		return n.links.Receive(ctx, peer, c, func(_ context.Context, m Message) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.got = append(b.got, m)
			return nil
		})
	})
	return b
}

func (b *inbox) await(tb testing.TB, n int) {
	tb.Helper()
	require.Eventually(tb, func() bool { return b.count() >= n }, soon, tick)
}

// background runs f until the test ends, or stop is called.
func background(tb testing.TB, f func(context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	tb.Cleanup(stop)
	return stop
}

// upTo are the numbers from 1 to n.
func upTo(n int) []uint64 {
	var all []uint64
	for i := range n {
		all = append(all, uint64(i+1))
	}
	return all
}

// proxy is a network between two nodes that can stop.
type proxy struct {
	l      net.Listener
	target string
	mu     sync.Mutex
	cond   *sync.Cond
	closed bool // nothing passes
	conns  []net.Conn
	wg     sync.WaitGroup
}

func newProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	p := &proxy{l: l, target: target}
	p.cond = sync.NewCond(&p.mu)
	p.wg.Go(p.serve)
	tb.Cleanup(func() {
		_ = l.Close()
		p.pass(true)
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "tls://" + p.l.Addr().String() }

// pass lets everything through, or swallows it without closing anything.
func (p *proxy) pass(open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = !open
	p.cond.Broadcast()
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *proxy) serve() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(in, out) })
		p.wg.Go(func() { p.copy(out, in) })
	}
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		for p.closed {
			p.cond.Wait()
		}
		p.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

var _ io.Writer = (*logBuffer)(nil)

// metricsText is what a scrape of the node shows.
func metricsText(n *node) (string, error) {
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(n.reg, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		return "", fmt.Errorf("status %d", rec.Code)
	}
	return rec.Body.String(), nil
}

func jetstreamPurgeTo(first uint64) jetstream.StreamPurgeOpt {
	return jetstream.WithPurgeSequence(first)
}

// oldestWaiting is the oldest order that the node has seen waiting for a peer; zero: none.
func (n *node) oldestWaiting(peer string, c order.Priority) uint64 {
	n.links.mu.Lock()
	w := n.links.peers[peer].watches[directionServing+c.String()]
	n.links.mu.Unlock()
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.oldest
}
