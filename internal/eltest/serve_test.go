package eltest

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi"
)

func TestTokensAreCheckedAsGethDoes(t *testing.T) {
	secret, err := engineapi.ParseSecret(strings.Repeat("ab", 32))
	require.NoError(t, err)
	f := started(t, Config{Secret: &secret})
	require.True(t, send(t, f, `{"id":1,"method":"eth_chainId"}`).OK())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL(), strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("Authorization", secret.Authorization(time.Now().Add(-time.Hour)))
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	res.Body.Close()
	require.Len(t, f.Calls(), 1, "a refused call is none")
}

func TestReadsAnswerFromTheState(t *testing.T) {
	f := started(t, Config{Capabilities: []string{"engine_newPayloadV4"}})
	b := branch(GenesisBlock, 3, 1)
	apply(t, f, b, b[0].Hash)
	for method, want := range map[string]string{
		`"eth_chainId"`:     `"0xbc01d"`,
		`"eth_blockNumber"`: `"0x3"`,
		`"eth_syncing"`:     `false`,
		`"engine_exchangeCapabilities","params":[[]]`:                   `["engine_newPayloadV4"]`,
		`"engine_getClientVersionV1","params":[{}]`:                     `"code":"FK"`,
		`"eth_getBlockByNumber","params":["latest",false]`:              b[2].Hash.Hex(),
		`"eth_getBlockByNumber","params":["earliest",false]`:            GenesisBlock.Hash.Hex(),
		`"eth_getBlockByNumber","params":["finalized",false]`:           b[0].Hash.Hex(),
		`"eth_getBlockByNumber","params":["safe",false]`:                b[0].Hash.Hex(),
		`"eth_getBlockByNumber","params":["0x2",false]`:                 b[1].Hash.Hex(),
		`"eth_getBlockByNumber","params":["0x9",false]`:                 `"result":null`,
		`"eth_getBlockByNumber","params":["x",false]`:                   `"result":null`,
		`"eth_getBlockByHash","params":["` + b[1].Hash.Hex() + `"]`:     `"number":"0x2"`,
		`"eth_getBlockByHash","params":["` + common.Hash{}.Hex() + `"]`: `"result":null`,
		`"web3_sha3"`: `-32601`,
	} {
		_, answer := post(t, f, `{"id":"x","method":`+method+`}`)
		require.Contains(t, string(answer), want, method)
		require.Contains(t, string(answer), `"id":"x"`)
	}
}

func TestBatchesAndOddBodiesAreAnsweredAsGethDoes(t *testing.T) {
	f := started(t, Config{})
	_, answer := post(t, f, `[{"id":1,"method":"eth_chainId"},{"method":"eth_chainId"},{"id":2,"method":"x"}]`)
	require.Equal(t, `[{"jsonrpc":"2.0","id":1,"result":"0xbc01d"},{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"the method x does not exist/is not available"}}]`, string(answer)) //nolint:testifylint // byte for byte
	_, answer = post(t, f, `[]`)
	require.Contains(t, string(answer), "-32600")
	_, answer = post(t, f, `x`)
	require.Contains(t, string(answer), "-32700")
	_, answer = post(t, f, `{"method":"eth_chainId"}`)
	require.Empty(t, answer)
	require.Len(t, f.Calls(), 4)
	for _, tc := range []struct {
		method, path, kind string
		want               int
	}{
		{http.MethodGet, "/", "", 200},
		{http.MethodPut, "/", "application/json", 405},
		{http.MethodPost, "/engine/v1", "application/json", 404},
		{http.MethodPost, "/", "text/plain", 415},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, f.URL()+tc.path, strings.NewReader("{}"))
		require.NoError(t, err)
		req.Header.Set("Content-Type", tc.kind)
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, tc.want, res.StatusCode, tc)
	}
}

func TestFaultsHoldForTheirMethodsAndAsOftenAsTold(t *testing.T) {
	f := started(t, Config{})
	f.Fail(Fault{Methods: []string{"eth_chainId"}, Times: 2, Status: http.StatusServiceUnavailable, ContentType: "text/plain", Body: "busy"})
	require.True(t, send(t, f, `{"id":1,"method":"eth_blockNumber"}`).OK())
	for range 2 {
		status, answer := post(t, f, `{"id":1,"method":"eth_chainId"}`)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Equal(t, "busy", string(answer))
	}
	require.True(t, send(t, f, `{"id":1,"method":"eth_chainId"}`).OK())
	f.Fail(Fault{Garble: true, Body: "<html>", Latency: time.Millisecond})
	require.True(t, send(t, f, `{"id":1,"method":"eth_chainId"}`).Malformed)
	f.Recover()
	require.True(t, send(t, f, `{"id":1,"method":"eth_chainId"}`).OK())
}

// answered sends in the background and is the error of the sender.
func answered(ctx context.Context, t *testing.T, f *Fake, body string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL(), strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	go func() {
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err == nil {
			err = res.Body.Close()
		}
		done <- err
	}()
	return done
}

func TestAnAnswerThatIsLostWasExecuted(t *testing.T) {
	f := started(t, Config{})
	b := branch(GenesisBlock, 1, 1)
	apply(t, f, b, common.Hash{})
	f.Fail(Fault{Lost: true, Times: 1})
	require.Error(t, <-answered(t.Context(), t, f, forkchoice(GenesisBlock.Hash, common.Hash{})))
	require.Equal(t, GenesisBlock, f.Head())
}

// A process that was stopped executes what waited in its sockets when it goes on.
func TestAHungCallIsExecutedAfterItsCallerHasLeft(t *testing.T) {
	f := started(t, Config{})
	b := branch(GenesisBlock, 1, 1)
	f.Fail(Fault{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	done := answered(ctx, t, f, newPayload(b[0]))
	require.Eventually(t, func() bool { return len(f.Calls()) == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Zero(t, f.Calls()[0].HTTPStatus)
	f.Recover()
	require.Eventually(t, func() bool { return f.Calls()[0].HTTPStatus == http.StatusOK }, 10*time.Second, time.Millisecond)
	require.Equal(t, engineapi.StatusValid, send(t, f, newPayload(b[0])).Status)
}

func TestAHungCallDiesWithItsProcess(t *testing.T) {
	for _, end := range []func(*Fake){(*Fake).Stop, (*Fake).Kill} {
		f := started(t, Config{})
		b := branch(GenesisBlock, 1, 1)
		f.Fail(Fault{Hang: true})
		done := answered(t.Context(), t, f, newPayload(b[0]))
		require.Eventually(t, func() bool { return len(f.Calls()) == 1 }, 10*time.Second, time.Millisecond)
		end(f)
		require.Error(t, <-done)
		require.Error(t, <-answered(t.Context(), t, f, newPayload(b[0])), "the port is closed")
		f.Recover()
		require.NoError(t, f.Start())
		require.Error(t, f.Start())
		require.Equal(t, engineapi.StatusSyncing, send(t, f, forkchoice(b[0].Hash, common.Hash{})).Status, "it was never executed")
		f.Forget()
		require.Empty(t, f.CallsOf(engineapi.ClassForkchoice))
	}
}
