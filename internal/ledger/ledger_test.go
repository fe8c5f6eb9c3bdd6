package ledger

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func sample() Entry {
	at := time.UnixMicro(1_790_000_000_123_456)
	return Entry{
		Accept: order.NewAcceptID(at), ID: order.ID{1}, Key: order.ID{2}, Hash: common.Hash{3}, Signer: common.Address{4},
		Replacement: order.UUID{5}, Nonce: 1<<64 - 1, Method: order.MethodSendBundle, Kind: order.KindCancel,
		Priority: order.PriorityLow, Origin: "peer-1", Outcome: Superseded, Of: order.AcceptID{6},
		NonceDefaulted: true, Ambiguous: true, Repeat: true, Sequence: 7, Attempts: 3, Status: 503, RPCCode: -32000,
		StoredAt: at.Add(time.Millisecond), SentAt: at.Add(2 * time.Millisecond), DoneAt: at.Add(3 * time.Millisecond), Text: "grüße",
	}
}

func TestEntryComesBackAsItWas(t *testing.T) {
	a := sample()
	b := Entry{Accept: a.Accept, Outcome: Delivered}
	batch := b.AppendTo(a.AppendTo(nil))
	require.Len(t, batch, 2*EntrySize)
	es, err := Decode(batch)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff([]Entry{a, b}, es))
}

func TestLongTextAndOriginAreCutWhereARuneEnds(t *testing.T) {
	e := Entry{Outcome: Refused, Text: strings.Repeat("ü", 100), Origin: strings.Repeat("o", 20)}
	batch := e.AppendTo(nil)
	require.Len(t, batch, EntrySize)
	es, err := Decode(batch)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("ü", textSize/2), es[0].Text)
	require.Equal(t, strings.Repeat("o", originSize), es[0].Origin)
}

func TestDecodeRefusesWhatIsNoBatch(t *testing.T) {
	_, err := Decode(make([]byte, EntrySize-1))
	require.ErrorIs(t, err, ErrEntry)
	_, err = Decode(make([]byte, EntrySize))
	require.ErrorIs(t, err, ErrEntry)
	es, err := Decode(nil)
	require.NoError(t, err)
	require.Empty(t, es)
}

func FuzzDecode(f *testing.F) {
	e := sample()
	f.Add(e.AppendTo(nil))
	f.Add(e.AppendTo(e.AppendTo(nil)))
	f.Add([]byte{})
	f.Add(make([]byte, EntrySize))
	f.Fuzz(func(t *testing.T, batch []byte) {
		es, err := Decode(batch)
		if err != nil {
			require.ErrorIs(t, err, ErrEntry)
			return
		}
		require.Len(t, es, len(batch)/EntrySize)
		var again []byte
		for i := range es {
			again = es[i].AppendTo(again)
			_, err := json.Marshal(es[i])
			require.NoError(t, err)
		}
		require.Len(t, again, len(batch))
	})
}

func TestReportNamesWhatApplies(t *testing.T) {
	e := sample()
	b, err := json.Marshal(e)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(b, &m))
	require.Equal(t, "superseded", m["outcome"])
	require.Equal(t, e.Of.String(), m["of"])
	require.Equal(t, "eth_sendBundle", m["method"])
	require.Equal(t, "2026-09-21T14:13:20.126456Z", m["done_at"])

	b, err = json.Marshal(Entry{Outcome: Delivered, Method: 1, Kind: 1, Priority: 1})
	require.NoError(t, err)
	for _, absent := range []string{`"of"`, `"code"`, `"replacement_uuid"`, `"sent_at"`, `"origin"`} {
		require.NotContains(t, string(b), absent)
	}
}

func TestOutcomesHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range Outcomes() {
		require.NotContains(t, o.String(), "unknown")
		seen[o.String()] = true
	}
	require.Len(t, seen, int(TargetRemoved))
	require.Equal(t, "unknown_0", Outcome(0).String())
}

func batchOf(outcome Outcome, ids ...order.AcceptID) (b []byte) {
	for _, id := range ids {
		e := Entry{Accept: id, Outcome: outcome}
		b = e.AppendTo(b)
	}
	return b
}

func TestAuditFindsMissingAndSurplusRecords(t *testing.T) {
	good, early, twice, missing, nowhere, both := order.AcceptID{1}, order.AcceptID{2}, order.AcceptID{3},
		order.AcceptID{4}, order.AcceptID{5}, order.AcceptID{6}
	a := NewAudit()
	for _, id := range []order.AcceptID{good, early, twice, missing, nowhere, both} {
		a.Owe(id)
	}
	require.NoError(t, a.Add("a", batchOf(Delivered, good, twice, missing, both)))
	require.NoError(t, a.Add("a", batchOf(Expired, twice)))
	require.NoError(t, a.Add("b", batchOf(Refused, good, twice, both)))
	require.NoError(t, a.Add(AnyTarget, batchOf(Invalid, early, both)))
	require.ErrorIs(t, a.Add("a", []byte{1}), ErrEntry)

	require.Equal(t, []Violation{
		{Accept: twice, Target: "a", Outcomes: []Outcome{Delivered, Expired}},
		{Accept: missing, Target: "b"},
		{Accept: nowhere, Target: AnyTarget},
		{Accept: both, Target: "a", Outcomes: []Outcome{Delivered}},
		{Accept: both, Target: "b", Outcomes: []Outcome{Refused}},
	}, a.Violations("a", "b"))
	require.Equal(t, map[Outcome]int{Delivered: 4, Expired: 1, Refused: 3, Invalid: 2}, a.Counts())
	require.Contains(t, a.Violations("a", "b")[1].String(), "no record for target b")
	require.Contains(t, a.Violations("a", "b")[0].String(), "2 records for target a")
}

func BenchmarkBatchOf64(b *testing.B) {
	e := sample()
	buf := make([]byte, 0, 64*EntrySize)
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		for range 64 {
			buf = e.AppendTo(buf)
		}
	}
}
