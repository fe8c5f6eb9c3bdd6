package ingress

import (
	"context"
	"crypto/ecdsa"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/doortest"
	"millrace/internal/order"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bus is every port of the door: a store in memory whose answers a test can choose.
type bus struct {
	mu       sync.Mutex
	now      time.Time // zero: the present
	stored   []*order.Order
	byID     map[order.ID]uint64
	refusals map[order.ID]*order.Reason
	closed   string
	sick     error
	oldest   map[order.Priority]time.Duration
	publish  func(*order.Order) error // before storing
	hear     func(order.Verdict)
	heard    chan struct{} // closed once hear is set

	// decide is the worker: its verdict is sent when it returns true.
	decide func(*order.Order) (*order.Reason, bool)
	calls  atomic.Int64 // of Publish
	status Status       // nil: there is no index; set before open
}

func newBus() *bus {
	return &bus{
		byID: map[order.ID]uint64{}, refusals: map[order.ID]*order.Reason{},
		oldest: map[order.Priority]time.Duration{}, heard: make(chan struct{}),
		decide: func(*order.Order) (*order.Reason, bool) { return nil, true },
	}
}

func (b *bus) Now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now.IsZero() {
		return time.Now()
	}
	return b.now
}

func (b *bus) Publish(_ context.Context, o *order.Order) (order.Receipt, error) {
	b.calls.Add(1)
	b.mu.Lock()
	publish := b.publish
	b.mu.Unlock()
	if publish != nil {
		if err := publish(o); err != nil {
			return order.Receipt{}, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if seq, ok := b.byID[o.ID]; ok {
		return order.Receipt{Duplicate: true, Sequence: seq}, nil
	}
	kept := *o
	kept.Body = append([]byte(nil), o.Body...)
	b.stored = append(b.stored, &kept)
	b.byID[o.ID] = uint64(len(b.stored))
	if reason, ok := b.decide(&kept); ok && b.hear != nil {
		if reason != nil {
			b.refusals[o.ID] = reason
		}
		b.hear(order.Verdict{Accept: o.Accept, ID: o.ID, Signer: o.Signer, Reason: reason})
	}
	return order.Receipt{Sequence: uint64(len(b.stored))}, nil
}

func (b *bus) Verdicts(ctx context.Context, _ string, f func(order.Verdict)) error {
	b.mu.Lock()
	b.hear = f
	close(b.heard)
	b.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (b *bus) Refusal(_ context.Context, id order.ID) (*order.Reason, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refusals[id], nil
}

func (b *bus) AwaitRefusal(ctx context.Context, id order.ID) (*order.Reason, error) {
	for ctx.Err() == nil {
		if r, _ := b.Refusal(ctx, id); r != nil {
			return r, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
	return nil, nil
}

func (b *bus) Oldest(p order.Priority) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.oldest[p]
}

func (b *bus) DoorClosed() (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed, b.closed != ""
}

func (b *bus) Healthy() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sick
}

// set changes the bus under its lock.
func (b *bus) set(f func(*bus)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

// orders are what was stored so far.
func (b *bus) orders() []*order.Order {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*order.Order(nil), b.stored...)
}

func (b *bus) ports() Ports {
	return Ports{Publisher: b, Verdicts: b, Refusals: b, Backlog: b, Door: b, Clock: b, Health: b, Status: b.status}
}

// door is a running Server with its bus and a client.
type door struct {
	*Server
	t      testing.TB
	bus    *bus
	client *http.Client
	stop   func() error // ends Run and returns its error
}

// testConfig listens on a free port and drains at once.
func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Listen, cfg.DrainDelay = "127.0.0.1:0", 0
	return cfg
}

// open runs a door until the test ends.
func open(tb testing.TB, b *bus, changes ...func(*Config)) *door {
	tb.Helper()
	cfg := testConfig()
	for _, change := range changes {
		change(&cfg)
	}
	s, err := New(cfg, b.ports(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(tb, err)
	d := &door{Server: s, t: tb, bus: b, client: &http.Client{Transport: &http.Transport{}}, stop: doortest.Run(tb, s)}
	tb.Cleanup(func() { d.client.CloseIdleConnections() }) // of the client that it has by then
	<-b.heard
	return d
}

// answer is an HTTP response, read.
type answer struct {
	status int
	body   string
	header http.Header
}

func (d *door) url(path string) string { return "http://" + d.Addr().String() + path }

// send posts body with the given headers ("Name: value").
func (d *door) send(body string, headers ...string) answer {
	d.t.Helper()
	a, err := d.try(d.t.Context(), body, headers...)
	require.NoError(d.t, err)
	return a
}

func (d *door) try(ctx context.Context, body string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url("/"), strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	return d.do(req, headers...)
}

func (d *door) do(req *http.Request, headers ...string) (answer, error) {
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(text), resp.Header}, err
}

// sent posts body signed by key.
func (d *door) sent(key *ecdsa.PrivateKey, body string) answer {
	d.t.Helper()
	return d.send(body, signed(d.t, key, body))
}

func signed(tb testing.TB, key *ecdsa.PrivateKey, body string) string {
	tb.Helper()
	value, err := order.Sign(key, []byte(body))
	require.NoError(tb, err)
	return "X-Flashbots-Signature: " + value
}

// keyOf is the n-th signer of the tests.
func keyOf(n byte) *ecdsa.PrivateKey {
	seed := crypto.Keccak256([]byte{'k', n})
	key, err := crypto.ToECDSA(seed)
	if err != nil {
		panic(err)
	}
	return key
}

// transaction is a signed transaction of the given type and nonce, network-encoded in hex.
func transaction(txType int, nonce uint64) string {
	to := common.Address{1}
	var data types.TxData
	switch txType {
	case types.LegacyTxType:
		data = &types.LegacyTx{Nonce: nonce, GasPrice: big.NewInt(1), Gas: 21000, To: &to}
	case types.AccessListTxType:
		data = &types.AccessListTx{ChainID: big.NewInt(1), Nonce: nonce, GasPrice: big.NewInt(1), Gas: 21000, To: &to}
	case types.BlobTxType: // without its sidecar
		data = &types.BlobTx{ChainID: uint256.NewInt(1), Nonce: nonce, GasTipCap: uint256.NewInt(1), GasFeeCap: uint256.NewInt(1), Gas: 21000, BlobFeeCap: uint256.NewInt(1), BlobHashes: []common.Hash{{1}}}
	case types.SetCodeTxType:
		data = &types.SetCodeTx{ChainID: uint256.NewInt(1), Nonce: nonce, GasTipCap: uint256.NewInt(1), GasFeeCap: uint256.NewInt(1), Gas: 50000, AuthList: []types.SetCodeAuthorization{{}}}
	default:
		data = &types.DynamicFeeTx{ChainID: big.NewInt(1), Nonce: nonce, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1), Gas: 21000, To: &to}
	}
	tx, err := types.SignNewTx(keyOf(200), types.LatestSignerForChainID(big.NewInt(1)), data)
	if err != nil {
		panic(err)
	}
	raw, err := tx.MarshalBinary()
	if err != nil {
		panic(err)
	}
	return hexutil.Encode(raw)
}

func rawTx(nonce uint64) string {
	return `{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["` + transaction(2, nonce) + `"]}`
}

// bundle is an eth_sendBundle request of one transaction with the given extra members.
func bundle(nonce uint64, members string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":["` + transaction(2, nonce) + `"],"blockNumber":"0x10"` + members + `}]}`
}

func cancel(uuid string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":[],"replacementUuid":"` + uuid + `"}]}`
}

const someUUID = "52840671-89dc-484f-80f6-401753513ba9"

// dial opens a plain connection to the door.
func (d *door) dial() net.Conn {
	d.t.Helper()
	return doortest.Dial(d.t, d)
}
