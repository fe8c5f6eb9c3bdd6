package signers

import (
	"context"
	"log/slog"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/order"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testChain  = 1
	testSecret = "a secret that workers share"
)

// now is after Osaka on mainnet.
var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// countingRules names a transaction by keccak and its sender by the first bytes, and counts.
type countingRules struct {
	calls  atomic.Int64
	warmed atomic.Int64
	refuse *order.Reason
}

func (r *countingRules) Warm() { r.warmed.Add(1) }

func (r *countingRules) Check(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
	r.calls.Add(1)
	if r.refuse != nil {
		return order.TxInfo{}, r.refuse
	}
	return truth(raw), nil
}

func truth(raw []byte) order.TxInfo {
	return order.TxInfo{Hash: crypto.Keccak256Hash(raw), From: common.BytesToAddress(raw)}
}

// wire hands batches to f, as a bus would: a copy each.
type wire func(batch []byte) error

func (w wire) BroadcastSigners(_ context.Context, b []byte) error {
	return w(append([]byte(nil), b...))
}

// nowhere is a Broadcaster without listeners.
var nowhere = wire(func([]byte) error { return nil })

func config() Config { return Config{Size: 1000, TTL: 36 * time.Second} }

func sharing() Config {
	c := config()
	c.Secret = testSecret
	return c
}

func newCache(tb testing.TB, cfg Config, rules Rules, out Broadcaster) *Cache {
	tb.Helper()
	c, err := New(cfg, testChain, rules, out, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(tb, err)
	return c
}

// run runs c until the test ends.
func run(t *testing.T, c *Cache) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// told returns a batch of another process that holds the secret, and what it claims for raw.
func told(id byte, sequence uint64, raw []byte, tx order.TxInfo) []byte {
	r := record{key: keyOf(raw, order.KindBundle, forksOf(testChain).at(now)), tx: tx}
	return appendBatch(nil, originID{id}, sequence, []record{r}, newSealer([]byte(testSecret), testChain))
}

func transfer(tb testing.TB, nonce uint64) []byte {
	tb.Helper()
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("signers test")))
	require.NoError(tb, err)
	tx, err := types.SignNewTx(k, types.LatestSignerForChainID(big.NewInt(testChain)), &types.DynamicFeeTx{
		ChainID: big.NewInt(testChain), Nonce: nonce, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9),
		Gas: 21000, To: &common.Address{1}, Value: big.NewInt(1),
	})
	require.NoError(tb, err)
	raw, err := tx.MarshalBinary()
	require.NoError(tb, err)
	return raw
}
