package cache

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

const hash32 = "0x00000000000000000000000000000000000000000000000000000000000000ab"

func TestAHitIsTheNodesAnswerUnderTheCallersID(t *testing.T) {
	x := newFixture(t, keeping())
	body, source := x.ask(t, "eth_chainId", `[]`, `"result":"0x1"`)
	require.Equal(t, rpcapi.SourceMiss, source)
	require.Equal(t, `{"jsonrpc":"2.0","id":7,"result":"0x1"}`, body) //nolint:testifylint // byte for byte
	body, source = x.ask(t, "eth_chainId", ``, `"result":"0x2"`)
	require.Equal(t, rpcapi.SourceHit, source)
	require.Equal(t, `{"jsonrpc":"2.0","id":"me","result":"0x1"}`, body) //nolint:testifylint // byte for byte
	require.Equal(t, 1, x.calls)
}

func TestWhoGetsAnAnswerMayWriteOverIt(t *testing.T) {
	x := newFixture(t, keeping())
	m := rpcapi.Lookup("eth_chainId")
	for range 3 {
		a, _, err := x.Do(t.Context(), &rpcapi.Call{}, m, nil, []byte("1"), func(context.Context) (*rpcapi.Answer, error) {
			return &rpcapi.Answer{Status: 200, Body: []byte(`{"id":1,"result":"0x1"}`)}, nil
		})
		require.NoError(t, err)
		require.Equal(t, `{"id":1,"result":"0x1"}`, string(a.Body)) //nolint:testifylint // byte for byte
		clear(a.Body)
	}
}

func TestWhatIsFinalOutlivesHeadsAndTime(t *testing.T) {
	for _, tc := range [][3]string{
		{"eth_getBlockByNumber", `["0x40",false]`, `"result":{"number":"0x40"}`},
		{"eth_getBlockByHash", `["` + hash32 + `",false]`, `"result":{"number":"0x90"}`},
		{"eth_getTransactionReceipt", `["` + hash32 + `"]`, `"result":{"blockNumber":"0x40"}`},
		{"eth_getBalance", `["0x1",{"blockHash":"` + hash32 + `"}]`, `"result":"0x1"`},
		{"net_version", `[]`, `"result":"1"`},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := newFixture(t, keeping())
			require.Equal(t, rpcapi.SourceHit, x.again(t, tc[0], tc[1], tc[2]), tc[0])
			x.chain.at(101, 65)
			time.Sleep(time.Hour)
			_, source := x.ask(t, tc[0], tc[1], tc[2])
			require.Equal(t, rpcapi.SourceHit, source, tc[0])
		})
	}
}

func TestWhatTheHeadDecidesEndsWithIt(t *testing.T) {
	for _, tc := range [][3]string{
		{"eth_blockNumber", `[]`, `"result":"0x64"`},
		{"eth_getBalance", `["0x1"]`, `"result":"0x1"`},
		{"eth_getBalance", `["0x1","finalized"]`, `"result":"0x1"`},
		{"eth_getBlockByNumber", `["0x41",false]`, `"result":{"number":"0x41"}`},
		{"eth_getTransactionReceipt", `["` + hash32 + `"]`, `"result":{"blockNumber":"0x41"}`},
		{"eth_getLogs", `[{"blockHash":"` + hash32 + `"}]`, `"result":[]`},
	} {
		x := newFixture(t, keeping())
		require.Equal(t, rpcapi.SourceHit, x.again(t, tc[0], tc[1], tc[2]), tc[0])
		x.chain.at(101, 64)
		require.Equal(t, rpcapi.SourceHit, x.again(t, tc[0], tc[1], tc[2]), "%s: asked anew, and then kept again", tc[0])
	}
}

func TestWhatTheHeadDecidesEndsWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := keeping()
		cfg.TTL = time.Second
		x := newFixture(t, cfg)
		require.Equal(t, rpcapi.SourceHit, x.again(t, "eth_gasPrice", `[]`, `"result":"0x1"`))
		time.Sleep(time.Second)
		require.Equal(t, rpcapi.SourceHit, x.again(t, "eth_gasPrice", `[]`, `"result":"0x1"`))
	})
}

func TestWhatMayBeOtherwiseAtAnyMomentIsNotKept(t *testing.T) {
	for _, tc := range []struct {
		method, params, result string
		want                   rpcapi.Source
	}{
		{"eth_getBalance", `["0x1","pending"]`, `"result":"0x1"`, rpcapi.SourceBypass},
		{"eth_getBalance", `["0x1","soon"]`, `"result":"0x1"`, rpcapi.SourceBypass},
		{"eth_syncing", `[]`, `"result":false`, rpcapi.SourceBypass},
		{"eth_foo", `[]`, `"result":1`, rpcapi.SourceBypass},
		{"eth_sendRawTransaction", `["0x00"]`, `"result":"0x1"`, rpcapi.SourceBypass},
		{"eth_call", `[{"to":"0x1"},"0x1"]`, `"result":"0x1"`, rpcapi.SourceBypass},
		{"eth_getBlockByNumber", `["0x1",false]`, `"result":null`, rpcapi.SourceMiss},
		{"eth_getBlockByNumber", `["0x1",false]`, `"error":{"code":-32000,"message":"header not found"}`, rpcapi.SourceMiss},
		{"eth_getTransactionByHash", `["` + hash32 + `"]`, `"result":{"blockNumber":null}`, rpcapi.SourceMiss},
		{"eth_getBlockByNumber", `["0x1",false]`, `"result":1}{`, rpcapi.SourceMiss},
		{"eth_getBlockByNumber", `["0x1",false]`, `"result":"` + strings.Repeat("x", 1<<16) + `"`, rpcapi.SourceMiss},
	} {
		x := newFixture(t, keeping())
		require.Equal(t, tc.want, x.again(t, tc.method, tc.params, tc.result), "%s %s", tc.method, tc.params)
		require.Zero(t, x.entries.EstimatedSize())
	}
}

