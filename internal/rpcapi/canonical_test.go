package rpcapi

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

func canonical(method, params string) (string, Life) {
	key, life := Lookup(method).Canonical([]byte("x"), []byte(params), &Head{Number: 100, Finalized: 64})
	return string(key), life
}

func TestParametersThatAskTheSameAreTheSame(t *testing.T) {
	for _, tc := range []struct {
		method string
		same   []string
	}{
		{"eth_chainId", []string{``, `[]`, ` [ ] `, `null`, `[null]`}},
		{"eth_getBalance", []string{
			`["0xAB","latest"]`, `["0xab"]`, `[ "0xaB" , null ]`, "[\n\"0xab\",{\"blockNumber\":\"latest\"}]",
		}},
		{"eth_getBalance", []string{`["0xab","0x10"]`, `["0xab",{"blockNumber":"0x010"}]`, `["0xab",16]`}},
		{"eth_getBalance", []string{
			`["0xab","` + hash32 + `"]`, `["0xab",{"blockHash":"` + strings.ToUpper(hash32[2:]) + `"}]`,
			`["0xab",{"requireCanonical":false,"blockHash":"` + hash32 + `"}]`,
		}[:1]},
		{"eth_getBalance", []string{
			`["0xab","` + hash32 + `"]`, `["0xab",{"blockHash":"0x` + strings.ToUpper(hash32[2:]) + `"}]`,
			`["0xab",{"requireCanonical":false,"blockHash":"` + hash32 + `"}]`,
		}},
		{"eth_call", []string{
			`[{"to":"0xAB","data":"0xFF"},"latest"]`, `[{"data":"0xff", "to":"0xab"}]`,
			`[{"input":"0xff","to":"0xab"},null,null]`, `[{"input":"0xff","data":"0xFF","to":"0xab"}]`,
		}},
		{"eth_call", []string{
			`[{"to":"0xab"},"latest",{"0xCC":{"balance":"0x1","code":"0x"}}]`,
			`[{"to":"0xab"},null,{"0xcc":{"code":"0x","balance":"0x1"}}]`,
		}},
		{"eth_call", []string{
			`[{"to":"0xab"},null,{"0xcc":{"stateDiff":{"0xb":"0x1","0xa":"0x2"}},"0xaa":{"nonce":1,"code":"0x"}},{}]`,
			`[ {"to" : "0xab" } , null , { "0xaa":{"code":"0x","nonce":1} ,"0xcc":{ "stateDiff" : {"0xa":"0x2","0xb":"0x1"}}} , { } ]`,
		}},
		{"eth_feeHistory", []string{`["0x4","latest",[25,75.5]]`, `["0x4","latest",[ 25 , 75.5 ]]`}},
		{"eth_getLogs", []string{`[{"fromBlock":"0x1","toBlock":"0x2"}]`, `[{"toBlock":"0x2", "fromBlock":"0x1"}]`}},
	} {
		want, life := canonical(tc.method, tc.same[0])
		require.NotZero(t, life, tc.same[0])
		require.True(t, strings.HasPrefix(want, "x"))
		for _, params := range tc.same {
			got, other := canonical(tc.method, params)
			require.Equal(t, want, got, params)
			require.Equal(t, life, other, params)
		}
	}
}

func TestParametersThatAskSomethingElseDiffer(t *testing.T) {
	keys := make(map[string]string)
	for _, params := range []string{
		`[{"to":"0xab"}]`, `[{"to":"0xab","input":"0x"}]`, `[{"to":"0xab","data":"0x01"}]`, `[{"to":"0xab"},"0x1"]`,
		`[{"to":"0xab"},"earliest"]`, `[{"to":"0xab"},"safe"]`, `[{"to":"0xab"},"finalized"]`,
		`[{"to":"0xab"},"` + hash32 + `"]`, `[{"to":"0xab"},{"blockHash":"` + hash32 + `","requireCanonical":true}]`,
		`[{"to":"0xab"},"latest",{}]`, `[{"to":"0xab"},"latest",null,{}]`, `[{"to":"0xab","n":9007199254740993}]`,
		`[{"to":"0xab","n":9007199254740992}]`, `[{"to":"0xab","n":1.0}]`, `[{"to":"0xab","n":"1.0"}]`,
		`[{"to":"0xab","input":null,"data":"0x01"}]`,
	} {
		key, life := canonical("eth_call", params)
		require.NotZero(t, life, params)
		require.Empty(t, keys[key], params)
		keys[key] = params
	}
}

