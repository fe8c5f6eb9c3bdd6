package ingress

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"
)

// statusFunc is Status by a function.
type statusFunc func(ctx context.Context, signer common.Address, hash common.Hash) ([]byte, error)

func (f statusFunc) OrderStatus(ctx context.Context, signer common.Address, hash common.Hash) ([]byte, error) {
	return f(ctx, signer, hash)
}

func statusOf(hash string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"millrace_orderStatus","params":["` + hash + `"]}`
}

// knows answers for one hash of alice's.
func knows(h common.Hash) statusFunc {
	alice := crypto.PubkeyToAddress(keyOf('a').PublicKey)
	return func(_ context.Context, signer common.Address, hash common.Hash) ([]byte, error) {
		if signer != alice || hash != h {
			return nil, nil
		}
		return []byte(`{"orders":[{"status":"delivered"}]}`), nil
	}
}

func TestStatusIsForTheOneWhoSignedTheOrder(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.status = knows(common.Hash{7})
	d := open(t, b)
	ask := statusOf(common.Hash{7}.Hex())
	mine := d.sent(keyOf('a'), ask)
	require.Equal(t, http.StatusOK, mine.status)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":{"orders":[{"status":"delivered"}]}}`, mine.body)
	require.Equal(t, mine.body, d.sent(keyOf('a'), statusOf(strings.Repeat("0", 1)+"7"+strings.Repeat("0", 62))).body, "without 0x")

	theirs := d.sent(keyOf('b'), ask)
	unknown := d.sent(keyOf('b'), statusOf(common.Hash{8}.Hex()))
	require.Equal(t, http.StatusOK, theirs.status)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":null}`, theirs.body)
	require.Equal(t, unknown.body, theirs.body, "another's order and no order look the same")
	require.Equal(t, unknown.status, theirs.status)

	require.Equal(t, http.StatusBadRequest, d.send(ask).status, "unsigned")
	require.Empty(t, b.orders(), "a question is no order")
}

func TestStatusRefusesWhatIsNoHash(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.status = knows(common.Hash{7})
	d := open(t, b)
	for _, params := range []string{`[]`, `["0x"]`, `["0x12"]`, `[7]`, `{}`, `["` + strings.Repeat("zz", 32) + `"]`, `["` + strings.Repeat("00", 32) + `",1]`} {
		body := `{"jsonrpc":"2.0","id":1,"method":"millrace_orderStatus","params":` + params + `}`
		a := d.sent(keyOf('a'), body)
		require.Equal(t, http.StatusBadRequest, a.status, params)
		require.Contains(t, a.body, "-32602", params)
	}
	a := d.sent(keyOf('a'), `{"jsonrpc":"2.0","id":1,"method":"millrace_orderStatus"}`)
	require.Contains(t, a.body, "-32602")
}

func TestStatusWithoutAnIndexIsAMethodThatIsNotThere(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	a := d.sent(keyOf('a'), statusOf(common.Hash{7}.Hex()))
	require.Equal(t, http.StatusNotFound, a.status)
	require.Contains(t, a.body, "-32601")
}

func TestStatusInABatchIsBesideOrders(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.status = knows(common.Hash{7})
	d := open(t, b)
	a := d.sent(keyOf('a'), "["+statusOf(common.Hash{7}.Hex())+","+rawTx(1)+"]")
	require.Equal(t, http.StatusOK, a.status)
	require.Contains(t, a.body, `"delivered"`)
	require.Len(t, b.orders(), 1)
}

func TestStatusThatFailsSaysSo(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.status = statusFunc(func(context.Context, common.Address, common.Hash) ([]byte, error) { return nil, errors.New("detail") })
	d := open(t, b)
	a := d.sent(keyOf('a'), statusOf(common.Hash{7}.Hex()))
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.NotContains(t, a.body, "detail")
	require.Contains(t, a.body, "-32000")
	require.Contains(t, a.body, "Order status unavailable")
}

func TestLookUpsAreFewAtATimeAndCostTheirAddress(t *testing.T) {
	t.Parallel()
	b := newBus()
	entered, leave := make(chan struct{}), make(chan struct{})
	b.status = statusFunc(func(context.Context, common.Address, common.Hash) ([]byte, error) {
		entered <- struct{}{}
		<-leave
		return nil, nil
	})
	d := open(t, b, func(c *Config) { c.RefusalDelay = 0 })
	ask := statusOf(common.Hash{7}.Hex())
	var wg sync.WaitGroup
	for range statusPlaces {
		wg.Go(func() { require.Equal(t, http.StatusOK, d.sent(keyOf('a'), ask).status) })
		<-entered
	}
	require.Equal(t, http.StatusServiceUnavailable, d.sent(keyOf('a'), ask).status)
	require.Equal(t, http.StatusOK, d.sent(keyOf('a'), rawTx(1)).status, "orders go on")
	close(leave)
	wg.Wait()
}

func TestStatusOfALongBatchMeetsTheBudgetOfItsAddress(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.status = knows(common.Hash{7})
	d := open(t, b, func(c *Config) { c.IPRate, c.MaxBatch = IPRate{Window: time.Minute, Count: 100}, 100 })
	calls := make([]string, 50)
	for i := range calls {
		calls[i] = statusOf(common.Hash{7}.Hex())
	}
	a := d.sent(keyOf('a'), "["+strings.Join(calls, ",")+"]")
	n := strings.Count(a.body, `"delivered"`)
	require.Positive(t, n)
	require.LessOrEqual(t, n, 10, fmt.Sprint(n))
	require.Contains(t, a.body, "Rate limited")
}
