package order

import (
	"math"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func active(requests, invalid int) *Activity {
	a := new(Activity)
	for range requests {
		a.Request(testNow)
	}
	for range invalid {
		a.Invalid(testNow)
	}
	return a
}

func TestScoreFollowsTheFormulaWithinABucket(t *testing.T) {
	for _, tc := range []struct {
		requests, invalid int
		score             float64
	}{
		{0, 0, 0},
		{1, 0, 0},
		{10, 0, 1},
		{10_000, 0, 3},
		{1, 1, 5},
		{10, 1, 1.5},
		{10, 10, 6},
		{1000, 1000, 8},
		{0, 3, 5},
		{10, 20, 6},
	} {
		require.InDelta(t, tc.score, active(tc.requests, tc.invalid).Score(testNow), 1e-9, "%+v", tc)
	}
}

func TestScoreRewardsWhatWasBuilt(t *testing.T) {
	a := active(100, 0)
	a.Built(testNow, BuilderStats{PassedToBSimulation: 5, Included: 5, MaxContributionPct: 0.25})
	require.InDelta(t, 2-0.5-1-0.5, a.Score(testNow), 1e-6)
	a.Built(testNow, BuilderStats{PassedToBSimulation: math.MaxUint64, Included: math.MaxUint64, MaxContributionPct: math.Inf(1)})
	require.InDelta(t, 2-10, a.Score(testNow), 1e-6)

	silent := new(Activity)
	silent.Built(testNow, BuilderStats{Included: 10, MaxContributionPct: math.NaN()})
	require.InDelta(t, -2, silent.Score(testNow), 1e-6, "a bucket without requests scores 0 for them")
	silent.Built(testNow, BuilderStats{MaxContributionPct: -5})
	require.InDelta(t, -2, silent.Score(testNow), 1e-6)
}

func TestScoreIsTheMeanOfTheLastMinutesActiveBuckets(t *testing.T) {
	a := active(10, 10) // 6
	for range 10 {
		a.Request(testNow.Add(20 * time.Second)) // 1
	}
	require.InDelta(t, 3.5, a.Score(testNow.Add(20*time.Second)), 1e-9)
	require.InDelta(t, 3.5, a.Score(testNow.Add(55*time.Second)), 1e-9)
	require.InDelta(t, 1, a.Score(testNow.Add(64*time.Second)), 1e-9)
	require.Zero(t, a.Score(testNow.Add(time.Hour)))

	a.Request(testNow.Add(time.Hour))
	a.Invalid(testNow)
	require.Zero(t, a.Score(testNow.Add(time.Hour)), "what is older than the window counts nothing")
}

func TestScoreReachesBothThresholds(t *testing.T) {
	require.GreaterOrEqual(t, active(1000, 0).Score(testNow), float64(ScoreNotHigh))
	require.GreaterOrEqual(t, active(10, 10).Score(testNow), float64(ScoreLow))
}

func TestActivityIsSmallAndDoesNotAllocate(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Activity{}), uintptr(400))
	a := new(Activity)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		a.Request(testNow)
		a.Invalid(testNow)
		a.Built(testNow, BuilderStats{Included: 1})
		_ = a.Score(testNow)
	}))
}

func TestActivityCountersSaturate(t *testing.T) {
	require.Equal(t, uint32(math.MaxUint32), saturate(math.MaxUint32, 1))
	require.Equal(t, uint32(math.MaxUint32), saturate(1, math.MaxUint64))
}

func TestClassifyIsTheDocumentedTable(t *testing.T) {
	bare, full := blobTx(t, 1, 1)
	plain := `"` + hexOf(signedTx(t, dynamicFee(t))) + `"`
	reverting := `"` + TransactionHash(signedTx(t, dynamicFee(t))).Hex() + `"`
	raw := mustDecode(t, MethodSendRawTransaction, `[`+plain+`]`)
	for _, tc := range []struct {
		name  string
		s     *Submission
		score float64
		size  int
		class Priority
	}{
		{"bundle", mustDecode(t, MethodSendBundle, `[{"txs":[`+plain+`]}]`), -10, 100, PriorityMedium},
		{"bundle with uuid", mustDecode(t, MethodSendBundle, `[{"txs":[`+plain+`],"uuid":"`+testUUID+`"}]`), 2.9, 100, PriorityHigh},
		{"bundle with replacementUuid", mustDecode(t, MethodSendBundle, `[{"txs":[`+plain+`],"replacementUuid":"`+testUUID+`"}]`), 2.9, 100, PriorityHigh},
		{"busy entity", mustDecode(t, MethodSendBundle, `[{"txs":[`+plain+`],"uuid":"`+testUUID+`"}]`), 3, 100, PriorityMedium},
		{"all revert", mustDecode(t, MethodSendBundle, `[{"txs":[`+plain+`],"revertingTxHashes":[`+reverting+`]}]`), 0, 100, PriorityHigh},
		{"all revert, busy entity", mustDecode(t, MethodSendBundle, `[{"txs":[`+plain+`],"revertingTxHashes":[`+reverting+`]}]`), 3, 100, PriorityMedium},
		{"raw", raw, 0, 100, PriorityHigh},
		{"raw, busy entity", raw, 5.9, 100, PriorityMedium},
		{"raw, spamming entity", raw, 6, 100, PriorityLow},
		{"largest that may be high", raw, 0, MaxHighSize, PriorityHigh},
		{"rule 6: above 256 kB", raw, 0, MaxHighSize + 1, PriorityMedium},
		{"cancel", mustDecode(t, MethodCancelBundle, `[{"replacementUuid":"`+testUUID+`"}]`), 2.9, 100, PriorityHigh},
		{"cancel, busy entity", mustDecode(t, MethodCancelBundle, `[{"replacementUuid":"`+testUUID+`"}]`), 3, 100, PriorityMedium},
		{"cancel, spamming entity", mustDecode(t, MethodSendBundle, `[{"uuid":"`+testUUID+`"}]`), 6, 100, PriorityLow},
		{"blob without sidecar", mustDecode(t, MethodSendRawTransaction, `["`+hexOf(bare)+`"]`), -10, 100, PriorityLow},
		{"blob with sidecar", mustDecode(t, MethodSendRawTransaction, `["`+hexOf(full)+`"]`), -10, 100, PriorityLow},
		{"blob in a bundle", mustDecode(t, MethodSendBundle, `[{"txs":[`+plain+`,"`+hexOf(full)+`"],"uuid":"`+testUUID+`"}]`), 0, 100, PriorityLow},
		{"blob in a nested bundle", mustDecode(t, MethodSendShareBundle, `[{"body":[{"bundle":{"body":[{"tx":"`+hexOf(bare)+`"}]}}]}]`), 0, 100, PriorityLow},
	} {
		t.Run(tc.name, func(t *testing.T) { require.Equal(t, tc.class, Classify(tc.score, tc.s, tc.size)) })
	}
}
