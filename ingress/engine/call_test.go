package engine

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

// sample is the capture of a real client: 53 calls over six forks.
func sample(tb testing.TB) (asked, answered [][]byte) {
	tb.Helper()
	f, err := os.Open("../../internal/eltest/testdata/sample.jsonl")
	require.NoError(tb, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var line struct{ Req, Resp json.RawMessage }
		require.NoError(tb, json.Unmarshal(lines.Bytes(), &line))
		asked, answered = append(asked, line.Req), append(answered, line.Resp)
	}
	require.NoError(tb, lines.Err())
	require.Len(tb, asked, 53)
	return asked, answered
}

func TestI01TheConsensusClientGetsThePrimarysBytes(t *testing.T) {
	asked, answered := sample(t)
	p := newPrimary(t, primarySecret)
	p.set(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		i := slices.IndexFunc(asked, func(a []byte) bool { return bytes.Equal(a, body) })
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answered[i])
	})
	f := open(t, p)
	for i, body := range asked {
		s := f.call(string(body))
		require.Equal(t, 200, s.status)
		require.Equal(t, string(answered[i]), s.body)
		require.Equal(t, string(body), string(p.calls()[i].body))
	}
	// And what was recorded is the same, in the order of dispatch.
	for i, r := range f.book.asked() {
		n := uint64(i + 1)
		require.Equal(t, record.ID{Epoch: epoch, Sequence: n}, r.ID)
		require.Equal(t, string(asked[i]), string(r.Raw))
		require.True(t, r.Verified)
		require.Zero(t, r.Batch)
		o := f.book.outcome(t, n)
		require.Equal(t, engineapi.ParseResult(200, answered[i]), o.Result)
		require.Equal(t, int64(len(answered[i])), o.Size)
		require.Equal(t, sha256.Sum256(answered[i]), o.SHA256)
		require.True(t, o.Eligible)
		require.Equal(t, r.Method, o.Method)
		require.Equal(t, r.Class == engineapi.ClassPayload, o.Built != nil)
		require.Equal(t, r.Class == engineapi.ClassForkchoice, r.Forkchoice != nil)
		require.Equal(t, r.Class == engineapi.ClassReplay, r.Payload != nil)
	}
}

func TestI01StatusAndHeadersOfThePrimaryComeBackUnchanged(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	for _, tc := range []struct {
		status int
		header map[string]string
		body   string
	}{
		{200, map[string]string{"Content-Type": "application/json"}, `{"jsonrpc":"2.0","id":1,"result":0}`},
		{200, map[string]string{"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}, "\x1f\x8b no gzip"},
		{200, map[string]string{"Content-Type": "application/json"}, ""},
		{204, nil, ""},
		{301, map[string]string{"Content-Type": "text/html", "Location": "/elsewhere"}, "moved"},
		{401, map[string]string{"Content-Type": "text/plain; charset=utf-8", "Www-Authenticate": "Bearer"}, "stale token\n"},
		{403, map[string]string{"Content-Type": "text/plain; charset=utf-8"}, "invalid host specified\n"},
		{418, map[string]string{"Content-Type": "x/y", "X-Anything": "some"}, "<teapot>"},
		{503, map[string]string{"Content-Type": "text/html"}, "<html>"},
	} {
		p.set(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			for name, value := range tc.header {
				w.Header().Set(name, value)
			}
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		})
		f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		s := f.call(rpc("1", "eth_chainId", ""))
		require.Equal(t, tc.status, s.status)
		require.Equal(t, tc.body, s.body)
		for name, value := range tc.header {
			require.Equal(t, value, s.header.Get(name))
		}
	}
}

func TestHeadersOfOneConnectionGoNoFurther(t *testing.T) {
	p := newPrimary(t, primarySecret)
	p.set(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Connection", "X-Back")
		w.Header().Set("X-Back", "hop")
		w.Header().Set("Keep-Alive", "timeout=1")
		w.Header().Set("X-End", "end")
	})
	f := open(t, p)
	s := f.call(rpc("1", "x", ""), "Connection: X-Forth", "X-Forth: hop", "Proxy-Authorization: secret", "Te: trailers",
		"Accept-Encoding: gzip", "X-Far: end", "User-Agent: lighthouse/8", "Expect: ")
	require.Empty(t, s.header.Get("X-Back"))
	require.Empty(t, s.header.Get("Keep-Alive"))
	require.Equal(t, "end", s.header.Get("X-End"))
	g := p.calls()[0]
	require.Equal(t, p.Listener.Addr().String(), g.host, "the target's own name")
	require.Equal(t, "end", g.header.Get("X-Far"))
	require.Equal(t, "lighthouse/8", g.header.Get("User-Agent"))
	for _, name := range []string{"X-Forth", "Proxy-Authorization", "Te", "Accept-Encoding", "Connection"} {
		require.NotContains(t, g.header, name)
	}
}

