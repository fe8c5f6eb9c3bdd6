package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func TestALineOfARecordingHasEverythingThatAReplayNeeds(t *testing.T) {
	d := replacing(t, 7, time.Second, 3)
	d.Order.Origin, d.Order.Batch, d.Order.ShareNonce, d.Order.TargetBlock = "north", "0/1:aa", 2, 16
	d.Order.Body = []byte("{\n\"not\": \"normal\"}\xff")
	d.Size = len(d.Order.Body)
	line := AppendLine([]byte("x"), &d)
	require.Equal(t, 1, bytes.Count(line, []byte("\n")), "one line, whatever the sender wrote")
	require.True(t, json.Valid(line[1:]))
	got, err := ParseLine(line[1:])
	require.NoError(t, err)
	require.True(t, d.Order.ReceivedAt.Equal(got.Order.ReceivedAt))
	require.True(t, d.StoredAt.Equal(got.StoredAt))
	d.Order.Key, d.StoredAt, d.Order.ReceivedAt = order.ID{}, got.StoredAt, got.Order.ReceivedAt
	require.Equal(t, d, got)
}

func TestALineThatIsNoOrderIsRefused(t *testing.T) {
	good := string(AppendLine(nil, new(plain(t, 1, 0))))
	for _, change := range [][2]string{
		{`"method":"eth_sendBundle"`, `"method":"eth_call"`},
		{`"priority":"medium"`, `"priority":"urgent"`},
		{`"kind":"bundle"`, `"kind":"unknown_0"`},
		{`"accept":"`, `"accept":"00`},
		{`"id":"`, `"id":"zz`},
		{`"accept":"00`, `"accept":"ff`},
		{`"body":"`, `"replacement":"3e8a0c44","body":"`},
		{`{`, `[`},
	} {
		bad := bytes.Replace([]byte(good), []byte(change[0]), []byte(change[1]), 1)
		_, err := ParseLine(bad)
		require.ErrorIs(t, err, ErrLine, string(bad))
	}
	_, err := ParseLine(nil)
	require.ErrorIs(t, err, ErrLine)
}

