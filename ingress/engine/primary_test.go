package engine

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// second is another client, as a Target.
func second(t *testing.T, p *primary, n byte) Target {
	t.Helper()
	return Target{Name: "second", URL: p.URL, JWTSecret: secretFile(t, n)}
}

func TestAfterAPromotionEachPayloadIDGoesToItsIssuer(t *testing.T) {
	a, b := newPrimary(t, primarySecret), newPrimary(t, 0x22)
	for i, p := range []*primary{a, b} {
		p.set(func(w http.ResponseWriter, _ *http.Request, body []byte) {
			_, _ = w.Write(results(body, `{"payloadStatus":`+valid+`,"payloadId":"0x0`+strconv.Itoa(i)+`"}`))
		})
	}
	f := open(t, a)
	require.Equal(t, "primary", f.Primary().Name)
	f.call(forkchoice("1", hashA, `{"timestamp":"0x1"}`))
	require.NoError(t, f.SetPrimary(t.Context(), second(t, b, 0x22)))
	require.Equal(t, "second", f.Primary().Name)
	f.call(forkchoice("2", hashA, `{"timestamp":"0x1"}`))
	require.Len(t, a.calls(), 1)
	require.Len(t, b.calls(), 1)
	require.NoError(t, b.secret.Verify(b.calls()[0].header.Get("Authorization"), time.Now()))

	get := func(id string) string { return rpc("3", "engine_getPayloadV3", `"`+id+`"`) }
	f.call(get("0x00"))
	require.Len(t, a.calls(), 2)
	require.NoError(t, a.secret.Verify(a.calls()[1].header.Get("Authorization"), time.Now()), "signed with its own secret still")
	f.call(get("0x01"))
	f.call(get("0x02"))
	require.Len(t, b.calls(), 3)
	f.call("[" + get("0x00") + "]")
	require.Len(t, a.calls(), 3)
	f.call("[" + get("0x00") + "," + get("0x01") + "]")
	require.Len(t, b.calls(), 4, "what has no one issuer is the primary's")
	_, _, _, err := f.Replay(t.Context(), f.Term(), f.Generation(), []byte(newPayload("1", hashA, zero)))
	require.NoError(t, err)
	require.Len(t, b.calls(), 5)
	require.Contains(t, f.log.String(), "primary changed")

	// Back and forth is no new client each time.
	back := Target{Name: "primary", URL: a.URL, JWTSecret: f.cfg.PrimaryJWTSecret}
	to := f.order.primary.Target
	for range 3 {
		require.NoError(t, f.SetPrimary(t.Context(), back))
		require.NoError(t, f.SetPrimary(t.Context(), to))
	}
	require.Len(t, f.order.targets, 2)
}

func TestIssuersForgetTheOldestFirst(t *testing.T) {
	var s issuers
	x := &target{}
	for i := range maxIssued + 1 {
		s.set(strconv.Itoa(i), x)
		s.set(strconv.Itoa(i), x)
	}
	require.Nil(t, s.of("0"))
	require.NotNil(t, s.of("1"))
	require.Len(t, s.byID, maxIssued)
}

