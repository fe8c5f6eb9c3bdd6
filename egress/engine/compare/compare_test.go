package compare

import (
	"fmt"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

func block() common.Hash { return common.Hash{7} }

// answer reads what a client wrote, by name.
func answer(t *testing.T, name string) engineapi.Result {
	t.Helper()
	h, other := block().Hex(), common.Hash{8}.Hex()
	result := func(s string) string { return `{"jsonrpc":"2.0","id":1,"result":` + s + `}` }
	bodies := map[string]string{
		"VALID":            result(`{"status":"VALID","latestValidHash":"` + h + `","validationError":null}`),
		"VALID of another": result(`{"status":"VALID","latestValidHash":"` + other + `"}`),
		"VALID of nothing": result(`{"status":"VALID","latestValidHash":null}`),
		"fc VALID":         result(`{"payloadStatus":{"status":"VALID","latestValidHash":"` + h + `"},"payloadId":"0x01"}`),
		"INVALID":          result(`{"status":"INVALID","latestValidHash":"` + h + `","validationError":"a"}`),
		"INVALID other":    result(`{"status":"INVALID","latestValidHash":"` + other + `","validationError":"b"}`),
		"INVALID null":     result(`{"status":"INVALID","latestValidHash":null}`),
		"INVALID zero":     result(`{"status":"INVALID","latestValidHash":"` + common.Hash{}.Hex() + `"}`),
		"BLOCK_HASH":       result(`{"status":"INVALID_BLOCK_HASH","latestValidHash":null}`),
		"SYNCING":          result(`{"status":"SYNCING","latestValidHash":null}`),
		"ACCEPTED":         result(`{"status":"ACCEPTED","latestValidHash":null}`),
		"new status":       result(`{"status":"MISSING_STATE"}`),
		"listed":           result(`{"status":"VALID","latestValidHash":"` + h + `","inclusionListSatisfied":true}`),
		"unlisted":         result(`{"status":"VALID","latestValidHash":"` + h + `","inclusionListSatisfied":false}`),
		"extra":            result(`{"witness":"0x1","status":"VALID","latestValidHash":"` + h + `","x":null}`),
		"garbage":          `<html>`,
	}
	if body, ok := bodies[name]; ok {
		return engineapi.ParseResult(200, []byte(body))
	}
	var n int
	if _, err := fmt.Sscanf(name, "http %d", &n); err == nil {
		return engineapi.ParseResult(n, []byte("text"))
	}
	if _, err := fmt.Sscanf(name, "%d", &n); err == nil {
		return engineapi.ParseResult(200, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"error":{"code":%d,"message":"%s"}}`, n, name))
	}
	require.Equal(t, "none", name)
	return engineapi.Result{}
}

func TestOfIsTheTableOfTheContract(t *testing.T) {
	for _, c := range []struct {
		primary, secondary string
		want               Class
	}{
		{"VALID", "VALID", OK},
		{"VALID", "fc VALID", OK},
		{"VALID", "extra", OK},
		{"VALID", "VALID of another", Critical},
		{"VALID", "VALID of nothing", Critical},
		{"VALID of another", "VALID", Critical},
		{"VALID", "INVALID", Critical},
		{"VALID", "BLOCK_HASH", Critical},
		{"VALID", "SYNCING", Lag},
		{"VALID", "ACCEPTED", Lag},
		{"VALID", "new status", Lag},
		{"VALID", "-32602", Config},
		{"VALID", "-38005", Config},
		{"VALID", "-32603", Transient},
		{"VALID", "-32000", Transient},
		{"VALID", "garbage", Transient},
		{"VALID", "none", Transient},
		{"VALID", "http 503", Transient},
		{"VALID", "http 401", Config},
		{"VALID", "http 413", Config},
		{"listed", "listed", OK},
		{"listed", "unlisted", Warn},
		{"listed", "VALID", OK},

		{"INVALID", "VALID", Critical},
		{"INVALID", "INVALID", OK},
		{"INVALID", "INVALID other", Warn},
		{"INVALID", "INVALID null", OK},
		{"INVALID zero", "INVALID other", OK},
		{"INVALID null", "BLOCK_HASH", OK},
		{"INVALID", "SYNCING", Lag},
		{"INVALID", "-38005", Config},

		{"SYNCING", "VALID", Info},
		{"SYNCING", "INVALID", Warn},
		{"SYNCING", "ACCEPTED", OK},
		{"SYNCING", "-32602", Config},

		{"-38002", "-38002", OK},
		{"-38002", "VALID", Config},
		{"-38002", "INVALID", Warn},
		{"-38002", "SYNCING", Info},
		{"-38002", "-38006", Info},
		{"-32603", "VALID", Info},

		{"none", "VALID", NotCompared},
		{"http 502", "VALID", NotCompared},
		{"garbage", "VALID", NotCompared},
	} {
		got, why := Of(Call{Block: block()}, answer(t, c.primary), answer(t, c.secondary))
		require.Equal(t, c.want.String(), got.String(), "%s | %s: %s", c.primary, c.secondary, why)
		require.Equal(t, got == OK, why == "", "a difference has a reason: %s | %s", c.primary, c.secondary)
	}
}

func TestFaultyAttributesOfThePrimaryAreNoDivergence(t *testing.T) {
	for _, code := range []string{"-38003", "-38005"} {
		for secondary, want := range map[string]Class{"VALID": Expected, "SYNCING": OK, "INVALID": Warn, "-38002": OK} {
			got, _ := Of(Call{Block: block(), Attributes: true}, answer(t, code), answer(t, secondary))
			require.Equal(t, want.String(), got.String(), "%s | %s", code, secondary)
		}
	}
}

func TestClassesHaveNamesAndReadThem(t *testing.T) {
	for _, c := range Classes() {
		text, err := c.MarshalText()
		require.NoError(t, err)
		var back Class
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, c, back)
	}
	var c Class
	require.Error(t, c.UnmarshalText([]byte("bad")))
	require.Equal(t, "unknown_0", c.String())
	require.True(t, Critical.Divergent())
	require.False(t, Lag.Divergent())
}

func TestRefusalsAreAttributedToTheFirstBadBlock(t *testing.T) {
	r := NewRoots()
	a, b, c, other := common.Hash{1}, common.Hash{2}, common.Hash{3}, common.Hash{9}
	require.Equal(t, a, r.Bad(a, common.Hash{}))
	require.Equal(t, a, r.Bad(b, a))
	require.Equal(t, a, r.Bad(c, b))
	require.Equal(t, a, r.Bad(c, b), "the same block again")
	require.Equal(t, uint64(2), r.Descendants(a))
	require.Equal(t, other, r.Bad(other, common.Hash{5}))
	root, ok := r.Of(c)
	require.True(t, ok)
	require.Equal(t, a, root)
	_, ok = r.Of(common.Hash{77})
	require.False(t, ok)
	require.True(t, r.First(Critical, a))
	require.False(t, r.First(Critical, a))
	require.True(t, r.First(Warn, a))
}

func TestRootsForgetTheOldest(t *testing.T) {
	r := NewRoots()
	for i := range 3 * maxRoots {
		h := common.BytesToHash(fmt.Appendf(nil, "%d", i))
		r.Bad(h, common.BytesToHash(fmt.Appendf(nil, "%d", i-1)))
		r.First(Critical, h)
	}
	require.Len(t, r.root, maxRoots)
	require.LessOrEqual(t, len(r.below), 1)
	require.Len(t, r.reported, maxRoots)
}

func TestHeadStatesDifferInWhatIsNamed(t *testing.T) {
	h := HeadState{Number: 5, Hash: block(), StateRoot: common.Hash{1}, ReceiptsRoot: common.Hash{2}, Safe: common.Hash{3}, Finalized: common.Hash{4}}
	for _, c := range []struct {
		change func(s *HeadState)
		want   Class
		why    string
	}{
		{func(*HeadState) {}, OK, ""},
		{func(s *HeadState) { s.Hash = common.Hash{9} }, NotCompared, "the clients have different heads"},
		{func(s *HeadState) { s.Number++ }, Critical, "the same head with another number"},
		{func(s *HeadState) { s.StateRoot = common.Hash{} }, Critical, "the same head with another stateRoot"},
		{func(s *HeadState) { s.ReceiptsRoot = common.Hash{9} }, Critical, "the same head with another receiptsRoot"},
		{func(s *HeadState) { s.Safe = common.Hash{} }, Warn, "the same head with another safe"},
		{func(s *HeadState) { s.Finalized = common.Hash{9} }, Warn, "the same head with another finalized"},
		{func(s *HeadState) { s.Safe, s.StateRoot = common.Hash{9}, common.Hash{9} }, Critical, "the same head with another safe, stateRoot"},
	} {
		s := h
		c.change(&s)
		class, why := Heads(h, s)
		require.Equal(t, c.want.String(), class.String())
		require.Equal(t, c.why, why)
		class, _ = Heads(s, h)
		require.Equal(t, c.want.String(), class.String(), "either way round")
	}
}

func TestBuiltPayloadsAreComparedByValueGasAndTransactions(t *testing.T) {
	p := &record.Built{Value: *uint256.NewInt(100), GasUsed: 21000, Transactions: 1, Hash: common.Hash{1}}
	s := &record.Built{Value: *uint256.NewInt(130), GasUsed: 42000, Transactions: 2, Hash: common.Hash{2}}
	require.Equal(t, "value +30 wei, gas +21000, transactions +1", Built(p, s).String())
	require.Equal(t, "value -30 wei, gas -21000, transactions -1", Built(s, p).String())
	require.True(t, Built(p, p).SameBlock)
	require.False(t, Built(p, s).SameBlock)
}

func BenchmarkOf(b *testing.B) {
	h := block()
	r := engineapi.Result{HTTPStatus: 200, Status: engineapi.StatusValid, LatestValid: &h}
	b.ReportAllocs()
	for b.Loop() {
		Of(Call{Block: h}, r, r)
	}
}
