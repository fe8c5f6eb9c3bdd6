package feed

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

const (
	addressA = `"0x00000000000000000000000000000000000000aa"`
	addressB = `"0x00000000000000000000000000000000000000bb"`
	topicA   = `"0x000000000000000000000000000000000000000000000000000000000000000a"`
	topicB   = `"0x000000000000000000000000000000000000000000000000000000000000000b"`
)

func TestParametersHaveOneKeyForOneMeaning(t *testing.T) {
	for _, same := range [][]string{
		{`["newHeads"]`, `["newHeads",{}]`, `["newHeads",null]`},
		{`["syncing"]`, ` [ "syncing" ] `},
		{`["newPendingTransactions"]`, `["newPendingTransactions",false]`, `["newPendingTransactions",null]`},
		{`["newPendingTransactions",true]`},
		{`["logs"]`, `["logs",{}]`, `["logs",null]`, `["logs",{"address":[],"topics":[],"fromBlock":"latest"}]`, `["logs",{"address":null,"topics":null}]`},
		{`["logs",{"address":` + addressA + `}]`, `["logs",{"address":["0x` + strings.ToUpper(addressA[3:]) + `]}]`},
		{`["logs",{"address":[` + addressA + `,` + addressB + `]}]`, `["logs",{"address":[` + addressB + `,` + addressA + `,` + addressB + `]}]`},
		{`["logs",{"topics":[` + topicA + `,[` + topicB + `,` + topicA + `]]}]`, `["logs",{"topics":[[` + topicA + `],[` + topicA + `,` + topicB + `]]}]`},
		{`["logs",{"topics":[null,` + topicA + `]}]`, `["logs",{"topics":[[],` + topicA + `]}]`, `["logs",{"topics":[[` + topicB + `,null],` + topicA + `]}]`},
		{`["logs",{"topics":[null]}]`},
		{`["logs",{"fromBlock":"0x5"}]`, `["logs",{"fromBlock":"0x5","toBlock":"latest"}]`},
	} {
		want, err := parseSpec([]byte(same[0]))
		require.NoError(t, err, same[0])
		for _, other := range same[1:] {
			got, err := parseSpec([]byte(other))
			require.NoError(t, err, other)
			require.Equal(t, want.key, got.key, other)
		}
	}
}

func TestWhatCanNotBeSubscribedToIsRefused(t *testing.T) {
	for params, want := range map[string]error{
		``: rpcapi.ErrSubscriptionParams, `{}`: rpcapi.ErrSubscriptionParams, `[]`: rpcapi.ErrSubscriptionParams,
		`[1]`: rpcapi.ErrSubscriptionParams, `["newHeads",1]`: rpcapi.ErrSubscriptionParams, `["logs",{},1]`: rpcapi.ErrSubscriptionParams,
		`["newPendingTransactions","true"]`:              rpcapi.ErrSubscriptionParams,
		`["logs",7]`:                                     rpcapi.ErrSubscriptionParams,
		`["logs",{"address":"0x1"}]`:                     rpcapi.ErrSubscriptionParams,
		`["logs",{"address":[null]}]`:                    rpcapi.ErrSubscriptionParams,
		`["logs",{"address":{}}]`:                        rpcapi.ErrSubscriptionParams,
		`["logs",{"topics":[1]}]`:                        rpcapi.ErrSubscriptionParams,
		`["logs",{"topics":[["0x1"]]}]`:                  rpcapi.ErrSubscriptionParams,
		`["logs",{"topics":[null,null,null,null,1]}`:     rpcapi.ErrSubscriptionParams,
		`["logs",{"topics":[null,null,null,null,null]}]`: rpcapi.ErrSubscriptionParams,
		`["logs",{"fromBlock":"pending"}]`:               rpcapi.ErrSubscriptionParams,
		`["logs",{"toBlock":"safe"}]`:                    rpcapi.ErrSubscriptionParams,
		`["logs",{"fromBlock":"0x2","toBlock":"0x1"}]`:   rpcapi.ErrSubscriptionParams,
		`["transactionReceipts"]`:                        rpcapi.ErrSubscriptionKind,
		`["` + strings.Repeat("x", 1000) + `"]`:          rpcapi.ErrSubscriptionKind,
		`["logs",{"address":[` + strings.Repeat(addressA+",", maxAlternative) + addressA + `]}]`: rpcapi.ErrSubscriptionParams,
	} {
		_, err := parseSpec([]byte(params))
		require.ErrorIs(t, err, want, params)
		require.Less(t, len(err.Error()), 200)
	}
}