func TestDuringAPromotionsCheckNoStateMovingCallIsDispatched(t *testing.T) {
	a, b := newPrimary(t, primarySecret), newPrimary(t, 0x22)
	f := open(t, a)
	f.call(forkchoice("1", hashA, "null"))
	waited := make(chan said, 1)
	err := f.Promote(t.Context(), second(t, b, 0x22), func(_ context.Context, g Generation) error {
		require.Equal(t, Generation(1), g)
		go func() {
			s, _ := f.try(t.Context(), "POST", "/", strings.NewReader(forkchoice("2", hashA, "null")))
			waited <- s
		}()
		require.Equal(t, 200, f.call(rpc("3", "eth_syncing", "")).status, "reads go on")
		require.Len(t, a.calls(), 2)
		require.Equal(t, Generation(1), f.Generation())
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 200, (<-waited).status)
	require.Len(t, b.calls(), 1, "it went to the new primary")
}

func TestAForwardingDoorDoesNotPromoteAClientThatWouldRefuseItsCaller(t *testing.T) {
	a, b := newPrimary(t, primarySecret), newPrimary(t, 0x22)
	judged := func(p *primary) {
		p.set(func(w http.ResponseWriter, r *http.Request, body []byte) {
			if err := p.secret.Verify(r.Header.Get("Authorization"), time.Now()); err != nil {
				http.Error(w, err.Error(), http.StatusUnauthorized)
				return
			}
			_, _ = w.Write(results(body, "null"))
		})
	}
	judged(a)
	judged(b)
	ok := func(context.Context, Generation) error { return nil }
	f := open(t, a, forwarding)
	ask := func(n byte) int {
		return f.call(rpc("1", "eth_syncing", ""), "Authorization: "+secretOf(n).Authorization(time.Now())).status
	}
	other := second(t, b, 0x22)
	require.ErrorIs(t, f.Promote(t.Context(), other, ok), ErrOtherSecret, "nothing is known of the caller's secret")
	require.Equal(t, 200, ask(primarySecret))
	require.ErrorIs(t, f.Promote(t.Context(), other, ok), ErrOtherSecret)
	require.Equal(t, "primary", f.Primary().Name)
	require.Equal(t, 200, ask(primarySecret), "the caller is not locked out")
	require.Empty(t, b.calls())

	// One whose secret signs what the primary takes.
	b.secret = secretOf(primarySecret)
	require.NoError(t, f.Promote(t.Context(), second(t, b, primarySecret), ok))
	require.Equal(t, 200, ask(primarySecret))
	require.Len(t, b.calls(), 1)
	require.ErrorIs(t, f.SetPrimary(t.Context(), other), ErrOtherSecret, "the primary's secret is known now")
	require.NoError(t, f.Promote(t.Context(), Target{Name: "primary", URL: a.URL}, ok), "without a secret of its own")
}

func TestAForwardingDoorStartsWithTheClientThatWasPromoted(t *testing.T) {
	a, b := newPrimary(t, primarySecret), newPrimary(t, primarySecret)
	f := open(t, a, forwarding)
	require.NoError(t, f.SetPrimary(t.Context(), second(t, b, primarySecret)), "no token came yet")
	known := open(t, a, forwarding, func(c *Config) { c.PrimaryJWTSecret = secretFile(t, primarySecret) })
	require.NoError(t, known.SetPrimary(t.Context(), second(t, b, primarySecret)))
	require.ErrorIs(t, known.SetPrimary(t.Context(), second(t, a, 0x22)), ErrOtherSecret)
}

func TestARefusedPromotionChangesNothing(t *testing.T) {
	a, b := newPrimary(t, primarySecret), newPrimary(t, 0x22)
	f := open(t, a)
	refusal := errors.New("three blocks behind")
	require.ErrorIs(t, f.Promote(t.Context(), second(t, b, 0x22), func(context.Context, Generation) error { return refusal }), refusal)
	require.ErrorIs(t, f.SetPrimary(t.Context(), Target{Name: "x", URL: "ftp://x"}), ErrConfig)
	require.Error(t, f.SetPrimary(t.Context(), Target{Name: "x", URL: b.URL, JWTSecret: "/nonexistent"}))
	f.call(forkchoice("1", hashA, "null"))
	require.Len(t, a.calls(), 1)
	require.Empty(t, b.calls())
}

func TestAPromotionWaitsForCallsInFlightButNotForADeadPrimary(t *testing.T) {
	a, b := newPrimary(t, primarySecret), newPrimary(t, 0x22)
	came := make(chan struct{})
	a.set(func(_ http.ResponseWriter, r *http.Request, _ []byte) { close(came); <-r.Context().Done() })
	f := open(t, a, func(c *Config) { c.Timeout = 5 * time.Second })
	hung := make(chan int, 1)
	go func() {
		s, _ := f.try(t.Context(), "POST", "/", strings.NewReader(newPayload("1", hashA, zero)))
		hung <- s.status
	}()
	<-came
	require.NoError(t, f.SetPrimary(t.Context(), second(t, b, 0x22)))
	require.Equal(t, 200, f.call(newPayload("2", hashA, zero)).status)
	_, _, _, err := f.Replay(t.Context(), f.Term(), f.Generation(), []byte(newPayload("3", hashB, hashA)))
	require.NoError(t, err, "what hangs at the old primary does not hold up the new one's replayer")
	require.Len(t, b.calls(), 2)
	require.NoError(t, f.SetPrimary(t.Context(), Target{Name: "primary", URL: a.URL, JWTSecret: f.cfg.PrimaryJWTSecret}))
	_, _, _, err = f.Replay(t.Context(), f.Term(), f.Generation(), []byte(newPayload("4", hashB, hashA)))
	require.ErrorIs(t, err, ErrOvertaken, "the old one again: the call still is under way there")
	require.NoError(t, f.SetPrimary(t.Context(), second(t, b, 0x22)))
	a.CloseClientConnections()
	require.Equal(t, 502, <-hung)
	_, down := f.PrimaryDown()
	require.False(t, down, "the old one's failure is not the new one's")
}

func TestAReplayDecidedForTheOldPrimaryNeverReachesTheNewOne(t *testing.T) {
	a, b := newPrimary(t, primarySecret), newPrimary(t, 0x22)
	f := open(t, a)
	term, decided := f.Term(), f.Generation()
	steps := []string{forkchoice("1", hashA, "null"), newPayload("2", hashA, zero), rpc("3", "eth_syncing", "")}
	waiting := make(chan error, 1)
	require.NoError(t, f.Promote(t.Context(), second(t, b, 0x22), func(context.Context, Generation) error {
		require.Equal(t, term, f.Term())
		go func() { // it waits at the lock that the promotion holds
			_, _, _, err := f.Replay(t.Context(), term, decided, []byte(steps[0]))
			waiting <- err
		}()
		return nil
	}))
	require.ErrorIs(t, <-waiting, ErrOvertaken)
	for _, step := range steps {
		_, _, _, err := f.Replay(t.Context(), term, decided, []byte(step))
		require.ErrorIs(t, err, ErrOvertaken, step)
	}
	require.Empty(t, b.calls())

	// Nor the old one, when it is the primary again: what it said then may not hold any more.
	require.NoError(t, f.SetPrimary(t.Context(), Target{Name: "primary", URL: a.URL, JWTSecret: f.cfg.PrimaryJWTSecret}))
	_, _, _, err := f.Replay(t.Context(), term, decided, []byte(steps[0]))
	require.ErrorIs(t, err, ErrOvertaken)
	require.Empty(t, a.calls())
	_, _, _, err = f.Replay(t.Context(), f.Term(), decided, []byte(steps[0]))
	require.NoError(t, err)
}

func TestAReplayedForkchoiceInFlightIsCutOffByAChangeOfThePrimary(t *testing.T) {
	a, b := newPrimary(t, primarySecret), newPrimary(t, 0x22)
	came := make(chan struct{})
	a.set(func(_ http.ResponseWriter, r *http.Request, _ []byte) { close(came); <-r.Context().Done() })
	f := open(t, a)
	replayed := make(chan error, 1)
	go func() {
		_, _, _, err := f.Replay(t.Context(), f.Term(), 0, []byte(forkchoice("99", hashA, "null")))
		replayed <- err
	}()
	<-came
	require.NoError(t, f.SetPrimary(t.Context(), second(t, b, 0x22)))
	require.ErrorIs(t, <-replayed, ErrOvertaken)
	_, _, _, err := f.Replay(t.Context(), f.Term(), f.Generation(), []byte(forkchoice("98", hashA, "null")))
	require.NoError(t, err)
}

func TestTheDoorSeesThePrimaryGoAndComeBack(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	p.set(func(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) })
	require.Equal(t, 502, f.call(rpc("1", "x", "")).status)
	since, down := f.PrimaryDown()
	require.True(t, down)
	require.WithinDuration(t, time.Now(), since, time.Minute)
	require.Equal(t, 502, f.call(rpc("1", "x", "")).status)
	again, _ := f.PrimaryDown()
	require.Equal(t, since, again)
	p.says(503, "no upstream")
	require.Equal(t, 503, f.call(rpc("1", "x", "")).status)
	_, down = f.PrimaryDown()
	require.True(t, down)
	p.says(200, "{}")
	require.Equal(t, 200, f.call(rpc("1", "x", "")).status)
	_, down = f.PrimaryDown()
	require.False(t, down)
	require.Equal(t, 1, strings.Count(f.log.String(), "primary answers again"))
}