func TestWhatIsNotUnderstoodIsNotShared(t *testing.T) {
	for _, tc := range [][2]string{
		{"eth_call", `[{"to":"0xab","input":"0x01","data":"0x02"}]`},
		{"eth_call", `[{"to":"0xab","data":"0x01","data":"0x01"}]`},
		{"eth_call", `[{"to":"0xab","to":"0xab"}]`},
		{"eth_call", `[{"to":"0xab"},"latest",{"0xAA":{},"0xaa":{}}]`},
		{"eth_call", `[{"to":"0xab"},"latest",{"0xaa":[{"a":1,"b":2,"a":3}]}]`},
		{"eth_call", `[{"to":"0x\u0061b"}]`},
		{"eth_call", `[{"to":"0xab"},"pending"]`},
		{"eth_call", `[{"to":"0xab"},"soon"]`},
		{"eth_call", `[]`},
		{"eth_call", `{"to":"0xab"}`},
		{"eth_call", `[{"to":"0xab"}`},
		{"eth_call", `[` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `]`},
		{"eth_call", `[1,null,3,4,5,6,7,8,9]`},
		{"eth_call", `["` + strings.Repeat("x", maxCanonical) + `"]`},
		{"eth_getBlockByHash", `["0x1",true]`},
		{"eth_getBlockByHash", `[]`},
		{"eth_getLogs", `[{"fromBlock":"pending","toBlock":"0x1"}]`},
		{"eth_getLogs", `[]`},
		{"eth_syncing", `[]`},
		{"eth_sendRawTransaction", `["0x00"]`},
		{"eth_foo", `[]`},
	} {
		key, life := canonical(tc[0], tc[1])
		require.Zero(t, life, tc[1])
		require.Equal(t, "x", key, "nothing is appended")
	}
}

func TestAnAnswerLivesAsLongAsItsBlockCannotChange(t *testing.T) {
	for _, tc := range []struct {
		method, params string
		want           Life
	}{
		{"eth_chainId", `[]`, LifeForEver},
		{"eth_blockNumber", `[]`, LifeHead},
		{"eth_getBalance", `["0x1","0x40"]`, LifeForEver},
		{"eth_getBalance", `["0x1","0x41"]`, LifeHead},
		{"eth_getBalance", `["0x1","earliest"]`, LifeForEver},
		{"eth_getBalance", `["0x1","finalized"]`, LifeHead},
		{"eth_getBalance", `["0x1","` + hash32 + `"]`, LifeForEver},
		{"eth_getBalance", `["0x1",{"blockHash":"` + hash32 + `","requireCanonical":true}]`, LifeHead},
		{"eth_getBlockByHash", `["` + hash32 + `",true]`, LifeForEver},
		{"eth_getTransactionReceipt", `["` + hash32 + `"]`, LifeByAnswer},
		{"eth_getLogs", `[{"fromBlock":"0x1","toBlock":"0x40"}]`, LifeForEver},
		{"eth_getLogs", `[{"fromBlock":"0x1","toBlock":"0x41"}]`, LifeHead},
		{"eth_getLogs", `[{"toBlock":"0x40"}]`, LifeHead},
		{"eth_getLogs", `[{"blockHash":"` + hash32 + `"}]`, LifeForEver},
	} {
		_, life := canonical(tc.method, tc.params)
		require.Equal(t, tc.want, life, "%s %s", tc.method, tc.params)
	}
	m := Lookup("eth_getBalance")
	_, life := m.Canonical(nil, []byte(`["0x1","0x40"]`), &Head{})
	require.Equal(t, LifeHead, life, "nobody knows what is final")
}

