package peers

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const soon = 10 * time.Second

// keyOf is somebody's key: alice's is a's.
func keyOf(who byte) *ecdsa.PrivateKey {
	k, err := crypto.ToECDSA(bytes.Repeat([]byte{who}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

func addressOf(who byte) common.Address { return crypto.PubkeyToAddress(keyOf(who).PublicKey) }

// network is the peers, the clock, and what is received.
type network struct {
	mu       sync.Mutex
	peers    map[common.Address]string
	now      time.Time
	closed   string
	got      []order.Incoming
	builder  []string // what a builder would get
	receive  func(ctx context.Context, in order.Incoming) error
	underway int
}

func newNetwork() *network {
	return &network{peers: map[common.Address]string{addressOf('a'): "alice", addressOf('o'): "ourselves"}, now: time.Unix(1_730_000_000, 0)}
}

func (n *network) BySigner(a common.Address) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name, ok := n.peers[a]
	return name, ok
}

func (n *network) Now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

func (n *network) DoorClosed() (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed, n.closed != ""
}

// Receive does what the real one does, as far as a peer sees it.
func (n *network) Receive(ctx context.Context, in order.Incoming) error {
	in.Body = bytes.Clone(in.Body)
	n.mu.Lock()
	f := n.receive
	n.underway++
	n.mu.Unlock()
	if f != nil {
		if err := f(ctx, in); err != nil {
			return err
		}
	}
	calls, _, rpcErr := jsonrpc.Parse(in.Body, 1)
	if rpcErr != nil {
		return rpcErr
	}
	m, _ := order.ParseRelayedMethod(calls[0].Request.Method)
	sub, err := order.DecodeRelayed(m, calls[0].Request.Params, order.Limits{})
	if err != nil {
		return err
	}
	o := &order.Order{Method: m, Signer: sub.Relayed.Signer, NonceDefaulted: sub.Nonce == nil}
	if sub.Nonce != nil {
		o.Nonce = *sub.Nonce
	}
	if o.Hash, err = sub.PublicHash(o.Nonce); err != nil {
		return err
	}
	body, err := sub.AppendBuilderBody(nil, o)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got = append(n.got, in)
	n.builder = append(n.builder, string(body))
	return nil
}

func (n *network) received() []order.Incoming {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.got
}

// open runs a door until the test ends or stop is called.
func open(tb testing.TB, n *network, change ...func(*Config)) (d *Door, stop func() error) {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.Listen, cfg.DrainDelay, cfg.MaxBody = "127.0.0.1:0", 0, 1<<20
	cfg.Own, cfg.FlashbotsSigner = addressOf('o'), addressOf('f').Hex()
	for _, f := range change {
		f(&cfg)
	}
	d, err := New(cfg, Ports{Peers: n, Receiver: n, Clock: n, Guard: n}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	require.Eventually(tb, func() bool { return d.Addr() != nil }, soon, time.Millisecond)
	var once sync.Once
	stop = func() (err error) {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	tb.Cleanup(func() { require.NoError(tb, stop()) })
	return d, stop
}

type answer struct {
	status int
	header http.Header
	body   string
}

// post sends a body signed by key, nil: by nobody.
func post(tb testing.TB, url string, key *ecdsa.PrivateKey, body string, headers ...string) answer {
	tb.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader([]byte(body)))
	require.NoError(tb, err)
	if key != nil {
		s, err := order.Sign(key, []byte(body))
		require.NoError(tb, err)
		r.Header["X-Flashbots-Signature"] = []string{s}
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header[headers[i]] = []string{headers[i+1]} // as it is spelled
	}
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := tr.RoundTrip(r)
	require.NoError(tb, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(tb, err)
	return answer{res.StatusCode, res.Header, string(b)}
}

func urlOf(d *Door) string { return "http://" + d.Addr().String() }
