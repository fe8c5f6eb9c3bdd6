package export

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/flashbots/go-utils/rpctypes"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// everyType is a transaction of each type, legacy ones with and without a chain id.
func everyType(tb testing.TB) []*types.Transaction {
	tb.Helper()
	key, err := crypto.ToECDSA(bytes.Repeat([]byte{7}, 32))
	require.NoError(tb, err)
	to, one := common.Address{19: 0xaa}, uint256.NewInt(1)
	access := types.AccessList{{Address: to, StorageKeys: []common.Hash{{1}}}}
	author, err := types.SignSetCode(key, types.SetCodeAuthorization{ChainID: *one, Address: to, Nonce: 3})
	require.NoError(tb, err)
	sidecar := &types.BlobTxSidecar{Blobs: []kzg4844.Blob{{1}}, Commitments: []kzg4844.Commitment{{2}}, Proofs: []kzg4844.Proof{{3}}}
	london := types.NewPragueSigner(big.NewInt(1))
	var txs []*types.Transaction
	for _, of := range []struct {
		signer types.Signer
		data   types.TxData
	}{
		{types.HomesteadSigner{}, &types.LegacyTx{Nonce: 1, GasPrice: big.NewInt(1000), Gas: 21000, To: &to, Value: big.NewInt(5)}},
		{types.NewEIP155Signer(big.NewInt(1)), &types.LegacyTx{Nonce: 2, GasPrice: big.NewInt(1001), Gas: 90000, Value: new(big.Int), Data: []byte("create")}},
		{london, &types.AccessListTx{ChainID: big.NewInt(1), Nonce: 3, GasPrice: big.NewInt(1002), Gas: 50000, To: &to, Value: new(big.Int), AccessList: access}},
		{london, &types.DynamicFeeTx{ChainID: big.NewInt(1), Nonce: 4, GasTipCap: big.NewInt(2), GasFeeCap: new(big.Int).Lsh(big.NewInt(1), 127), Gas: 21000, To: &to, Value: new(big.Int).Lsh(big.NewInt(1), 255)}},
		{london, &types.BlobTx{ChainID: one, Nonce: 5, GasTipCap: one, GasFeeCap: one, Gas: 21000, To: to, Value: one, BlobFeeCap: one, BlobHashes: []common.Hash{{1}}, Sidecar: sidecar}},
		{london, &types.SetCodeTx{ChainID: one, Nonce: 6, GasTipCap: one, GasFeeCap: one, Gas: 60000, To: to, Value: one, AuthList: []types.SetCodeAuthorization{author}}},
	} {
		tx, err := types.SignNewTx(key, of.signer, of.data)
		require.NoError(tb, err)
		txs = append(txs, tx)
	}
	return txs
}

// bundleRow exports one order and returns its row by column; nil: it has none.
func bundleRow(t *testing.T, o *order.Order) map[string]string {
	t.Helper()
	return rowOf(t, DatasetBundles, func(f *logs) { f.record(o) })
}

func rowOf(t *testing.T, dataset string, fill func(*logs)) map[string]string {
	t.Helper()
	cfg, from := testConfig(t), newLogs()
	cfg.Datasets = []string{dataset}
	fill(from)
	export(t, cfg, from)
	names := files(t, cfg, dataset)
	require.Len(t, names, 1)
	rows := cells(t, filepath.Join(cfg.Out, dataset, names[0]))
	if len(rows) == 0 {
		return nil
	}
	require.Len(t, rows, 1)
	by := map[string]string{}
	for i, c := range columnsOf(dataset) {
		by[c.name] = rows[0][i]
	}
	return by
}

// little is n as the tables have it.
func little(n *big.Int, size int) string {
	b := n.FillBytes(make([]byte, size))
	for i, j := 0, size-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return hex.EncodeToString(b)
}

