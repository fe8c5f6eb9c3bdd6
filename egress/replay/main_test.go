package replay

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/order"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tape is a recording in memory.
type tape []order.Delivery

func (t tape) Record(ctx context.Context, r Range, f func(order.Delivery) error) error {
	for _, d := range t {
		at := d.Order.ReceivedAt
		if d.Sequence < r.From || at.Before(r.Since) || !r.Until.IsZero() && !at.Before(r.Until) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(d); err != nil {
			return err
		}
	}
	return nil
}

// epoch is when the tests' orders were received.
func epoch() time.Time { return time.Date(2026, 11, 20, 21, 0, 0, 0, time.UTC) }

// taped is a recorded order with the given body, signed by a key of the test.
func taped(tb testing.TB, seq uint64, after time.Duration, m order.Method, params string) order.Delivery {
	tb.Helper()
	o := &order.Order{
		Accept: order.NewAcceptID(epoch().Add(after)), Method: m, Kind: order.KindBundle, Priority: order.PriorityMedium,
		Body: fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"%s","params":%s}`, seq, m, params),
	}
	o.ReceivedAt = o.Accept.Received()
	key, err := crypto.ToECDSA(common.LeftPadBytes([]byte{1 + byte(seq%7)}, 32))
	require.NoError(tb, err)
	o.Signer = crypto.PubkeyToAddress(key.PublicKey)
	value, err := order.Sign(key, o.Body)
	require.NoError(tb, err)
	o.Signature = HeaderSignature + ": " + value
	if sub, err := decode(o, 0); err == nil {
		o.Kind, o.Replacement, o.TargetBlock = sub.Kind, sub.Replacement, sub.TargetBlock
		if o.NonceDefaulted = sub.Nonce == nil; !o.NonceDefaulted {
			o.Nonce = *sub.Nonce
		}
		o.ID, o.Key = sub.Identify(o.Signer, o.Nonce, o.NonceDefaulted)
		o.Hash, err = sub.PublicHash(o.Nonce)
		require.NoError(tb, err)
	}
	return order.Delivery{Order: o, Sequence: seq, StoredAt: o.ReceivedAt.Add(time.Millisecond), Deliveries: 1, Size: len(o.Body)}
}

// plain is a bundle without meaning, received after so long.
func plain(tb testing.TB, seq uint64, after time.Duration) order.Delivery {
	tb.Helper()
	return taped(tb, seq, after, order.MethodSendBundle, fmt.Sprintf(`[{"txs":["0x%04x"],"blockNumber":"0x10"}]`, seq))
}

// replacing is a bundle of a replacement key.
func replacing(tb testing.TB, seq uint64, after time.Duration, nonce int) order.Delivery {
	tb.Helper()
	d := taped(tb, seq, after, order.MethodSendBundle, fmt.Sprintf(
		`[{"txs":["0x01"],"blockNumber":"0x10","replacementUuid":"3e8a0c44-1111-4222-8333-444455556666","replacementNonce":%d}]`, nonce))
	d.Order.Signer = common.Address{1}
	return d
}

// shot is one request as a target saw it.
type shot struct {
	at      time.Time
	order   *order.Order
	attempt int
}

// target answers by its function; nil accepts.
type target struct {
	answer func(ctx context.Context, r Request) Answer

	mu    sync.Mutex
	shots []shot
	busy  int
	peak  int
}

func (t *target) Send(ctx context.Context, r Request) Answer {
	t.mu.Lock()
	t.shots = append(t.shots, shot{time.Now(), r.Order, r.Attempt})
	t.busy++
	t.peak = max(t.peak, t.busy)
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.busy--
		t.mu.Unlock()
	}()
	if t.answer == nil {
		return Answer{Outcome: Accepted, Hash: r.Order.Hash}
	}
	return t.answer(ctx, r)
}

// run replays a tape to a target.
func run(tb testing.TB, cfg Config, src Source, to Sender) *Report {
	tb.Helper()
	if cfg.As == 0 {
		cfg.As = AsIngress
	}
	r, err := New(cfg, src, to, lax{})
	require.NoError(tb, err)
	rep, err := r.Run(tb.Context())
	require.NoError(tb, err)
	return rep
}

// lax are rules that let everything pass but the transaction 0xbad0.
type lax struct{}

func (lax) Check(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
	if len(raw) == 2 && raw[0] == 0xba {
		return order.TxInfo{}, order.Refuse(order.CodeChainID, "invalid chain id for signer")
	}
	return order.TxInfo{}, nil
}