func TestAFilterMatchesByItsBloom(t *testing.T) {
	chain := blocks(genesis, "a1*1", "a2")
	var hs []*header
	for _, b := range chain {
		h, err := decodeHeader([]byte(b.header()))
		require.NoError(t, err)
		hs = append(hs, h)
	}
	match := func(params string) [2]bool {
		s, err := parseSpec([]byte(params))
		require.NoError(t, err)
		return [2]bool{s.filter.mayMatch(hs[0]), s.filter.mayMatch(hs[1])}
	}
	require.Equal(t, [2]bool{true, true}, match(`["logs"]`))
	require.Equal(t, [2]bool{true, false}, match(`["logs",{"address":[`+addressA+`,`+addressB+`]}]`))
	require.Equal(t, [2]bool{false, false}, match(`["logs",{"address":`+addressB+`}]`))
	require.Equal(t, [2]bool{false, false}, match(`["logs",{"address":`+addressA+`,"topics":[`+topicB+`]}]`))
	require.Equal(t, [2]bool{false, true}, match(`["logs",{"fromBlock":"0x2"}]`))
	require.Equal(t, [2]bool{true, false}, match(`["logs",{"fromBlock":"earliest","toBlock":"0x1"}]`))
	hs[0].bloom = nil
	require.True(t, match(`["logs",{"address":` + addressB + `}]`)[0], "without a bloom filter it has to be asked")
}

func TestWhatIsNoHeaderIsRefused(t *testing.T) {
	for _, in := range []string{``, `[]`, `{}`, `{"number":"0x1","hash":"0x1"}`, `{"number":1}`, `{"number":"0x1"`, `{"logsBloom":"0x00"}`, `null`} {
		_, err := decodeHeader([]byte(in))
		require.ErrorIs(t, err, errMalformed, in)
	}
}

func TestEveryFaultOfTheConfigurationIsReported(t *testing.T) {
	cfg := Config{}
	err := cfg.Validate()
	for _, name := range []string{"poll", "silence", "linger", "max_gap", "dedupe", "queue_steps"} {
		require.ErrorContains(t, err, name)
	}
	_, err = New(cfg, Ports{}, nil, prometheus.NewRegistry())
	require.Error(t, err)
	_, err = New(DefaultConfig(), Ports{}, nil, prometheus.NewRegistry())
	require.ErrorContains(t, err, "calls")
	require.Equal(t, "kind(9)", kind(9).String())
}

func FuzzSpec(f *testing.F) {
	f.Add([]byte(`["logs",{"address":` + addressA + `,"topics":[null,[` + topicA + `]],"fromBlock":"0x1"}]`))
	f.Add([]byte(`["newPendingTransactions",true]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSpec(b)
		if err != nil || s.filter == nil {
			return
		}
		query := `{` + s.filter.query() + `}`
		require.True(t, json.Valid([]byte(query)))
		again, err := parseSpec([]byte(`["logs",` + query + `]`))
		require.NoError(t, err)
		require.Equal(t, s.filter.query(), again.filter.query())
	})
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte(blocks(genesis, "a1*1")[0].full()))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		require.True(t, json.Valid(h.raw))
		again, err := decodeHeader(h.raw)
		require.NoError(t, err)
		require.Equal(t, h, again)
	})
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"id":1,"result":"0x1"}`))
	f.Add([]byte(`{"method":"eth_subscription","params":{"subscription":"0x1","result":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEnvelope(b)
		if err != nil {
			return
		}
		l := newLink(nil, newMetricsFor(t))
		l.asked[1] = &upstream{link: l, results: make(chan []byte, 1), made: make(chan struct{})}
		l.answered(&e)
		l.notified(e.Params.Subscription, e.Params.Result)
		l.lost()
	})
}

func BenchmarkFan(b *testing.B) {
	g := newGroup(spec{kind: kindHeads}, newMetricsFor(b).kinds[kindHeads], 0)
	for range 1000 {
		g.join(func(rpcapi.Notification) bool { return true }, 0)
	}
	raw := []byte(`"0x01"`)
	b.ReportAllocs()
	for b.Loop() {
		g.fan(raw, always)
	}
}

func BenchmarkPendingTransaction(b *testing.B) {
	m := []byte(`{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1","result":"0x` + strings.Repeat("ab", 32) + `"}}`)
	l := newLink(nil, newMetricsFor(b))
	u := &upstream{link: l, id: "0x1", results: make(chan []byte, 1)}
	l.subs["0x1"] = u
	b.ReportAllocs()
	for b.Loop() {
		e, err := decodeEnvelope(m)
		if err != nil {
			b.Fatal(err)
		}
		l.notified(e.Params.Subscription, e.Params.Result)
		<-u.results
	}
}

func BenchmarkHeader(b *testing.B) {
	raw := []byte(blocks(genesis, "a1*1")[0].full())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeHeader(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFilterSkipsABlock(b *testing.B) {
	h, _ := decodeHeader([]byte(blocks(genesis, "a1*1")[0].header()))
	s, _ := parseSpec([]byte(`["logs",{"address":` + addressB + `}]`))
	b.ReportAllocs()
	for b.Loop() {
		if s.filter.mayMatch(h) {
			b.Fatal("matches")
		}
	}
}