func TestAProbeTellsAPrimaryThatFailedOnceFromOneThatIsGone(t *testing.T) {
	p := newPrimary(t, primarySecret)
	for _, change := range []func(*Config){func(*Config) {}, forwarding} { // the second has no token
		f := open(t, p, change)
		p.set(func(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) })
		require.Equal(t, 502, f.call(rpc("1", "x", "")).status)
		require.Error(t, f.Probe(t.Context()))
		p.says(503, "no upstream")
		require.ErrorIs(t, f.Probe(t.Context()), errGateway)
		_, down := f.PrimaryDown()
		require.True(t, down)
		for _, status := range []int{200, 401} {
			p.says(status, "{}")
			require.NoError(t, f.Probe(t.Context()))
			_, down = f.PrimaryDown()
			require.False(t, down)
		}
		require.Len(t, f.book.asked(), 1, "a probe is not the consensus client's")
	}
}

const ours = `{"code":"GE","name":"go-ethereum","version":"1","commit":"0x0"}`

func TestClientVersionsAreOneFlatList(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	call := rpc("1", "engine_getClientVersionV1", `{"code":"LH"}`)
	answer := func(body string) { p.says(200, body) }
	one := `{"jsonrpc":"2.0","id":1,"result":[` + ours + `] }` + "\n"
	answer(one)
	require.Equal(t, one, f.call(call).body, "nothing known of others")

	f.Versions("zeta", [][]byte{[]byte(`{"code":"Z"}`)})
	f.Versions("alpha", [][]byte{[]byte(`{"code":"A"}`), []byte(`{"code":"B"}`), []byte(`[]`), []byte(`{`), []byte(`{"x":"` + strings.Repeat("y", maxVersionSize) + `"}`)})
	want := `{"jsonrpc":"2.0","id":1,"result":[` + ours + `,{"code":"A"},{"code":"B"},{"code":"Z"}] }` + "\n"
	s := f.call(call)
	require.Equal(t, want, s.body, "the primary's first, then by name")
	require.Equal(t, strconv.Itoa(len(want)), s.header.Get("Content-Length"))
	require.Equal(t, int64(len(one)), f.book.outcome(t, 2).Size, "the record has the primary's")

	answer(`{"jsonrpc":"2.0","id":1,"result":[ ]}`)
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":[ {"code":"A"},{"code":"B"},{"code":"Z"}]}`, f.call(call).body) //nolint:testifylint // byte for byte
	for _, left := range []string{`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`, `{"jsonrpc":"2.0","id":1,"result":null}`, `{`, ``, `[]`} {
		answer(left)
		require.Equal(t, left, f.call(call).body)
	}
	answer(one)
	require.Equal(t, one, f.call(rpc("1", "eth_chainId", "")).body)

	answer(`[{"id":5,"result":["0x1"]},{"id":6,"result":[` + ours + `]}]`)
	batch := `[` + rpc("5", "engine_exchangeCapabilities", "[]") + `,` + rpc("6", "engine_getClientVersionV1", "{}") + `]`
	require.Equal(t, `[{"id":5,"result":["0x1"]},{"id":6,"result":[`+ours+`,{"code":"A"},{"code":"B"},{"code":"Z"}]}]`, f.call(batch).body) //nolint:testifylint // byte for byte

	f.Versions("alpha", nil)
	f.Versions("zeta", nil)
	answer(one)
	require.Equal(t, one, f.call(call).body)
}

func TestClientVersionsCanBeLeftAlone(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p, func(c *Config) { c.ClientVersions = Off })
	f.Versions("a", [][]byte{[]byte(`{"code":"A"}`)})
	p.says(200, `{"jsonrpc":"2.0","id":1,"result":[`+ours+`]}`)
	require.NotContains(t, f.call(rpc("1", "engine_getClientVersionV1", "{}")).body, `"A"`)
}

func TestACompressedAnswerIsLeftAlone(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	f.Versions("a", [][]byte{[]byte(`{"code":"A"}`)})
	p.set(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Encoding", "identity")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":[`+ours+`]}`)
	})
	require.NotContains(t, f.call(rpc("1", "engine_getClientVersionV1", "{}")).body, `"A"`)
}