func FuzzParseLine(f *testing.F) {
	f.Add(AppendLine(nil, new(plain(f, 1, 0))))
	f.Add(AppendLine(nil, new(replacing(f, 2, time.Second, 3))))
	f.Add([]byte(`{"sequence":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		d, err := ParseLine(line)
		if err != nil {
			require.ErrorIs(t, err, ErrLine)
			return
		}
		again, err := ParseLine(AppendLine(nil, &d))
		require.NoError(t, err)
		require.Equal(t, d.Order, again.Order)
		require.Equal(t, d.Sequence, again.Sequence)
	})
}

func TestShiftMovesTimesAndBlocksAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		method     order.Method
		in, out    string
		by, blocks int64
	}{
		{order.MethodSendBundle, `[{"minTimestamp": 100 ,"maxTimestamp":200,"blockNumber":"0x10","x":1}]`, `[{"minTimestamp": 110 ,"maxTimestamp":210,"blockNumber":"0x12","x":1}]`, 10, 2},
		{order.MethodSendBundle, `[{"minTimestamp":0,"maxTimestamp":null,"blockNumber":"0x0"}]`, `[{"minTimestamp":0,"maxTimestamp":null,"blockNumber":"0x0"}]`, 10, 2},
		{order.MethodSendBundle, `[{"maxTimestamp":5,"blockNumber":17}]`, `[{"maxTimestamp":1,"blockNumber":16}]`, -10, -1},
		{order.MethodSendBundle, `[{"maxTimestamp":18446744073709551615,"blockNumber":"17"}]`, `[{"maxTimestamp":18446744073709551615,"blockNumber":"18"}]`, 10, 1},
		{order.MethodSendBundle, `[{"txs":[{"maxTimestamp":5}],"max\u0054imestamp":5}]`, `[{"txs":[{"maxTimestamp":5}],"max\u0054imestamp":15}]`, 10, 1},
		{order.MethodSendBundle, `[{"blockNumber":"0x1\u0030"}]`, `[{"blockNumber":"0x11"}]`, 10, 1},
		{order.MethodSendBundle, `[{"maxTimestamp":5},{"maxTimestamp":5}]`, `[{"maxTimestamp":15},{"maxTimestamp":5}]`, 10, 1},
		{order.MethodSendBundle, `[{"maxTimestamp":5}]`, `[{"maxTimestamp":5}]`, 0, 1},
		{order.MethodSendPrivateTransaction, `[{"tx":"0x01","maxBlockNumber":"0xff","maxTimestamp":1}]`, `[{"tx":"0x01","maxBlockNumber":"0x101","maxTimestamp":1}]`, 10, 2},
		{
			order.MethodSendShareBundle,
			`[{"inclusion":{"block":"0x1","maxBlock":"0x2"},"body":[{"tx":"0x"},{"bundle":{"inclusion":{"block":"0x1"}}}],"blockNumber":"0x1"}]`,
			`[{"inclusion":{"block":"0x3","maxBlock":"0x4"},"body":[{"tx":"0x"},{"bundle":{"inclusion":{"block":"0x3"}}}],"blockNumber":"0x1"}]`, 10, 2,
		},
		{order.MethodSendRawTransaction, `["0x01"]`, `["0x01"]`, 10, 2},
		{order.MethodCancelBundle, `[{"replacementUuid":"x"}]`, `[{"replacementUuid":"x"}]`, 10, 2},
	} {
		frame := func(params string) []byte {
			return fmt.Appendf(nil, `{"id": 1,"jsonrpc":"2.0","method":"%s","params":%s}`, c.method, params)
		}
		got, err := shift{c.by, c.blocks}.apply(c.method, frame(c.in))
		require.NoError(t, err)
		require.Equal(t, string(frame(c.out)), string(got))
	}
	for _, bad := range []string{``, `[]`, `{"params":`, `{"params":[{"maxTimestamp"`} {
		_, err := shift{1, 1}.apply(order.MethodSendBundle, []byte(bad))
		require.ErrorIs(t, err, errShift, bad)
	}
}

func FuzzShift(f *testing.F) {
	f.Add(uint8(order.MethodSendBundle), []byte(`{"params":[{"maxTimestamp":100,"blockNumber":"0x1"}]}`), int64(12), int64(1))
	f.Add(uint8(order.MethodSendShareBundle), []byte(`{"params":[{"inclusion":{"block":"0x1"},"body":[{"bundle":{"inclusion":{}}}]}]}`), int64(-12), int64(-1))
	f.Fuzz(func(t *testing.T, method uint8, body []byte, by, blocks int64) {
		before := bytes.Clone(body)
		out, err := shift{by, blocks}.apply(order.Method(method), body)
		require.Equal(t, before, body)
		if err != nil {
			return
		}
		same, err := shift{}.apply(order.Method(method), body)
		require.NoError(t, err)
		require.Equal(t, body, same)
		require.Equal(t, json.Valid(body), json.Valid(out), "%s -> %s", body, out)
	})
}

func TestFiltersOfOneKeyAreAlternativesOfSeveralConditions(t *testing.T) {
	tx := types.NewTx(&types.LegacyTx{Nonce: 1, To: &common.Address{1}})
	raw, err := tx.MarshalBinary()
	require.NoError(t, err)
	d := taped(t, 1, 0, order.MethodSendBundle, fmt.Sprintf(`[{"txs":["0x01","0x%x"],"blockNumber":"0x1"}]`, raw))
	o := d.Order
	single := &order.Order{Kind: order.KindTransaction, Hash: tx.Hash(), Method: order.MethodSendRawTransaction, Priority: order.PriorityHigh}
	for _, c := range []struct {
		filters []string
		match   bool
	}{
		{nil, true},
		{[]string{"method=eth_sendBundle"}, true},
		{[]string{"method=mev_sendBundle"}, false},
		{[]string{"method=mev_sendBundle", "method=eth_sendBundle"}, true},
		{[]string{"method=eth_sendBundle", "priority=high"}, false},
		{[]string{"priority=medium", "signer=" + o.Signer.Hex()}, true},
		{[]string{"signer=0x" + common.Bytes2Hex(make([]byte, 20))}, false},
		{[]string{"hash=" + o.Hash.Hex()}, true},
		{[]string{"hash=" + common.Hash{}.Hex()}, false},
		{[]string{"id=" + o.ID.String()}, true},
		{[]string{"id=" + o.Accept.String()}, true},
		{[]string{"id=" + order.ID{}.String()}, false},
		{[]string{"tx=" + tx.Hash().Hex()}, true},
		{[]string{"tx=" + common.Hash{}.Hex()}, false},
	} {
		var f Filters
		for _, text := range c.filters {
			require.NoError(t, f.Add(text))
		}
		require.Equal(t, c.match, f.Match(o), "%v", c.filters)
	}
	var f Filters
	require.NoError(t, f.Add("tx="+tx.Hash().Hex()))
	require.True(t, f.Match(single))
	o.Body = []byte("nonsense")
	require.False(t, f.Match(o))
	for _, bad := range []string{"", "method", "method=eth_call", "priority=urgent", "signer=0x01", "hash=zz", "id=0x01", "block=0x0102"} {
		require.ErrorIs(t, f.Add(bad), ErrConfig, bad)
	}
}