func TestABundleRowHasWhatTheSenderWrote(t *testing.T) {
	o := everyField(t)
	got := bundleRow(t, o)
	word := func(n uint64) string { return fmt.Sprintf("%064x", n) }
	for name, want := range map[string]string{
		"received_at":  fmt.Sprint(o.ReceivedAt.UnixMicro()),
		"block_number": "20000000", "min_timestamp": "1700000000", "max_timestamp": "1800000000",
		"reverting_tx_hashes": word(9) + " " + word(3), "dropping_tx_hashes": word(4), "refund_tx_hashes": word(5),
		"replacement_uuid": "550e8400e29b41d4a716446655440000", "replacement_nonce": "18446744073709551615",
		"refund_percent": "90", "refund_recipient": strings.Repeat("ab", 20), "delayed_refund": "true",
		"refund_identity": strings.Repeat("cd", 20), "signer_address": "ee" + strings.Repeat("00", 19),
		"hash": hex.EncodeToString(o.Hash[:]), "builder_name": hex.EncodeToString([]byte("node_1")), "version": "2",
	} {
		require.Equal(t, want, got[name], name)
	}
	txs := everyType(t)
	key, err := crypto.ToECDSA(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	from := crypto.PubkeyToAddress(key.PublicKey)
	columns := map[string][]string{}
	add := func(name, value string) { columns[name] = append(columns[name], value) }
	const a = "00000000000000000000000000000000000000aa"
	fee := func(n *big.Int) string { return little(n, 16) }
	for i, tx := range txs {
		add("hash", hex.EncodeToString(tx.Hash().Bytes()))
		add("from", hex.EncodeToString(from[:]))
		add("nonce", fmt.Sprint(i+1))
		v, r, s := tx.RawSignatureValues()
		add("r", little(r, 32))
		add("s", little(s, 32))
		bit := v.Uint64()
		add("v", fmt.Sprint(map[int]uint64{0: bit - 27, 1: bit - 37}[i]+map[bool]uint64{true: bit}[i > 1]))
		add("to", []string{a, "null", a, a, a, a}[i])
		add("gas", []string{"21000", "90000", "50000", "21000", "21000", "60000"}[i])
		add("type", []string{"0", "0", "1", "2", "3", "4"}[i])
		add("value", little(tx.Value(), 32))
		add("gasPrice", []string{fee(big.NewInt(1000)), fee(big.NewInt(1001)), fee(big.NewInt(1002)), "null", "null", "null"}[i])
		huge := new(big.Int).Lsh(big.NewInt(1), 127)
		add("maxFeePerGas", []string{"null", "null", fee(big.NewInt(1002)), fee(huge), fee(big.NewInt(1)), fee(big.NewInt(1))}[i])
		add("maxPriorityFeePerGas", []string{"null", "null", "null", fee(big.NewInt(2)), fee(big.NewInt(1)), fee(big.NewInt(1))}[i])
		access, err := rlp.EncodeToBytes(tx.AccessList())
		require.NoError(t, err)
		add("accessList", []string{"null", "null", hex.EncodeToString(access), "null", "null", "null"}[i])
		authors, err := rlp.EncodeToBytes(tx.SetCodeAuthorizations())
		require.NoError(t, err)
		add("authorizationList", []string{"null", "null", "null", "null", "null", hex.EncodeToString(authors)}[i])
		raw, err := tx.WithoutBlobTxSidecar().MarshalBinary()
		require.NoError(t, err)
		add("raw", hex.EncodeToString(raw))
	}
	for name, want := range columns {
		require.Equal(t, strings.Join(want, " "), got["transactions."+name], name)
	}
	require.Equal(t, " "+hex.EncodeToString([]byte("create"))+"    ", got["transactions.input"])
}

func TestACancelRowNamesWhatItCancels(t *testing.T) {
	const uuid = "550e8400-e29b-41d4-a716-446655440000"
	for method, params := range map[order.Method]string{
		order.MethodSendBundle:   `{"replacementUuid":"` + uuid + `","blockNumber":"0x10","minTimestamp":5,"revertingTxHashes":["` + strings.Repeat("11", 32) + `"],"txs":[],"version":"v9"}`,
		order.MethodCancelBundle: `{"replacementUuid":"` + uuid + `","version":{}}`,
	} {
		body := `{"jsonrpc":"2.0","id":1,"method":"` + method.String() + `","params":[` + params + `]}`
		o := accept(t, method, []byte(body), epoch)
		got := bundleRow(t, o)
		for name, want := range map[string]string{
			"transactions.hash": "null", "transactions.raw": "null", "block_number": "0", "min_timestamp": "null",
			"reverting_tx_hashes": "null", "replacement_uuid": strings.ReplaceAll(uuid, "-", ""),
			"internal_uuid": strings.ReplaceAll(uuid, "-", ""), "replacement_nonce": fmt.Sprint(o.Nonce), "version": "2",
		} {
			require.Equal(t, want, got[name], "%s: %s", method, name)
		}
	}
}

func TestWhatHasNoFormHasNoRow(t *testing.T) {
	cfg, from := testConfig(t), newLogs()
	send := func(m order.Method, params string) {
		from.record(&order.Order{Method: m, Kind: order.KindBundle, ReceivedAt: epoch, Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"` + m.String() + `","params":[` + params + `]}`)})
	}
	send(order.MethodSendRawTransaction, `"0x02"`)
	send(order.MethodSendShareBundle, `{}`)
	send(order.MethodSendBundle, `{"txs":["0x02"]}`)
	send(order.MethodSendBundle, `{"txs":7}`)
	from.record(&order.Order{Method: order.MethodSendBundle, Body: []byte(`nonsense`)})
	from.record(nil)
	rep := export(t, cfg, from)
	require.Equal(t, map[string]int64{"other_kind": 2, "undecodable": 3, "void": 1}, rep.Datasets[0].Skipped)
	require.Equal(t, uint64(6), rep.Datasets[0].Position)
	require.Zero(t, rep.Rows())
}

func TestAReceiptRowNamesBothBuilders(t *testing.T) {
	o := everyField(t)
	o.Origin, o.Priority = "peer-2", order.PriorityLow
	require.Nil(t, bundleRow(t, o))
	got := rowOf(t, DatasetReceipts, func(f *logs) { f.record(o) })
	require.Equal(t, map[string]string{
		"bundle_hash": hex.EncodeToString(o.Hash[:]), "double_bundle_hash": hex.EncodeToString(crypto.Keccak256(o.Hash[:])),
		"sent_at": "null", "received_at": fmt.Sprint(o.ReceivedAt.UnixMicro()), "dst_builder_name": hex.EncodeToString([]byte("node_1")),
		"src_builder_name": hex.EncodeToString([]byte("peer_2")), "payload_size": fmt.Sprint(len(o.Body)), "priority": "2",
	}, got)
	o.Kind = order.KindTransaction
	require.Nil(t, rowOf(t, DatasetReceipts, func(f *logs) { f.record(o) }))
}

// fullEntry is a terminal record with every field.
func fullEntry() *ledger.Entry {
	return &ledger.Entry{
		Accept: order.NewAcceptID(epoch), ID: order.ID{1}, Key: order.ID{2}, Hash: common.Hash{3}, Signer: common.Address{4},
		Replacement: order.UUID{5}, Nonce: 6, Method: order.MethodSendBundle, Kind: order.KindBundle, Priority: order.PriorityMedium,
		Origin: "peer-1", Outcome: ledger.Superseded, Of: order.AcceptID{8}, NonceDefaulted: true, Ambiguous: true, Repeat: true,
		Sequence: 9, Attempts: 10, Status: 503, RPCCode: -32000, StoredAt: epoch, SentAt: epoch.Add(time.Millisecond),
		DoneAt: epoch.Add(time.Second), Text: "too \xff late",
	}
}

func TestALedgerRowHasTheRecordsFields(t *testing.T) {
	e := fullEntry()
	row := func(e *ledger.Entry) map[string]string {
		return rowOf(t, DatasetLedger, func(f *logs) {
			f.messages[LogRejected] = []*Message{{Sequence: 3, StoredAt: epoch, Target: "a", Batch: e.AppendTo(nil)}}
		})
	}
	str := func(s string) string { return hex.EncodeToString([]byte(s)) }
	at := func(t time.Time) string { return fmt.Sprint(t.UnixMicro()) }
	require.Equal(t, map[string]string{
		"accept": hex.EncodeToString(e.Accept[:]), "id": "01" + strings.Repeat("0", 62), "key": "02" + strings.Repeat("0", 62),
		"hash": "03" + strings.Repeat("0", 62), "signer": "04" + strings.Repeat("0", 38), "target": str("a"),
		"outcome": str("superseded"), "method": str("eth_sendBundle"), "kind": str("bundle"), "priority": str("medium"),
		"origin": str("peer-1"), "replacement_uuid": "05" + strings.Repeat("0", 30), "replacement_nonce": "6", "nonce_defaulted": "true",
		"code": "null", "of": "08" + strings.Repeat("0", 30), "ambiguous": "true", "repeat": "true", "sequence": "9", "attempts": "10",
		"http_status": "503", "rpc_code": "-32000", "received_at": at(epoch), "stored_at": at(epoch), "sent_at": at(e.SentAt),
		"done_at": at(e.DoneAt), "recorded_at": at(epoch), "text": str("too \ufffd late"),
	}, row(e))

	got := row(&ledger.Entry{Accept: order.NewAcceptID(epoch), Outcome: ledger.Invalid, Code: order.CodeMalformed})
	require.Equal(t, str(order.CodeMalformed.String()), got["code"])
	for _, c := range ledgerColumns() {
		if c.nullable && c.name != "code" {
			require.Equal(t, "null", got[c.name], c.name)
		}
	}
}

// The ids are those that go-utils and, by its test vectors, rbuilder compute.
func TestInternalUUIDIsRbuilders(t *testing.T) {
	o := everyField(t)
	var req struct{ Params []json.RawMessage }
	require.NoError(t, json.Unmarshal(o.Body, &req))
	var fields map[string]any
	require.NoError(t, json.Unmarshal(req.Params[0], &fields))
	delete(fields, "uuid")
	delete(fields, "replacementNonce")
	txs := fields["txs"].([]any)
	without := func(names ...string) func(map[string]any) {
		return func(m map[string]any) {
			for _, n := range names {
				delete(m, n)
			}
		}
	}
	refund := []string{"refundPercent", "refundRecipient", "refundTxHashes", "delayedRefund"}
	for name, change := range map[string]func(map[string]any){
		"all":               func(map[string]any) {},
		"no refund":         without(refund...),
		"default recipient": without("refundRecipient"),
		"default refunded":  without("refundTxHashes"),
		"zero percent":      func(m map[string]any) { m["refundPercent"] = 0 },
		"no bounds":         without("blockNumber", "minTimestamp", "maxTimestamp", "revertingTxHashes", "droppingTxHashes"),
		"first version":     func(m map[string]any) { m["version"] = "v1"; without(append(refund, "droppingTxHashes")...)(m) },
		"first, without block": func(m map[string]any) {
			m["version"] = "v1"
			without(append(refund, "droppingTxHashes", "blockNumber")...)(m)
		},
	} {
		m := maps.Clone(fields)
		m["txs"] = txs[1:4] // as go-utils takes them: for their chain, without sidecars
		change(m)
		params, err := json.Marshal(m)
		require.NoError(t, err)
		var args rpctypes.EthSendBundleArgs
		require.NoError(t, json.Unmarshal(params, &args), name)
		_, want, err := args.Validate()
		require.NoError(t, err, name)
		got := bundleRow(t, accept(t, order.MethodSendBundle, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[%s]}`, params), epoch))
		require.Equal(t, strings.ReplaceAll(want.String(), "-", ""), got["internal_uuid"], name)
	}
}

func TestSendersForgetsTheOldestGeneration(t *testing.T) {
	c := newSenders()
	tx := everyType(t)[3]
	want, err := c.of(tx)
	require.NoError(t, err)
	for i := range uint64(2 * cacheSize) {
		var h common.Hash
		binary.BigEndian.PutUint64(h[:], i)
		if len(c.young) >= cacheSize {
			c.young, c.old = map[common.Hash]common.Address{}, c.young
		}
		c.young[h] = common.Address{}
	}
	got, err := c.of(tx)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.LessOrEqual(t, len(c.young)+len(c.old), 2*cacheSize)
}

func TestFilesHaveTheRightsOfAGroup(t *testing.T) {
	cfg, from := testConfig(t), newLogs()
	from.done(1)
	export(t, cfg, from)
	st, err := os.Stat(filepath.Join(cfg.Out, DatasetLedger, files(t, cfg, DatasetLedger)[0]))
	require.NoError(t, err)
	require.Zero(t, st.Mode().Perm()&0o007)
}
