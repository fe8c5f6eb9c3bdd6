package rpcapi

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const hash32 = "0x00000000000000000000000000000000000000000000000000000000000000ab"

func TestAMethodThatNobodyKnowsIsHandledWithAllCare(t *testing.T) {
	for _, name := range []string{"", "eth_foo", "ETH_CALL", "engine_newPayloadV4", "debug_setHead", "admin_addPeer"} {
		m := Lookup(name)
		require.False(t, m.Known, name)
		require.Equal(t, Write, m.Safety)
		require.Equal(t, CacheNever, m.Cache)
		require.Equal(t, LabelOther, m.Label)
		require.Equal(t, name, m.Name)
		require.Zero(t, m.Block([]byte(`["latest"]`)))
	}
}

func TestEveryRowOfTheTableIsWhole(t *testing.T) {
	for name, m := range table {
		require.True(t, m.Known)
		require.Equal(t, name, m.Name)
		require.Equal(t, name, m.Label)
		require.NotZero(t, m.Safety, name)
		require.NotZero(t, m.Cache, name)
		require.NotZero(t, m.place.kind, name)
		require.NotZero(t, m.object, name)
		require.Equal(t, m.Cache == CacheNever, m.Group == 0, "%s: what may be kept belongs to a group", name)
		if m.Safety != Read {
			require.Equal(t, CacheNever, m.Cache, name)
		}
		if m.Cache == CacheByBlock {
			require.NotEqual(t, placeNowhere, m.place.kind, name)
		}
	}
	require.Len(t, Labels(), len(table)+1)
	rows := 0
	for _, part := range [][]row{
		rowsOfChain(), rowsOfState(), rowsOfTransactions(), rowsOfNode(), rowsOfDebug(), rowsOfTrace(), rowsOfBuilders(),
	} {
		rows += len(part)
	}
	require.Len(t, table, rows, "a method has one row")
}

func TestGroupsHaveNamesThatCanBeReadBack(t *testing.T) {
	for g := Group(1); g <= Groups; g++ {
		name, err := g.MarshalText()
		require.NoError(t, err)
		var back Group
		require.NoError(t, back.UnmarshalText(name))
		require.Equal(t, g, back)
	}
	var g Group
	require.ErrorIs(t, g.UnmarshalText([]byte("none")), ErrGroup)
	require.Equal(t, "group(99)", Group(99).String())
	require.Equal(t, "filter_use", FilterUse.String())
}

func TestABlockIsFoundWhereverTheMethodNamesIt(t *testing.T) {
	hash := Block{Kind: BlockHash}
	hash.Hash[31] = 0xab
	number := func(n uint64) Block { return Block{Kind: BlockNumber, Number: n} }
	for _, tc := range []struct {
		method, params string
		want           Block
	}{
		{"eth_blockNumber", `[]`, Block{Kind: BlockLatest}},
		{"eth_chainId", `[]`, Block{}},
		{"eth_getBalance", `["0x1","0x10"]`, number(16)},
		{"eth_getBalance", `[ "0x1" , "0x010" ]`, number(16)},
		{"eth_getBalance", `["0x1",16]`, number(16)},
		{"eth_getBalance", `["0x1"]`, Block{Kind: BlockLatest}},
		{"eth_getBalance", `["0x1",null]`, Block{Kind: BlockLatest}},
		{"eth_getBalance", ``, Block{Kind: BlockLatest}},
		{"eth_getBalance", `["0x1","pending"]`, Block{Kind: BlockPending}},
		{"eth_getBalance", `["0x1","safe"]`, Block{Kind: BlockSafe}},
		{"eth_getBalance", `["0x1","finalized"]`, Block{Kind: BlockFinalized}},
		{"eth_getBalance", `["0x1","earliest"]`, Block{Kind: BlockEarliest}},
		{"eth_getBalance", `["0x1","` + hash32 + `"]`, hash},
		{"eth_getBalance", `["0x1",{"blockHash":"` + hash32 + `"}]`, hash},
		{"eth_getBalance", `["0x1",{"requireCanonical":true,"blockHash":"` + hash32 + `"}]`, hash},
		{"eth_getBalance", `["0x1",{"blockNumber":"0x10"}]`, number(16)},
		{"eth_getBalance", `["0x1",{"blockNumber":"safe"}]`, Block{Kind: BlockSafe}},
		{"eth_getBalance", `["0x1",{"blockNumber":"0x10","blockHash":"` + hash32 + `"}]`, Block{}},
		{"eth_getBalance", `["0x1",{"blockNumber":"0x10","blockNumber":"0x11"}]`, Block{}},
		{"eth_getBalance", `["0x1",{"blockNumber":"0x10","x":1}]`, Block{}},
		{"eth_getBalance", `["0x1",{"blockHash":"` + hash32 + `","requireCanonical":1}]`, Block{}},
		{"eth_getBalance", `["0x1",{}]`, Block{}},
		{"eth_getBalance", `["0x1","0x"]`, Block{}},
		{"eth_getBalance", `["0x1","10"]`, Block{}},
		{"eth_getBalance", `["0x1",-1]`, Block{}},
		{"eth_getBalance", `["0x1","0x10000000000000000"]`, Block{}},
		{"eth_getBalance", `["0x1","0xzz"]`, Block{}},
		{"eth_getBalance", `["0x1","late\u0073t"]`, Block{}},
		{"eth_getBalance", `["0x1",[1]]`, Block{}},
		{"eth_getBalance", `{"address":"0x1"}`, Block{}},
		{"eth_getBalance", `[`, Block{}},
		{"eth_getBalance", `["0x1","0x1`, Block{}},
		{"eth_getStorageAt", `["0x1","0x0","0x2"]`, number(2)},
		{"trace_call", `[{},["trace"],"0x2"]`, number(2)},
		{"eth_getBlockByHash", `["` + hash32 + `",false]`, hash},
		{"eth_getBlockByHash", `["0x1",false]`, Block{}},
		{"eth_getBlockByHash", `[]`, Block{}},
		{"eth_getLogs", `[{"fromBlock":"0x1","toBlock":"0x3"}]`, number(3)},
		{"eth_getLogs", `[{"fromBlock":"0x1"}]`, Block{Kind: BlockLatest}},
		{"eth_getLogs", `[{"blockHash":"` + hash32 + `","topics":[[]]}]`, hash},
		{"eth_getLogs", `[{"blockHash":"` + hash32 + `","toBlock":"0x1"}]`, Block{}},
		{"eth_getLogs", `[{"fromBlock":"soon","toBlock":"0x1"}]`, Block{}},
		{"eth_getLogs", `[]`, Block{}},
		{"eth_newFilter", `[{"toBlock":"0x3"}]`, number(3)},
	} {
		require.Equal(t, tc.want, Lookup(tc.method).Block([]byte(tc.params)), "%s %s", tc.method, tc.params)
	}
}

