package engine

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/egress/engine/chain"
	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

func secretOf(t *testing.T, b byte) engineapi.Secret {
	t.Helper()
	s, err := engineapi.ParseSecret(strings.Repeat(string([]byte{b}), 64))
	require.NoError(t, err)
	return s
}

func TestI10EveryRequestHasATokenOfItsOwnMintedAtThatMoment(t *testing.T) {
	secret := secretOf(t, 'a')
	f := eltest.NewFake(eltest.Config{Secret: &secret})
	require.NoError(t, f.Start())
	defer f.Stop()
	h, err := NewHTTP(HTTPConfig{URL: f.URL(), Secret: secret})
	require.NoError(t, err)
	defer h.Close()
	for range 3 {
		status, answer, date, err := h.Call(t.Context(), []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}`))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		require.NotEmpty(t, engineapi.ResultOf(answer))
		require.WithinDuration(t, time.Now(), date, 5*time.Second)
	}
	for _, s := range f.Calls() {
		require.NoError(t, secret.Verify(s.Authorization, s.At))
		require.NoError(t, secret.Verify(s.Authorization, s.At.Add(55*time.Second)), "minted now")
	}

	other, err := NewHTTP(HTTPConfig{URL: f.URL(), Secret: secretOf(t, 'b')})
	require.NoError(t, err)
	defer other.Close()
	status, answer, _, err := other.Call(t.Context(), []byte(`{}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, string(answer), "signature is invalid")
}

func TestACallerWithoutASecretUsesTheTokenThatThereIs(t *testing.T) {
	secret := secretOf(t, 'a')
	f := eltest.NewFake(eltest.Config{Secret: &secret})
	require.NoError(t, f.Start())
	defer f.Stop()
	token := errors.New("unset")
	h, err := NewHTTP(HTTPConfig{URL: f.URL(), Token: func(now time.Time) (string, error) {
		return secret.Authorization(now), token
	}})
	require.NoError(t, err)
	defer h.Close()
	token = ErrNoToken
	_, _, _, err = h.Call(t.Context(), []byte(`{}`))
	require.ErrorIs(t, err, ErrNoToken)
	require.Empty(t, f.Calls())
	token = nil
	status, _, _, err := h.Call(t.Context(), []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
}

func TestATokenIsNotCarriedToAnotherHost(t *testing.T) {
	var got []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
	}))
	defer other.Close()
	s := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	h, err := NewHTTP(HTTPConfig{URL: s.URL, Secret: secretOf(t, 'a')})
	require.NoError(t, err)
	defer h.Close()
	status, _, _, err := h.Call(t.Context(), []byte(`{}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusTemporaryRedirect, status)
	require.Empty(t, got)
}

func TestOverHTTPAClientThatIsKilledAndStartedAgainIsCaughtUp(t *testing.T) {
	b := newBench(t)
	b.slots(40)
	secret := secretOf(t, 'c')
	k := newKit(b, eltest.Config{Secret: &secret, OnKill: eltest.KillLoses})
	f := k.client.f
	require.NoError(t, f.Start())
	h, err := NewHTTP(HTTPConfig{URL: f.URL(), Secret: secret})
	require.NoError(t, err)
	k.target.Caller = h
	k.cfg.RetryMin, k.cfg.RetryMax, k.cfg.ProbeEvery = time.Millisecond, 10*time.Millisecond, 5*time.Millisecond
	k.start()
	defer func() {
		k.stop()
		h.Close()
		f.Stop()
	}()
	arrived := func() bool { return f.Head() == b.head && k.r.Status().State == Live }
	require.Eventually(t, arrived, 20*time.Second, 5*time.Millisecond)
	for range 3 {
		f.Kill()
		b.slots(5)
		require.NoError(t, f.Start())
		b.slots(5)
		require.Eventually(t, arrived, 20*time.Second, 5*time.Millisecond)
	}
	for _, s := range f.Calls() {
		require.NoError(t, secret.Verify(s.Authorization, s.At))
	}
}

func TestACallerEndsWithItsContextAndKnowsAGoneClient(t *testing.T) {
	f := eltest.NewFake(eltest.Config{})
	require.NoError(t, f.Start())
	h, err := NewHTTP(HTTPConfig{URL: f.URL()})
	require.NoError(t, err)
	defer h.Close()
	f.Fail(eltest.Fault{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, _, _, err = h.Call(ctx, []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}`))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	f.Stop()
	_, _, _, err = h.Call(t.Context(), []byte(`{}`))
	require.Error(t, err)
	for _, bad := range []string{"", "localhost:8551", "ws://x", "http://", "http://%zz"} {
		_, err := NewHTTP(HTTPConfig{URL: bad})
		require.Error(t, err, bad)
	}
}

