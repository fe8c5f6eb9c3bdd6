//go:build e2e && linux

package engine

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/eltest/drive"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

const testdata = "../../internal/eltest/testdata/"

// node starts a real geth that no test has used.
func node(t *testing.T, genesis string, secret engineapi.Secret, scheme eltest.Scheme) (*eltest.Geth, *HTTP) {
	t.Helper()
	binary, err := eltest.BuildGeth(t.Context())
	require.NoError(t, err)
	genesis, err = filepath.Abs(testdata + genesis)
	require.NoError(t, err)
	g := eltest.NewGeth(eltest.GethConfig{Binary: binary, Dir: t.TempDir(), Genesis: genesis, Secret: secret, Scheme: scheme})
	require.NoError(t, g.Start(t.Context()))
	t.Cleanup(g.Stop)
	h, err := NewHTTP(HTTPConfig{URL: g.URL(), Secret: secret})
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return g, h
}

func TestI14ACaptureOfGethReplayedToAFreshGethHasNoMismatch(t *testing.T) {
	log := capture(t)
	for _, play := range []Play{PlayPath, PlayVerbatim, PlayPayloads, PlayBuild} {
		t.Run(play.String(), func(t *testing.T) {
			_, h := node(t, "genesis-mini.json", secretOf(t, 'd'), eltest.SchemePath)
			r, err := NewRunner(DefaultConfig(), Range{Play: play}, log, Target{
				Name: "geth", Role: Secondary, Address: "http://geth", Caller: h,
			}, wallClock{}, discard())
			require.NoError(t, err)
			sum, err := r.Run(t.Context())
			require.NoError(t, err)
			require.Zero(t, sum.Mismatches(), "%v %v", sum.Classes, sum.Divergences)
			require.True(t, sum.EqualHeads())
			t.Logf("%d of %d calls in %s", sum.Sent, sum.Recorded, sum.Elapsed)
		})
	}
}

// recorder passes calls on to a primary and records them, as the front door does.
type recorder struct {
	mu  sync.Mutex
	log *memory
	to  string
	n   uint64
}

func (p *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	calls, _, err := engineapi.ParseCalls(body)
	if err != nil {
		return
	}
	p.n++
	request := record.NewRequest(record.ID{Epoch: 1, Sequence: p.n}, time.Now(), calls[0])
	request.Verified = true
	p.log.append(request, nil)
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, p.to, bytes.NewReader(body))
	if err != nil {
		return
	}
	req.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return
	}
	p.log.append(nil, &record.Outcome{
		ID: request.ID, Method: request.Method, HTTPStatus: resp.StatusCode, Eligible: true,
		Result: engineapi.ParseResult(resp.StatusCode, answer),
	})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
}

func TestI8GethsThatAreStoppedHungAndKilledEndAtThePrimarysHead(t *testing.T) {
	secret := secretOf(t, 'e')
	primary, _ := node(t, "genesis-mini.json", secret, eltest.SchemeHash)
	log := newMemory()
	door := httptest.NewServer(&recorder{log: log, to: primary.URL()})
	defer door.Close()
	genesis, err := drive.ReadGenesis(testdata + "genesis-mini.json")
	require.NoError(t, err)
	d := drive.New(drive.Config{Target: drive.Endpoint{URL: door.URL, Secret: secret}, Genesis: genesis, Seed: 5})
	require.NoError(t, d.Sync(t.Context()))

	kits, geths := make([]*kit, 2), make([]*eltest.Geth, 2)
	for i := range kits {
		g, h := node(t, "genesis-mini.json", secretOf(t, byte('0'+i)), eltest.SchemeHash)
		b := &bench{t: t, log: log}
		k := &kit{bench: b, client: &wire{f: eltest.NewFake(eltest.Config{})}, cfg: DefaultConfig(), events: &events{}}
		k.cfg.RetryMax, k.cfg.CheckEvery = 2*time.Second, time.Second
		k.target = Target{Name: "second", Role: Secondary, Caller: h}
		k.ports = Ports{Clock: wallClock{}, Divergences: k.events}
		k.start()
		defer k.stop()
		kits[i], geths[i] = k, g
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 150 {
		require.NoError(t, d.Random(t.Context()))
		g := geths[rng.IntN(2)]
		switch rng.IntN(16) {
		case 0:
			g.Stop()
		case 1:
			g.Kill()
		case 2:
			if g.Running() {
				require.NoError(t, g.Pause())
				defer func() { _ = g.Resume() }()
			}
		case 3, 4, 5:
			if !g.Running() {
				require.NoError(t, g.Start(t.Context()))
			} else {
				require.NoError(t, g.Resume())
			}
		}
	}
	for _, g := range geths {
		if g.Running() {
			require.NoError(t, g.Resume())
		} else {
			require.NoError(t, g.Start(t.Context()))
		}
	}
	for _, k := range kits {
		require.Eventually(t, func() bool {
			s := k.r.Status()
			return s.State == Live && s.Head == d.Head().Hash
		}, 30*time.Second, 50*time.Millisecond)
		require.Empty(t, k.events.list())
	}
	t.Logf("driver at block %d", d.Head().Number)
}

func TestI8AGethThatLosesItsStateIsAtTheHeadOrNamed(t *testing.T) {
	secret := secretOf(t, 'e')
	primary, _ := node(t, "genesis-mini.json", secret, eltest.SchemeHash)
	log := newMemory()
	door := httptest.NewServer(&recorder{log: log, to: primary.URL()})
	defer door.Close()
	genesis, err := drive.ReadGenesis(testdata + "genesis-mini.json")
	require.NoError(t, err)
	d := drive.New(drive.Config{Target: drive.Endpoint{URL: door.URL, Secret: secret}, Genesis: genesis, Seed: 6})
	require.NoError(t, d.Sync(t.Context()))
	g, h := node(t, "genesis-mini.json", secretOf(t, '1'), eltest.SchemePath)
	k := &kit{bench: &bench{t: t, log: log}, client: &wire{f: eltest.NewFake(eltest.Config{})}, cfg: DefaultConfig(), events: &events{}}
	k.cfg.RetryMax, k.cfg.CheckEvery, k.cfg.StallTime = time.Second, time.Second, 4*time.Second
	k.target = Target{Name: "second", Role: Secondary, Caller: h}
	k.ports = Ports{Clock: wallClock{}, Divergences: k.events}
	k.start()
	defer k.stop()
	there := func() bool {
		s := k.r.Status()
		return s.State == Live && s.Head == d.Head().Hash
	}
	for range 40 {
		require.NoError(t, d.Step(t.Context()))
	}
	require.Eventually(t, there, 30*time.Second, 50*time.Millisecond)
	g.Kill()
	require.NoError(t, g.Start(t.Context()))
	for range 5 {
		require.NoError(t, d.Step(t.Context()))
	}
	// A geth that went back far enough begins to sync, and waits for peers that it does not have: it is left to them, by name.
	named := func(s Status) bool { return s.State == NeedsResync || s.State == Follow && s.Reason == "syncing" }
	require.Eventually(t, func() bool { return there() || named(k.r.Status()) }, 30*time.Second, 50*time.Millisecond, "neither at the head nor named")
	s := k.r.Status()
	t.Logf("%s %s at block %d of %d", s.State, s.Reason, s.Number, s.WantNumber)
	if s.State == Live {
		return
	}
	require.NotEmpty(t, s.Reason)
	g.Stop()
	require.NoError(t, g.Wipe())
	require.NoError(t, g.Start(t.Context()))
	k.r.SetMode(ModeFollow)
	require.Eventually(t, there, 30*time.Second, 50*time.Millisecond)
}
