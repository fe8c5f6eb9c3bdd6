//go:build e2e && linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/eltest/drive"
	"millrace/internal/engineapi"
)

const (
	engineData = "../../../internal/eltest/testdata/"
	// converge is how long a client may take to be at the head after the traffic stopped (I8).
	converge = 30 * time.Second
)

// geths is a primary, its secondaries and an engine process between them and a consensus client.
type geths struct {
	engine  *process
	nodes   []*eltest.Geth // the primary first
	door    drive.Endpoint
	genesis drive.Genesis
	rng     *rand.Rand
	// buildWait is how long the primary may build; longer when it is to pick up transactions.
	buildWait time.Duration
}

// gethBinary builds geth, once.
var gethBinary = sync.OnceValues(func() (string, error) { return eltest.BuildGeth(context.Background()) })

func testSecret(t *testing.T, b int) engineapi.Secret {
	t.Helper()
	s, err := engineapi.ParseSecret(strings.Repeat(fmt.Sprintf("%02x", b), 32))
	require.NoError(t, err)
	return s
}

// newGeth is a client of the small genesis file that does not run yet.
func newGeth(t *testing.T, n int, scheme eltest.Scheme) *eltest.Geth {
	t.Helper()
	bin, err := gethBinary()
	require.NoError(t, err)
	genesis, err := filepath.Abs(engineData + "genesis-mini.json")
	require.NoError(t, err)
	g := eltest.NewGeth(eltest.GethConfig{Binary: bin, Dir: t.TempDir(), Genesis: genesis, Secret: testSecret(t, n+1), Scheme: scheme, Public: true})
	t.Cleanup(func() {
		g.Kill()
		if t.Failed() {
			printTail(t, g.LogFile())
		}
	})
	return g
}

// printTail logs the end of a client's log.
func printTail(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	t.Logf("the end of %s:\n%s", path, strings.Join(lines[max(0, len(lines)-logTail):], "\n"))
}

// newGeths starts clients and an engine process in front of them. Secondaries are named b, c and so on.
func newGeths(t *testing.T, schemes ...eltest.Scheme) *geths {
	t.Helper()
	return newGethsWith(t, nil, schemes...)
}

// newGethsWith is newGeths with more flags for the engine.
func newGethsWith(t *testing.T, flags []string, schemes ...eltest.Scheme) *geths {
	t.Helper()
	b := &geths{rng: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))}
	var err error
	b.genesis, err = drive.ReadGenesis(engineData + "genesis-mini.json")
	require.NoError(t, err)
	list := []map[string]string{}
	for i, scheme := range schemes {
		n := newGeth(t, i, scheme)
		require.NoError(t, n.Start(t.Context()))
		b.nodes = append(b.nodes, n)
		if i > 0 {
			list = append(list, map[string]string{"name": string(rune('a' + i)), "url": n.URL(), "jwt_secret": n.SecretFile()})
		}
	}
	js, err := json.Marshal(list)
	require.NoError(t, err)
	b.door.Secret = testSecret(t, 0xc1)
	file := filepath.Join(t.TempDir(), "cl.hex")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("c1", 32)), 0o600))
	addr := freeAddr(t)
	b.door.URL = "http://" + addr
	b.engine = newProcess(t, "engine", "engine", append([]string{
		"--log.format=json", "--log.level=debug", "--engine.listen=" + addr, "--engine.primary=" + b.nodes[0].URL(),
		"--engine.primary_jwt_secret=" + b.nodes[0].SecretFile(), "--engine.jwt_secret=" + file, "--engine.secondaries=" + string(js),
		"--engine.replay.stall_time=" + short(25*time.Second, 2*time.Minute).String(),
	}, flags...)...)
	b.engine.up(t)
	return b
}

// driver drives the primary through the door.
func (b *geths) driver(t *testing.T, network *eltest.Geth, secret engineapi.Secret) *drive.Driver {
	t.Helper()
	cfg := drive.Config{Target: b.door, Genesis: b.genesis, Seed: b.rng.Uint64(), BuildWait: b.buildWait}
	if network != nil {
		cfg.Network = &drive.Endpoint{URL: network.URL(), Secret: secret}
	}
	d := drive.New(cfg)
	require.NoError(t, d.Sync(t.Context()))
	return d
}

// at says whether a client is at a head.
func at(t *testing.T, e drive.Endpoint, want drive.Head) bool {
	t.Helper()
	h, err := e.Head(t.Context())
	return err == nil && h == want
}

// together waits until the clients are at the driver's head, and is how long that took.
func (b *geths) together(t *testing.T, d *drive.Driver, nodes ...int) time.Duration {
	t.Helper()
	begun := time.Now()
	for _, n := range nodes {
		e := drive.Endpoint{URL: b.nodes[n].URL(), Secret: testSecret(t, n+1)}
		for !at(t, e, d.Head()) {
			if time.Since(begun) > converge {
				_, state := get(b.engine.admin + "/engine")
				h, err := e.Head(t.Context())
				require.Failf(t, "not at the head", "client %d is at %v (%v), not %v: %s", n, h, err, d.Head(), state)
			}
			nap(t, 20*time.Millisecond)
		}
	}
	return time.Since(begun)
}

