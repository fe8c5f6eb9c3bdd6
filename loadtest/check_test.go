package loadtest

import (
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func tagged(seq uint64) Tag { return Tag{Run: 1, Seq: seq} }

// run is a run of one order in which every promise was kept; each test breaks one.
type run struct {
	sent     []Result
	receipts []Receipt
	records  []Record
	want     Expect
}

func goodRun() run {
	return run{
		sent:     []Result{{Tag: tagged(1), Shape: ShapeBundle, Answer: AnswerAccepted, Hash: common.Hash{1}}},
		receipts: []Receipt{{Tag: tagged(1), Tagged: true, Hash: common.Hash{1}, Status: 200}},
		records:  []Record{{Accept: "a", Hash: common.Hash{1}, Target: "builder", Outcome: "delivered"}},
		want:     Expect{Targets: []string{"builder"}},
	}
}

func (r run) check() *Verification { return Check(r.sent, r.receipts, r.records, r.want) }

func TestCheckFindsEachBrokenPromise(t *testing.T) {
	repeat := Receipt{Tag: tagged(1), Tagged: true, Hash: common.Hash{1}, Status: 200, Repeat: true}
	for name, c := range map[string]struct {
		spoil func(*run)
		want  []Break
	}{
		"nothing":      {func(*run) {}, nil},
		"lost":         {func(r *run) { r.records, r.receipts = nil, nil }, []Break{BreakLost}},
		"no record":    {func(r *run) { r.records = nil }, []Break{BreakLost}},
		"other target": {func(r *run) { r.want.Targets = []string{"builder", "second"} }, []Break{BreakLost}},
		"any target":   {func(r *run) { r.records[0].Target, r.records[0].Outcome, r.receipts = AnyTarget, "invalid", nil }, nil},
		"two records":  {func(r *run) { r.records = append(r.records, r.records[0]) }, []Break{BreakTwoRecords}},
		"both kinds": {func(r *run) {
			r.records = append(r.records, Record{Accept: "a", Hash: common.Hash{1}, Target: AnyTarget})
		}, []Break{BreakTwoRecords}},
		"two acceptances": {func(r *run) {
			r.records = append(r.records, Record{Accept: "b", Hash: common.Hash{1}, Target: "builder", Outcome: "duplicate"})
		}, nil},
		"not received":          {func(r *run) { r.receipts = nil }, []Break{BreakNoReceipt}},
		"received all the same": {func(r *run) { r.records[0].Outcome = "expired" }, []Break{BreakNotRecorded}},
		"ambiguous":             {func(r *run) { r.records[0].Outcome, r.records[0].Ambiguous = "expired", true }, nil},
		"superseded, no kill":   {func(r *run) { r.records[0].Outcome = "superseded" }, []Break{BreakNotRecorded}},
		"superseded, a kill":    {func(r *run) { r.records[0].Outcome, r.want.Window = "superseded", 1 }, nil},
		"expired":               {func(r *run) { r.records[0].Outcome, r.receipts = "expired", nil }, nil},
		"failed before": {func(r *run) {
			r.receipts = append([]Receipt{{Tag: tagged(1), Tagged: true, Status: 500}}, r.receipts...)
		}, nil},
		"twice":           {func(r *run) { r.receipts = append(r.receipts, r.receipts[0]); r.want.Window = 1 }, []Break{BreakTwice}},
		"marked":          {func(r *run) { r.receipts = append(r.receipts, repeat); r.want.Window = 1 }, nil},
		"marked, no kill": {func(r *run) { r.receipts = append(r.receipts, repeat) }, []Break{BreakManyRepeats}},
		"refused":         {func(r *run) { r.sent[0].Answer = AnswerRefused }, []Break{BreakInvalid}},
		"invalid":         {func(r *run) { r.sent[0].Shape = ShapeInvalid }, []Break{BreakInvalidPasses}},
		"other hash":      {func(r *run) { r.receipts[0].Hash = common.Hash{2} }, []Break{BreakHash}},
		"of nobody":       {func(r *run) { r.receipts = append(r.receipts, Receipt{Tag: tagged(9), Tagged: true, Status: 200}) }, []Break{BreakRecordOfNobody}},
		"other run":       {func(r *run) { r.receipts = append(r.receipts, Receipt{Tag: Tag{Run: 2}, Tagged: true, Status: 200}) }, nil},
		"no tag":          {func(r *run) { r.receipts = append(r.receipts, Receipt{Status: 200}) }, nil},
		"lost, no ledger": {func(r *run) { r.want.NoLedger, r.records, r.receipts = true, nil, nil }, []Break{BreakLost}},
		"kept, no ledger": {func(r *run) { r.want.NoLedger, r.records = true, nil }, nil},
		"unknown, stored": {func(r *run) { r.sent[0].Answer, r.sent[0].Hash = AnswerUnknown, common.Hash{} }, nil},
		"unknown, lost": {func(r *run) {
			r.sent[0].Answer, r.sent[0].Hash, r.receipts, r.records = AnswerUnknown, common.Hash{}, nil, nil
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := goodRun()
			c.spoil(&r)
			v := r.check()
			var got []Break
			for b := range v.Breaks {
				got = append(got, b)
			}
			require.ElementsMatch(t, c.want, got, "%v", v.Examples)
			require.Equal(t, len(c.want) == 0, v.OK())
			if c.want == nil {
				require.NoError(t, v.Err())
			} else {
				require.ErrorIs(t, v.Err(), ErrViolations)
				require.ErrorContains(t, v.Err(), string(c.want[0]))
			}
		})
	}
}

func TestCheckWantsRisingNoncesPerKey(t *testing.T) {
	send := func(seq, nonce uint64, uuid byte) Result {
		return Result{Tag: tagged(seq), Answer: AnswerUnknown, UUID: order.UUID{uuid}, Nonce: nonce}
	}
	sent := []Result{send(1, 1, 1), send(2, 2, 1), send(3, 1, 2)}
	at := func(seq uint64) Receipt { return Receipt{Tag: tagged(seq), Tagged: true, Status: 200, At: time.Now()} }
	require.True(t, Check(sent, []Receipt{at(1), at(2), at(3)}, nil, Expect{}).OK())
	require.Equal(t, 1, Check(sent, []Receipt{at(3), at(2), at(1)}, nil, Expect{}).Breaks[BreakNonce])
	late := at(1)
	late.Repeat = true
	require.True(t, Check(sent, []Receipt{at(2), late}, nil, Expect{}).OK())
	failed := at(2)
	failed.Status = 500
	require.True(t, Check(sent, []Receipt{failed, at(1)}, nil, Expect{}).OK())
}

func TestWithoutALedgerAnOrderWhoseReplacementWasTakenIsPresumedSuperseded(t *testing.T) {
	sent := func(seq, nonce uint64, signer, uuid byte) Result {
		return Result{Tag: tagged(seq), Answer: AnswerAccepted, Signer: common.Address{signer}, UUID: order.UUID{uuid}, Nonce: nonce}
	}
	at := func(seq uint64) Receipt { return Receipt{Tag: tagged(seq), Tagged: true, Status: 200} }
	refused := at(3)
	refused.Refused = true
	for name, c := range map[string]struct {
		results    []Result
		receipts   []Receipt
		superseded int
		lost       int
	}{
		"a chain, the last taken":         {[]Result{sent(1, 1, 1, 1), sent(2, 2, 1, 1), sent(3, 3, 1, 1)}, []Receipt{at(3)}, 2, 0},
		"the newest is missing":           {[]Result{sent(1, 1, 1, 1), sent(2, 2, 1, 1), sent(3, 3, 1, 1)}, []Receipt{at(2)}, 1, 1},
		"the newest was refused":          {[]Result{sent(1, 1, 1, 1), sent(3, 3, 1, 1)}, []Receipt{refused}, 0, 2},
		"both taken":                      {[]Result{sent(1, 1, 1, 1), sent(2, 2, 1, 1)}, []Receipt{at(1), at(2)}, 0, 0},
		"another signer's":                {[]Result{sent(1, 1, 1, 1), sent(2, 2, 2, 1)}, []Receipt{at(2)}, 0, 1},
		"another key's":                   {[]Result{sent(1, 1, 1, 1), sent(2, 2, 1, 2)}, []Receipt{at(2)}, 0, 1},
		"without a key":                   {[]Result{sent(1, 1, 1, 0), sent(2, 2, 1, 0)}, []Receipt{at(2)}, 0, 1},
		"the same nonce":                  {[]Result{sent(1, 2, 1, 1), sent(2, 2, 1, 1)}, []Receipt{at(2)}, 0, 1},
		"another run's, which is unknown": {[]Result{sent(1, 1, 1, 1)}, []Receipt{{Tag: Tag{Run: 2, Seq: 2}, Tagged: true, Status: 200}}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			v := Check(c.results, c.receipts, nil, Expect{NoLedger: true})
			require.Equal(t, c.superseded, v.Superseded)
			require.Equal(t, c.lost, v.Breaks[BreakLost])
			require.Equal(t, c.lost == 0, v.OK())
		})
	}
	// A ledger says it itself.
	v := Check([]Result{sent(1, 1, 1, 1), sent(2, 2, 1, 1)}, []Receipt{at(2)}, nil, Expect{})
	require.Zero(t, v.Superseded)
	require.Equal(t, 2, v.Breaks[BreakLost])
}

func TestCheckKeepsAFewExamplesOnly(t *testing.T) {
	var sent []Result
	for i := range uint64(100) {
		sent = append(sent, Result{Tag: tagged(i), Answer: AnswerAccepted, Hash: common.Hash{byte(i), 1}})
	}
	v := Check(sent, nil, nil, Expect{})
	require.Equal(t, 100, v.Breaks[BreakLost])
	require.Len(t, v.Examples[BreakLost], maxExamples)
	require.Equal(t, 100, v.Accepted)
}