func TestI10EveryTokenIsTheTargetsOwnAndNoneIsKept(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	f.call(forkchoice("1", hashA, "null"))
	f.call("[" + rpc("2", "eth_chainId", "") + "]")
	f.call(rpc("3", "eth_chainId", ""), "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJpYXQiOiJleUoifQ.x")
	p.CloseClientConnections()
	p.Close()
	f.call(rpc("4", "eth_chainId", ""))
	require.Len(t, p.calls(), 2)
	for _, g := range p.calls() {
		value := g.header.Get("Authorization")
		require.NoError(t, p.secret.Verify(value, time.Now()))
		for _, at := range []time.Duration{-54 * time.Second, 54 * time.Second} {
			require.NoError(t, p.secret.Verify(value, time.Now().Add(at)), "issued now")
		}
		require.Error(t, secretOf(callerSecret).Verify(value, time.Now()))
	}
	f.book.outcome(t, 3)
	require.NotContains(t, string(f.book.encoded()), "eyJ")
	require.NotContains(t, f.log.String(), "eyJ")
	require.NotContains(t, strings.ToLower(string(f.book.encoded())), "bearer")
	_, ok := f.LiveToken()
	require.False(t, ok)
}

func TestI11AForwardedCallIsJudgedByThePrimary(t *testing.T) {
	p := newPrimary(t, primarySecret)
	p.set(func(w http.ResponseWriter, r *http.Request, body []byte) {
		if err := p.secret.Verify(r.Header.Get("Authorization"), time.Now()); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(results(body, "null"))
	})
	f := open(t, p, forwarding)
	require.Equal(t, 401, f.call(rpc("1", "x", ""), "Authorization: ").status)
	require.Empty(t, p.calls())

	s := f.call(forkchoice("1", hashA, "null")) // the consensus client's secret is not the primary's
	require.Equal(t, 401, s.status)
	require.Equal(t, "signature is invalid\n", s.body)
	require.False(t, f.book.asked()[0].Verified)
	require.False(t, f.book.outcome(t, 1).Eligible)
	require.Equal(t, 401, f.book.outcome(t, 1).HTTPStatus)
	_, ok := f.LiveToken()
	require.False(t, ok, "not taken")

	own := p.secret.Authorization(time.Now())
	require.Equal(t, 200, f.call(forkchoice("2", hashA, "null"), "Authorization: "+own).status)
	require.Equal(t, own, p.calls()[1].header.Get("Authorization"))
	require.False(t, f.book.asked()[1].Verified)
	require.True(t, f.book.outcome(t, 2).Eligible, "the primary vouched for it")
	kept, ok := f.LiveToken()
	require.True(t, ok)
	require.Equal(t, own, kept)

	p.CloseClientConnections()
	p.Close()
	require.Equal(t, 502, f.call(forkchoice("3", hashA, "null"), "Authorization: "+own).status)
	require.False(t, f.book.outcome(t, 3).Eligible, "nobody vouched for it")
	require.NotContains(t, string(f.book.encoded()), "eyJ")
	require.NotContains(t, f.log.String(), "eyJ")
}

func TestI15BatchItemsAreRecordedInArrayOrderUnderOneBatch(t *testing.T) {
	p := newPrimary(t, primarySecret)
	p.set(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		// Out of order, one without an answer.
		_, _ = io.WriteString(w, `[{"jsonrpc":"2.0","id":"b","result":`+valid+`},{"jsonrpc":"2.0","id":1,"error":{"code":-38001,"message":"no"}},{"jsonrpc":"2.0","id":1,"result":{"payloadStatus":`+valid+`}}]`)
	})
	f := open(t, p)
	f.call(rpc("9", "eth_chainId", ""))
	body := `[` + rpc("1", "engine_getPayloadV3", `"0x1"`) + ` , ` + newPayload(`"b"`, hashA, zero) + `,{"jsonrpc":"2.0","method":"eth_note"},` + forkchoice("1", hashA, "null") + `, 5]`
	f.call(body)
	rs := f.book.asked()[1:]
	require.Len(t, rs, 5)
	for i, r := range rs {
		require.Equal(t, uint64(i+2), r.Sequence)
		require.Equal(t, uint64(2), r.Batch)
	}
	require.Equal(t, []string{"engine_getPayloadV3", "engine_newPayloadV1", "eth_note", "engine_forkchoiceUpdatedV3", ""}, f.book.methods()[1:])
	require.Equal(t, newPayload(`"b"`, hashA, zero), string(rs[1].Raw))
	require.Equal(t, "5", string(rs[4].Raw))
	require.Equal(t, -38001, f.book.outcome(t, 2).Result.Code)
	require.Equal(t, engineapi.StatusValid, f.book.outcome(t, 3).Result.Status)
	require.Zero(t, f.book.outcome(t, 4).Size)
	require.Equal(t, engineapi.StatusValid, f.book.outcome(t, 5).Result.Status)
	require.Equal(t, body, string(p.calls()[1].body), "the primary got the batch as it was")
	alone := "[" + rpc("1", "eth_chainId", "") + "]"
	f.call(alone)
	require.Equal(t, uint64(7), f.book.asked()[6].Batch, "a batch of one is a batch")
}