func TestAnAnswerSaysWhichBlockItIsOf(t *testing.T) {
	head := &Head{Number: 100, Finalized: 64}
	for result, want := range map[string]Life{
		`{"blockNumber":"0x40"}`:                      LifeForEver,
		`{"logs":[],"blockNumber":"0x41"}`:            LifeHead,
		`{"blockNumber":null}`:                        0,
		`{"blockNumber":"pending"}`:                   0,
		`{"blockNumber":"0x1","blockNumber":"0x100"}`: 0,
		`{"type":"CALL"}`:                             LifeHead,
		`[{"blockNumber":1}]`:                         LifeHead,
		`"0x"`:                                        LifeHead,
		`null`:                                        0,
	} {
		require.Equal(t, want, LifeByAnswer.Judge([]byte(result), head), result)
	}
	require.Equal(t, LifeForEver, LifeForEver.Judge([]byte(`"0x1"`), head))
	require.Equal(t, LifeHead, LifeForEver.Judge([]byte(`[]`), head), "a node without old blocks says so, too")
	require.Equal(t, LifeHead, LifeHead.Judge([]byte(`"0x1"`), head))
	require.Zero(t, LifeForEver.Judge([]byte(`null`), head))
}

func FuzzCanonical(f *testing.F) {
	f.Add("eth_call", []byte(`[{"to":"0xAB","data":"0xFF"},{"blockNumber":"0x1"},{"0xCC":{"code":"0x"}}]`))
	f.Add("eth_getLogs", []byte(`[{"fromBlock":"0x1","toBlock":"latest","topics":[null,["0xA"]]}]`))
	f.Add("eth_getBalance", []byte(`["0xab"]`))
	f.Fuzz(func(t *testing.T, method string, params []byte) {
		before := bytes.Clone(params)
		m, head := Lookup(method), &Head{Number: 100, Finalized: 64}
		key, life := m.Canonical(nil, params, head)
		require.Equal(t, before, params, "the caller's bytes stay as they are")
		if life == 0 {
			require.Empty(t, key)
			return
		}
		again, same := m.Canonical(nil, append([]byte(" "), params...), head)
		require.Equal(t, key, again)
		require.Equal(t, life, same)
		if b := m.Block(params); b.Kind == BlockPending {
			require.Fail(t, "what is pending is never shared")
		}
	})
}

func BenchmarkCanonical(b *testing.B) {
	m := Lookup("eth_call")
	params := []byte(`[{"to":"0x0000000000000000000000000000000000000001","data":"0x70a08231000000000000000000000000AbCdEf0000000000000000000000000000000001"},"latest"]`)
	head := &Head{Number: 100}
	var key []byte
	b.ReportAllocs()
	for b.Loop() {
		var life Life
		if key, life = m.Canonical(key[:0], params, head); life == 0 {
			b.Fatal("not understood")
		}
	}
}

// What the general library makes of the same value says whether the cursor is right.
func FuzzOrdered(f *testing.F) {
	f.Add([]byte(`{"b":[1,{"d":null,"c":"x"}],"a":{},"e":[],"f":-1.5e3}`))
	f.Add([]byte(` [ ] `))
	f.Fuzz(func(t *testing.T, v []byte) {
		got, ok := appendOrdered(nil, v)
		if bytes.IndexByte(v, '\\') >= 0 {
			return
		}
		want := jsontext.Value(bytes.Clone(v))
		if !want.IsValid(jsontext.AllowDuplicateNames(true)) {
			return
		}
		err := want.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false))
		require.Equal(t, err == nil, ok, "duplicates are refused: %v", err)
		if !ok {
			return
		}
		if isASCII(v) { // the order of other names differs
			require.Equal(t, string(want), string(got))
		}
	})
}

func isASCII(v []byte) bool {
	return !slices.ContainsFunc(v, func(b byte) bool { return b >= 0x80 })
}
