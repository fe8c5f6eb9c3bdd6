package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
	"millrace/loadtest"
)

// paramsOf is the parameter object of a stored request.
func paramsOf(tb testing.TB, o *order.Order) []byte {
	tb.Helper()
	s, ok := decode(o, order.Limits{})
	require.True(tb, ok)
	return s.Params
}

// FuzzTermsAreTheDomains holds the second reading of a bundle against the domain's: written anew from
// what it read, the bundle has the same public hash and the same ids, which cover every member.
func FuzzTermsAreTheDomains(f *testing.F) {
	for _, o := range append(corpusOrders(f, 6, loadtest.ShapeBundle, loadtest.ShapeReplacement, loadtest.ShapeCancel), everyField(f)) {
		f.Add(paramsOf(f, o))
	}
	f.Add([]byte(`{"txs":["02"],"blockNumber":"0X1f","minTimestamp":null,"revertingTxHashes":null,"uuid":"urn:uuid:550e8400-e29b-41d4-a716-446655440000"}`))
	f.Add([]byte(`{"txs":[[2,3]],"blockNumber":"0x","maxTimestamp":0,"version":"","refundPercent":0,"replacementUuid":null,"replacementNonce":7}`))
	f.Add([]byte(`{"txs":["0x02"],"blockNumber":"0017","version":"v1","delayedRefund":null,"refund\u0050ercent":null,"TXS":[]}`))
	f.Fuzz(func(t *testing.T, params []byte) {
		s, err := order.Decode(order.MethodSendBundle, append(append([]byte{'['}, params...), ']'), order.Limits{})
		if err != nil {
			return
		}
		read, err := readTerms(s.Params)
		require.NoError(t, err)
		again, err := order.Decode(order.MethodSendBundle, rewritten(t, s, &read), order.Limits{})
		require.NoError(t, err)
		nonce := uint64(5)
		if !s.Replacement.IsZero() && read.Nonce != nil {
			nonce = *read.Nonce
			require.Equal(t, nonce, *s.Nonce)
		}
		want, err := s.PublicHash(nonce)
		require.NoError(t, err)
		got, err := again.PublicHash(nonce)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, s.Kind, again.Kind)
		require.Equal(t, s.TargetBlock, again.TargetBlock)
		require.Equal(t, s.MaxTimestamp, again.MaxTimestamp)
		require.Equal(t, s.Replacement, again.Replacement)
	})
}

// rewritten is a bundle in one canonical form.
func rewritten(t *testing.T, s *order.Submission, r *terms) []byte {
	t.Helper()
	m := map[string]any{}
	txs := make([]string, len(s.Txs))
	for i, tx := range s.Txs {
		txs[i] = fmt.Sprintf("0x%x", tx)
	}
	m["txs"] = txs
	hashes := func(name string, hs []hexHash) {
		list := make([]string, len(hs))
		for i := range hs {
			list[i] = fmt.Sprintf("0x%x", hs[i][:])
		}
		if len(hs) > 0 {
			m[name] = list
		}
	}
	hashes("revertingTxHashes", r.Reverting)
	hashes("droppingTxHashes", r.Dropping)
	hashes("refundTxHashes", r.RefundTxs)
	if r.Block != nil {
		m["blockNumber"] = fmt.Sprintf("0x%x", uint64(*r.Block))
	}
	address := func(name string, a *hexAddress) {
		if a != nil {
			m[name] = fmt.Sprintf("0x%x", a[:])
		}
	}
	address("refundRecipient", r.RefundRecipient)
	address("refundIdentity", r.RefundIdentity)
	m["minTimestamp"], m["maxTimestamp"], m["refundPercent"] = r.MinTimestamp, r.MaxTimestamp, r.RefundPercent
	m["delayedRefund"], m["version"], m["replacementNonce"] = r.DelayedRefund, r.Version, r.Nonce
	if !s.Replacement.IsZero() {
		m["uuid"] = s.Replacement.String()
	}
	b, err := json.Marshal([]any{m})
	require.NoError(t, err)
	return b
}

// inMemory returns a writer whose file is in memory, and what reads it.
func inMemory(t *testing.T, dataset string) (w *writer, read func() [][]string) {
	t.Helper()
	var b bytes.Buffer
	w = newWriter(folder{dataset: dataset}, columnsOf(dataset), map[string]string{})
	w.builder, w.file = "n", os.Stdin // not used, but there
	w.w.Reset(&b)
	return w, func() [][]string {
		require.NoError(t, w.w.Close())
		p, err := parquet.OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
		require.NoError(t, err)
		return rowsOf(t, p)
	}
}

// FuzzRows builds rows of whatever the record may hold: an order has its row or a reason why not, and
// the file can be read.
func FuzzRows(f *testing.F) {
	for _, o := range append(corpusOrders(f, 4), everyField(f)) {
		f.Add(uint8(o.Method), o.Body, "")
	}
	f.Add(uint8(order.MethodSendBundle), []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":["0x02"]}]}`), "peer")
	f.Fuzz(func(t *testing.T, method uint8, body []byte, origin string) {
		o := &order.Order{
			Method: order.Method(method), Kind: order.KindBundle, Priority: order.PriorityHigh, ReceivedAt: epoch, Origin: origin, Body: body,
		}
		if s, ok := decode(o, order.Limits{}); ok {
			o.Kind, o.Replacement = s.Kind, s.Replacement
		}
		m := &Message{Sequence: 1, StoredAt: epoch, Order: o}
		for dataset, maker := range map[string]rower{DatasetBundles: &bundles{senders: newSenders()}, DatasetReceipts: receipts{}} {
			w, read := inMemory(t, dataset)
			why, err := maker.rows(m, w)
			require.NoError(t, err)
			rows := read()
			if why != skipNone {
				require.Empty(t, rows)
				continue
			}
			require.Len(t, rows, 1)
			lists(t, dataset, rows[0])
		}
	})
}

// lists checks that the transactions' lists are parallel.
func lists(t *testing.T, dataset string, line []string) {
	t.Helper()
	if dataset != DatasetBundles {
		return
	}
	n := strings.Count(line[1], " ")
	for i, c := range bundleColumns() {
		if strings.HasPrefix(c.name, "transactions.") {
			require.Equal(t, n, strings.Count(line[i], " "), c.name)
		}
	}
}

// FuzzLedgerRows: any batch has a row for each of its records, or none.
func FuzzLedgerRows(f *testing.F) {
	f.Add(fullEntry().AppendTo(nil), "a")
	f.Add(doneMessage(1).Batch, "\xff")
	f.Add([]byte{1}, "")
	f.Fuzz(func(t *testing.T, batch []byte, target string) {
		w, read := inMemory(t, DatasetLedger)
		why, err := terminals{}.rows(&Message{Sequence: 1, StoredAt: epoch, Target: target, Batch: batch}, w)
		require.NoError(t, err)
		es, err := ledger.Decode(batch)
		require.Equal(t, err != nil, why == skipUndecodable)
		require.Len(t, read(), len(es))
	})
}