func TestIdsInAnotherSpellingAreMatchedByPosition(t *testing.T) {
	x := &exchange{requests: make([]*record.Request, 2)}
	x.calls, x.batch, _ = engineapi.ParseCalls([]byte(`[` + rpc("1.0", "a", "") + `,` + rpc(`"\u0061"`, "b", "") + `]`))
	v := views(x, []byte(`[{"id":1,"result":1},{"id":"a","result":2}]`))
	require.Equal(t, []string{`{"id":1,"result":1}`, `{"id":"a","result":2}`}, []string{string(v[0]), string(v[1])})
	v = views(x, []byte(`{"id":null,"error":{"code":-32600}}`))
	require.Equal(t, v[0], v[1], "one answer for all")
}

func TestAnUnreachablePrimaryIsAnErrorUnderTheCallersOwnID(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	p.Close()
	const e = `,"error":{"code":-32603,"message":"the primary execution client is unreachable"}}`
	for body, want := range map[string]string{
		rpc("1", "x", ""):                      `{"jsonrpc":"2.0","id":1` + e,
		rpc(`"\u00e9"`, "x", ""):               `{"jsonrpc":"2.0","id":"\u00e9"` + e,
		rpc("null", "x", ""):                   `{"jsonrpc":"2.0","id":null` + e,
		rpc("12345678901234567890.5", "x", ""): `{"jsonrpc":"2.0","id":12345678901234567890.5` + e,
		rpc("[1]", "x", ""):                    `{"jsonrpc":"2.0","id":null` + e,
		rpc("nope", "x", ""):                   `{"jsonrpc":"2.0","id":null` + e,
		`{"jsonrpc":"2.0","method":"x"}`:       ``,
		`{`:                                    `{"jsonrpc":"2.0","id":null` + e,
		`[` + rpc("1", "x", "") + `,{"method":"n"},` + rpc("2", "y", "") + `]`: `[{"jsonrpc":"2.0","id":1` + e + `,{"jsonrpc":"2.0","id":2` + e + `]`,
	} {
		s := f.call(body)
		require.Equal(t, 502, s.status, body)
		require.Equal(t, want, s.body, body)
		require.Equal(t, "application/json", s.header.Get("Content-Type"))
	}
	o := f.book.outcome(t, 1)
	require.Equal(t, unknownUnreachable, o.Unknown)
	require.Zero(t, o.HTTPStatus)
	require.True(t, o.Eligible, "its token was verified here")
	_, down := f.PrimaryDown()
	require.True(t, down)
	require.Equal(t, 1, strings.Count(f.log.String(), "primary does not answer"))
}

func TestASlowPrimaryIsAnErrorToo(t *testing.T) {
	p := newPrimary(t, primarySecret)
	p.set(func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() })
	f := open(t, p, func(c *Config) { c.Timeout = time.Second })
	s := f.call(newPayload("1", hashA, zero))
	require.Equal(t, 504, s.status)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the primary execution client did not answer in time"}}`, s.body)
	require.Equal(t, unknownTimeout, f.book.outcome(t, 1).Unknown)
	require.Equal(t, 1, counter(t, f, "millrace_engine_calls_total", "outcome", outcomeTimeout))
}

func TestAnAnswerCutShortIsNotPassedOn(t *testing.T) {
	p := newPrimary(t, primarySecret)
	p.set(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":`)
	})
	f := open(t, p)
	s := f.call(rpc("1", "x", ""))
	require.Equal(t, 502, s.status)
	require.Contains(t, s.body, `"code":-32603`)
	require.Equal(t, unknownCut, f.book.outcome(t, 1).Unknown)
}

func TestAGatewayWithoutItsClientLeavesAVerifiedCallEligible(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	for n, tc := range []struct {
		status   int
		eligible bool
	}{{503, true}, {502, true}, {504, true}, {500, false}, {401, false}, {429, false}} {
		p.says(tc.status, "x")
		require.Equal(t, tc.status, f.call(forkchoice("1", hashA, "null")).status)
		o := f.book.outcome(t, uint64(n+1))
		require.Equal(t, tc.eligible, o.Eligible, tc.status)
		require.Equal(t, tc.eligible, o.Unknown != "", tc.status)
	}
	require.Contains(t, f.log.String(), "primary refuses the token")
}