func TestTheTableOfOutcomes(t *testing.T) {
	status := func(s engineapi.Status) engineapi.Result { return engineapi.Result{HTTPStatus: 200, Status: s} }
	code := func(c int) engineapi.Result { return engineapi.Result{HTTPStatus: 200, Code: c} }
	httpStatus := func(c int) engineapi.Result { return engineapi.Result{HTTPStatus: c, Malformed: true} }
	for _, c := range []struct {
		r            engineapi.Result
		err          error
		payload, fcu fate
	}{
		{r: status("VALID"), payload: accepted, fcu: accepted},
		{r: status("ACCEPTED"), payload: forced, fcu: stuck},
		{r: status("SYNCING"), payload: stuck, fcu: stuck},
		{r: status("MISSING_STATE"), payload: stuck, fcu: stuck},
		{r: status("BRAND_NEW"), payload: stuck, fcu: stuck},
		{r: status("INVALID"), payload: refused, fcu: refused},
		{r: status("INVALID_BLOCK_HASH"), payload: refused, fcu: refused},
		{r: code(-32602), payload: faulty, fcu: faulty},
		{r: code(-38005), payload: faulty, fcu: faulty},
		{r: code(-38003), payload: faulty, fcu: faulty},
		{r: code(-38002), payload: faulty, fcu: anchorless},
		{r: code(-38006), payload: faulty, fcu: tooDeep},
		{r: code(-32601), payload: unsupported, fcu: unsupported},
		{r: code(-32603), payload: failing, fcu: failing},
		{r: code(-32000), payload: failing, fcu: failing},
		{r: httpStatus(401), payload: unauthorized, fcu: unauthorized},
		{r: httpStatus(403), payload: unauthorized, fcu: unauthorized},
		{r: httpStatus(413), payload: misfit, fcu: misfit},
		{r: httpStatus(415), payload: misfit, fcu: misfit},
		{r: httpStatus(404), payload: misfit, fcu: misfit},
		{r: httpStatus(429), payload: failing, fcu: failing},
		{r: httpStatus(500), payload: failing, fcu: failing},
		{r: httpStatus(502), payload: failing, fcu: failing},
		{r: httpStatus(200), payload: failing, fcu: failing},
		{err: errDown, payload: failing, fcu: failing},
		{err: context.DeadlineExceeded, payload: failing, fcu: failing},
		{err: ErrOvertaken, payload: overtaken, fcu: overtaken},
		{err: ErrNoToken, payload: tokenless, fcu: tokenless},
	} {
		require.Equal(t, c.payload.String(), judge(chain.Payload, c.r, c.err).String(), "%+v %v", c.r, c.err)
		require.Equal(t, c.fcu.String(), judge(chain.Forkchoice, c.r, c.err).String(), "%+v %v", c.r, c.err)
	}
}

func TestI12TheBreakerDoublesItsWaitWithFullJitterAndOpens(t *testing.T) {
	c := DefaultConfig()
	c.RetryMax = 30 * time.Second
	b := newBreaker(&c, Secondary)
	b.random = func() float64 { return 1 }
	now := time.Now()
	for i, ms := range []int64{250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000} {
		require.Equal(t, i >= c.BreakerAfter, b.open(now))
		require.Equal(t, ms, b.fail(now).Milliseconds())
	}
	b.random = func() float64 { return 0 }
	require.Equal(t, c.ProbeEvery, b.fail(now), "an open breaker is never hot")
	b.succeed()
	require.False(t, b.open(now))
	require.Zero(t, b.fail(now), "full jitter")
	require.True(t, b.open(now.Add(c.BreakerTime)), "one failure, and nothing since")

	p := newBreaker(&c, Primary)
	p.random = func() float64 { return 1 }
	for range 20 {
		require.LessOrEqual(t, p.fail(now), c.PrimaryRetry)
	}
}

func TestConfigurationFaultsAreAllNamed(t *testing.T) {
	c := DefaultConfig()
	require.NoError(t, c.Validate())
	c = Config{Checkpoint: 129, RetryMin: time.Hour}
	err := c.Validate()
	for _, want := range []string{"payload_timeout", "recheck", "checkpoint 129", "retry_max", "max_calls", "breaker_after"} {
		require.ErrorContains(t, err, want)
	}
	target := Target{Skip: []string{"engine_newPayload*", "["}}
	err = target.Validate()
	for _, want := range []string{"name", "role", "caller", "engine_newPayloadV4 can't be skipped", "pattern"} {
		require.ErrorContains(t, err, want)
	}
	ok := Target{Name: "a", Role: Secondary, Caller: &HTTP{}, Skip: []string{"engine_getPayload*"}}
	require.NoError(t, ok.Validate())
}

func TestNamesOfStatesModesAndRoles(t *testing.T) {
	for _, s := range States() {
		require.NotContains(t, s.String(), "unknown")
	}
	for _, m := range AllModes() {
		text, err := m.MarshalText()
		require.NoError(t, err)
		var back Mode
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, m, back)
	}
	var m Mode
	require.Error(t, m.UnmarshalText([]byte("dry-run")))
	require.Equal(t, "primary", Primary.String())
	require.Equal(t, "unknown_0", State(0).String())
	ok, why := Status{State: Live}.InSync()
	require.False(t, ok)
	require.Contains(t, why, "no forkchoice")
}