// Real clients over every fork of the genesis file, with reorganisations, while the secondaries are
// stopped, hang and are killed, and the engine is killed as well: all end at the head (I8, I9).
func TestEngineRealClientsConvergeWhateverHappensToThem(t *testing.T) {
	beside(t)
	slots := 50
	if soak() {
		slots = 300
	}
	for round := range rounds() {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			beside(t)
			b := newGeths(t, eltest.SchemeHash, eltest.SchemeHash, eltest.SchemeHash)
			d := b.driver(t, nil, engineapi.Secret{})
			for i := range slots {
				b.disturb(t, i)
				require.NoError(t, d.Random(t.Context()))
			}
			for _, n := range b.nodes[1:] {
				if n.Running() {
					require.NoError(t, n.Resume())
				} else {
					require.NoError(t, n.Start(t.Context()))
				}
			}
			t.Logf("converged after %s at block %d", b.together(t, d, 0, 1, 2), d.Head().Number)
			b.engine.stop(t)
		})
	}
}

// disturb does something to a secondary or to the engine, now and then.
func (b *geths) disturb(t *testing.T, slot int) {
	t.Helper()
	n := b.nodes[1+b.rng.IntN(len(b.nodes)-1)]
	switch what := b.rng.IntN(24); {
	case slot%40 == 20:
		b.engine.kill(t)
		b.engine.up(t)
	case what == 0 && n.Running():
		require.NoError(t, n.Pause())
	case what == 1 && n.Running():
		n.Stop()
	case what == 2 && n.Running():
		n.Kill()
	case what > 2 && what < 8:
		if n.Running() {
			require.NoError(t, n.Resume())
		} else {
			require.NoError(t, n.Start(t.Context()))
		}
	}
}

// A secondary that was never there catches up from the record alone, and a primary that was down for
// 50 slots, while the network went on, is at the head before the next slot ends.
func TestEngineLateSecondaryAndPrimaryAfterAnOutage(t *testing.T) {
	beside(t)
	b := newGeths(t, eltest.SchemeHash, eltest.SchemeHash)
	network := newGeth(t, 7, eltest.SchemeHash)
	require.NoError(t, network.Start(t.Context()))
	b.nodes[1].Stop()
	require.NoError(t, b.nodes[1].Wipe())
	d := b.driver(t, network, testSecret(t, 8))
	for range 30 {
		require.NoError(t, d.Random(t.Context()))
	}
	b.nodes[0].Stop()
	for range 50 {
		require.NoError(t, d.Random(t.Context()))
	}
	require.NotZero(t, d.Refused())
	require.NoError(t, b.nodes[0].Start(t.Context()))
	took := b.together(t, d, 0)
	t.Logf("primary at the head after %s", took)
	require.Less(t, took, 12*time.Second)
	require.NoError(t, d.Step(t.Context()))
	require.NoError(t, b.nodes[1].Start(t.Context()))
	t.Logf("fresh secondary at the head after %s", b.together(t, d, 1))
}

// SIGKILL under the path scheme costs geth its state: the client is at the head again or in a state
// with a name and a reason, never silently behind.
func TestEngineNamesTheStateOfAClientThatLostIts(t *testing.T) {
	beside(t)
	b := newGeths(t, eltest.SchemeHash, eltest.SchemePath)
	d := b.driver(t, nil, engineapi.Secret{})
	for range 40 {
		require.NoError(t, d.Random(t.Context()))
	}
	b.together(t, d, 0, 1)
	b.nodes[1].Kill()
	for range 10 {
		require.NoError(t, d.Random(t.Context()))
	}
	require.NoError(t, b.nodes[1].Start(t.Context()))
	e := drive.Endpoint{URL: b.nodes[1].URL(), Secret: testSecret(t, 2)}
	begun := time.Now()
	for !at(t, e, d.Head()) {
		_, body := get(b.engine.admin + "/engine")
		var status struct {
			Clients []struct{ Target, State, Reason string }
		}
		require.NoError(t, json.Unmarshal([]byte(body), &status))
		for _, c := range status.Clients {
			if c.Target == "b" && (c.State == "needs_resync" || c.State == "follow") && c.Reason != "" {
				t.Logf("%s: %s after %s", c.State, c.Reason, time.Since(begun))
				return
			}
		}
		require.Less(t, time.Since(begun), 3*time.Minute, body)
		nap(t, 100*time.Millisecond)
	}
	t.Logf("at the head again after %s", time.Since(begun))
}

// I14 with a real client: the capture replays to a fresh one, whose secret is another, without a
// mismatch.
func TestEngineCaptureReplaysToARealClient(t *testing.T) {
	beside(t)
	n := newGeth(t, 3, eltest.SchemeHash)
	require.NoError(t, n.Start(t.Context()))
	cmd := exec.CommandContext(t.Context(), binary, "replay", "engine", "--file="+engineData+"sample.jsonl", "--mode=verbatim",
		"--to="+n.URL(), "--jwt-secret="+n.SecretFile(), "--json")
	cmd.Env = environment()
	out, err := cmd.Output()
	require.NoError(t, err)
	var sum struct {
		Sent    int            `json:"sent"`
		Classes map[string]int `json:"classes"`
		Head    string         `json:"head"`
		Want    string         `json:"want"`
	}
	require.NoError(t, json.Unmarshal(out, &sum))
	require.Equal(t, 36, sum.Sent)
	require.Equal(t, map[string]int{"ok": 36}, sum.Classes)
	require.Equal(t, sum.Want, sum.Head)
}