func TestGroupsAreSwitchedOnAndOff(t *testing.T) {
	x := newFixture(t, everything())
	require.Equal(t, rpcapi.SourceHit, x.again(t, "eth_call", `[{"to":"0xA"}]`, `"result":"0x1"`))
	_, source := x.ask(t, "eth_call", `[{"to":"0xa"},"latest"]`, `"result":"0x1"`)
	require.Equal(t, rpcapi.SourceHit, source)
	require.NoError(t, x.Reconfigure(keeping()))
	require.Equal(t, rpcapi.SourceBypass, x.again(t, "eth_call", `[{"to":"0xA"}]`, `"result":"0x1"`))
	require.Equal(t, rpcapi.SourceHit, x.again(t, "eth_chainId", `[]`, `"result":"0x1"`))
	x.Clear()
	require.Equal(t, rpcapi.SourceHit, x.again(t, "eth_chainId", `[]`, `"result":"0x1"`))
	require.NoError(t, x.Reconfigure(Config{}))
	require.Equal(t, rpcapi.SourceBypass, x.again(t, "eth_chainId", `[]`, `"result":"0x1"`))
	require.Zero(t, x.entries.EstimatedSize())
}

func TestWithoutAHeadOnlyWhatNoHeadChangesIsKept(t *testing.T) {
	x := newFixture(t, keeping())
	x.chain.head = rpcapi.Head{}
	require.Equal(t, rpcapi.SourceBypass, x.again(t, "eth_blockNumber", `[]`, `"result":"0x1"`))
	require.Equal(t, rpcapi.SourceBypass, x.again(t, "eth_getBlockByNumber", `["0x1",false]`, `"result":{"number":"0x1"}`))
	require.Equal(t, rpcapi.SourceHit, x.again(t, "eth_chainId", `[]`, `"result":"0x1"`))
}

func TestANodeThatIsBehindFillsNothing(t *testing.T) {
	x := newFixture(t, keeping())
	x.height = 99
	require.Equal(t, rpcapi.SourceMiss, x.again(t, "eth_blockNumber", `[]`, `"result":"0x63"`))
	require.Equal(t, rpcapi.SourceHit, x.again(t, "eth_getBlockByNumber", `["0x1",false]`, `"result":{"number":"0x1"}`))
	x.height = 100
	require.Equal(t, rpcapi.SourceHit, x.again(t, "eth_blockNumber", `[]`, `"result":"0x64"`))
	x.status = 302
	require.Equal(t, rpcapi.SourceMiss, x.again(t, "eth_gasPrice", `[]`, `"result":"0x64"`))
}

func TestAHeadThatComesMeanwhileFillsNothing(t *testing.T) {
	x := newFixture(t, keeping())
	_, _, err := x.Do(t.Context(), &rpcapi.Call{}, rpcapi.Lookup("eth_blockNumber"), nil, []byte("1"),
		func(context.Context) (*rpcapi.Answer, error) {
			x.chain.at(101, 64)
			return &rpcapi.Answer{Status: 200, Body: []byte(`{"id":1,"result":"0x64"}`)}, nil
		})
	require.NoError(t, err)
	require.Zero(t, x.entries.EstimatedSize())
}

func TestACallForOneNodeReachesIt(t *testing.T) {
	x := newFixture(t, Config{MaxBytes: 1 << 20, Coalesce: true})
	require.Equal(t, rpcapi.SourceHit, x.again(t, "eth_chainId", `[]`, `"result":"0x1"`))
	wrong := errors.New("gone")
	_, source, err := x.Do(t.Context(), &rpcapi.Call{Node: 7}, rpcapi.Lookup("eth_chainId"), nil, []byte("1"),
		func(context.Context) (*rpcapi.Answer, error) { return nil, wrong })
	require.ErrorIs(t, err, wrong)
	require.Equal(t, rpcapi.SourceBypass, source)
}

func TestMemoryIsBoundedAndEvictionsAreCounted(t *testing.T) {
	cfg := Config{MaxBytes: 64 << 10}
	x := newFixture(t, cfg)
	for i := range 1000 {
		_, _ = x.ask(t, "web3_sha3", `["0x`+strconv.FormatInt(int64(0x1000+i), 16)+`"]`, `"result":"`+strings.Repeat("x", 1000)+`"`)
	}
	x.entries.CleanUp()
	require.LessOrEqual(t, x.entries.WeightedSize(), uint64(cfg.MaxBytes))
	require.NotZero(t, x.entries.EstimatedSize())
	require.NotZero(t, testutil.ToFloat64(x.metrics.evictions))
	require.InDelta(t, 1000, testutil.ToFloat64(x.metrics.calls[rpcapi.GroupConstants][rpcapi.SourceMiss]), 0)
	problems, err := testutil.GatherAndLint(x.reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestAConfigurationIsCheckedAsAWhole(t *testing.T) {
	err := Config{MaxBytes: -1, TTL: -1, Methods: []rpcapi.Group{0, 99}}.Validate()
	require.ErrorIs(t, err, ErrConfig)
	require.Len(t, strings.Split(err.Error(), "\n"), 4)
	require.NoError(t, Config{}.Validate())
	_, err = New(Config{MaxBytes: -1}, nil, nil)
	require.ErrorIs(t, err, ErrConfig)
	x := newFixture(t, Config{})
	require.ErrorIs(t, x.Reconfigure(Config{TTL: -1}), ErrConfig)
	require.Equal(t, "source(9)", rpcapi.Source(9).String())
}
