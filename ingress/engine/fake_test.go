package engine

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

// twin is a client and a door before another one that is just like it.
type twin struct {
	t                *testing.T
	direct, proxied  *eltest.Fake
	door             *front
	directly, atDoor string
}

func newTwin(t *testing.T) *twin {
	t.Helper()
	secret := secretOf(callerSecret)
	w := &twin{t: t, direct: eltest.NewFake(eltest.Config{Secret: &secret}), proxied: eltest.NewFake(eltest.Config{Secret: &secret})}
	for _, f := range []*eltest.Fake{w.direct, w.proxied} {
		require.NoError(t, f.Start())
		t.Cleanup(f.Stop)
	}
	w.door = made(t, w.proxied.URL(), func(c *Config) { c.PrimaryJWTSecret = "" }).run()
	w.directly, w.atDoor = w.direct.URL()+"/", w.door.url()
	return w
}

// both makes the same call of both.
func (w *twin) both(body string) (direct, proxied said) {
	w.t.Helper()
	var errs [2]error
	direct, errs[0] = w.door.post(w.directly, body)
	proxied, errs[1] = w.door.post(w.atDoor, body)
	require.NoError(w.t, errs[0])
	require.NoError(w.t, errs[1])
	return direct, proxied
}

func TestI01WhateverThePrimaryAnswersTheDoorAnswers(t *testing.T) {
	w := newTwin(t)
	parent := eltest.GenesisBlock
	hash := func(b eltest.Block) string { return `"` + b.Hash.Hex() + `"` }
	for n, fault := range []*eltest.Fault{
		nil,
		{Times: 1, Status: http.StatusInternalServerError, Body: `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"x"}}`},
		{Times: 1, Status: http.StatusForbidden, ContentType: "text/plain", Body: "invalid host specified\n"},
		{Times: 1, Status: http.StatusTooManyRequests},
		{Times: 1, Garble: true, Body: `{"jsonrpc":"2.0","id":1,"result":{"status":"BOGUS"`},
		{Times: 1, Latency: 20 * time.Millisecond},
	} {
		b := eltest.Child(parent, uint64(n))
		for _, body := range []string{
			rpc("1", "engine_newPayloadV1", string(eltest.Payload(b))),
			"[" + rpc("1", "engine_newPayloadV1", string(eltest.Payload(b))) + "," + rpc("2", "eth_blockNumber", "") + "]",
			forkchoice("3", hash(b), "null"),
			rpc("4", "eth_getBlockByNumber", `"latest",false`),
			newPayload("5", hashA, hashB),
		} {
			if fault != nil {
				w.direct.Fail(*fault)
				w.proxied.Fail(*fault)
			}
			direct, proxied := w.both(body)
			require.Equal(t, direct.status, proxied.status)
			require.Equal(t, direct.body, proxied.body)
			require.Equal(t, direct.header.Get("Content-Type"), proxied.header.Get("Content-Type"))
		}
		// Whatever failed is made up for, as a consensus client does.
		w.both(rpc("1", "engine_newPayloadV1", string(eltest.Payload(b))))
		w.both(forkchoice("3", hash(b), "null"))
		require.Equal(t, b.Hash, w.proxied.Head().Hash)
		require.Equal(t, w.direct.Head(), w.proxied.Head())
		parent = b
	}
	for i, s := range w.proxied.Calls() {
		require.Equal(t, string(s.Call.Raw), string(w.direct.Calls()[i].Call.Raw))
		require.Equal(t, string(s.Call.Raw), string(w.door.book.asked()[i].Raw))
	}
}

func TestAPrimaryThatIsRestartedIsFoundAgainAtOnce(t *testing.T) {
	w := newTwin(t)
	for range 3 {
		require.Equal(t, 200, w.door.call(rpc("1", "eth_blockNumber", "")).status)
		w.proxied.Kill()
		require.Equal(t, 502, w.door.call(forkchoice("1", hashA, "null")).status)
		require.NoError(t, w.proxied.Start())
		require.Equal(t, 200, w.door.call(rpc("1", "eth_blockNumber", "")).status)
	}
	lost := 0
	for n := range w.door.book.asked() {
		o := w.door.book.outcome(t, uint64(n+1))
		require.True(t, o.Eligible)
		if o.Unknown != "" {
			lost++
			require.Equal(t, engineapi.Result{}, o.Result)
		}
	}
	require.Equal(t, 3, lost)
}