func TestTheWorstOfABodyDecidesAboutAllOfIt(t *testing.T) {
	for body, want := range map[string]Safety{
		"":                                  Read,
		"foo":                               Read,
		"[[[":                               Read,
		"7":                                 Read,
		`{}`:                                Read,
		`{"method":7}`:                      Read,
		`{"method":"eth_call"}`:             Read,
		`{"method":"eth_foo"}`:              Write,
		`{"METHOD":"eth_sendTransaction"}`:  Write,
		`{"m\u0065thod":"eth_foo"}`:         Write,
		`{"method":"eth_subscribe"}`:        Subscribing,
		`{"method":"eth_getFilterChanges"}`: FilterUse,
		`{"method":"eth_call","method":"eth_sendRawTransaction"}`:     Transaction,
		`{"params":[{"method":"eth_foo"}],"method":"eth_call"}`:       Read,
		`[{"method":"eth_call"},{"method":"eth_newFilter"}]`:          FilterNew,
		`[{"method":"eth_call"},7,[{"method":"eth_foo"}]]`:            Read,
		`{"method":"eth_call"} {"method":"eth_sendRawTransaction"}`:   Transaction,
		`{"method":"eth_call"}{`:                                      Write,
		`{"method":"eth_call",}`:                                      Write,
		`[{"method":"eth_call"}`:                                      Write,
		`{'method':'eth_call'}`:                                       Write,
		`// {"method":"eth_call"}`:                                    Write,
		"\xef\xbb\xbf" + `{"method":"eth_call"}`:                      Write,
		strings.Repeat("[", 20_000) + `{` + strings.Repeat("]", 9000): Write,
	} {
		require.Equal(t, want, Worst([]byte(body)), "%.80s", body)
	}
}

func FuzzBlock(f *testing.F) {
	f.Add("eth_getBalance", []byte(`["0x1",{"blockHash":"`+hash32+`"}]`))
	f.Add("eth_getLogs", []byte(`[{"fromBlock":"0x1","toBlock":"latest"}]`))
	f.Add("eth_getBlockByHash", []byte(`["`+hash32+`"]`))
	f.Fuzz(func(t *testing.T, method string, params []byte) {
		before := bytes.Clone(params)
		b := Lookup(method).Block(params)
		require.Equal(t, before, params)
		if b.Kind != BlockNumber {
			require.Zero(t, b.Number)
		}
		if b.Kind != BlockHash {
			require.Zero(t, b.Hash)
		}
	})
}

func FuzzWorst(f *testing.F) {
	f.Add([]byte(`[{"method":"eth_call"},{"method":"eth_foo"}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		worst := Worst(body)
		require.GreaterOrEqual(t, worst, Read)
		require.LessOrEqual(t, worst, Write)
		var request struct {
			Method string `json:"method"`
		}
		if json.Unmarshal(body, &request) == nil && request.Method != "" {
			require.GreaterOrEqual(t, worst, Lookup(request.Method).Safety, "as a lax reader understands it")
		}
	})
}

func BenchmarkBlock(b *testing.B) {
	m := Lookup("eth_call")
	params := []byte(`[{"to":"0x0000000000000000000000000000000000000001","data":"0x70a08231"},"0x10"]`)
	b.ReportAllocs()
	for b.Loop() {
		if m.Block(params).Kind == 0 {
			b.Fatal("not found")
		}
	}
}

func BenchmarkWorst(b *testing.B) {
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0x0000000000000000000000000000000000000001","data":"0x70a08231"},"0x10"]}`)
	b.ReportAllocs()
	for b.Loop() {
		if Worst(body) != Read {
			b.Fatal("not a read")
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = Lookup("eth_getTransactionReceipt")
	}
}
