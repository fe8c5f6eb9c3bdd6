//go:build e2e && linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

const (
	viewPause = time.Millisecond // a consensus client is never faster for long
	// viewRatio is how much later the slowest calls may be answered because there is a secondary, and
	// viewOverhead how much more the door may add to a call than a proxy that does nothing else.
	viewRatio    = 1.10
	viewOverhead = 1.5
)

// forkchoiceBody is a forkchoice to a block without attributes.
func forkchoiceBody(id uint64, head common.Hash) []byte {
	return engineapi.AppendForkchoice(nil, id, "engine_forkchoiceUpdatedV3", engineapi.Forkchoice{Head: head, Arity: 2})
}

// timed posts n forkchoices to each, one after another and a few to each in turn, so that all suffer alike from
// whatever else the machine does but not from what a call to another leaves to be done, and is how long those
// of each took, sorted. Every answer must be the primary's.
func timed(t *testing.T, secret engineapi.Secret, n int, urls ...string) [][]time.Duration {
	t.Helper()
	took := make([][]time.Duration, len(urls))
	clients := make([]*http.Client, len(urls))
	for i := range clients {
		clients[i] = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
		defer clients[i].CloseIdleConnections()
	}
	const few = 50
	for turn := range n/few + 1 {
		for k, url := range urls {
			for i := range few {
				d := timedCall(t, clients[k], url, secret, uint64(turn*few+i))
				if turn > 0 { // the first ones open connections
					took[k] = append(took[k], d)
				}
			}
		}
	}
	for _, all := range took {
		slices.Sort(all)
	}
	return took
}

func timedCall(t *testing.T, client *http.Client, url string, secret engineapi.Secret, id uint64) time.Duration {
	t.Helper()
	nap(t, viewPause)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(forkchoiceBody(id, eltest.GenesisBlock.Hash)))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", secret.Authorization(time.Now()))
	begun := time.Now()
	resp, err := client.Do(req)
	require.NoError(t, err)
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	took := time.Since(begun)
	require.Equal(t, engineapi.Valid, engineapi.ParseResult(resp.StatusCode, answer).Verdict())
	return took
}

// viewed is an engine in front of a fake primary with one secondary, or none.
func viewed(t *testing.T, name, primary string, secondary *eltest.Fake) (url string, secret engineapi.Secret) {
	t.Helper()
	secret = testSecret(t, 0xc1)
	file := filepath.Join(t.TempDir(), "cl.hex")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("c1", 32)), 0o600))
	addr := freeAddr(t)
	args := []string{"--log.format=json", "--engine.listen=" + addr, "--engine.primary=" + primary, "--engine.jwt_secret=" + file}
	if secondary != nil {
		js, err := json.Marshal([]map[string]string{{"name": "b", "url": secondary.URL()}})
		require.NoError(t, err)
		args = append(args, "--engine.secondaries="+string(js))
	}
	newProcess(t, "engine-"+name, "engine", args...).up(t)
	return "http://" + addr, secret
}

// viewSize is how many pairs are measured, of how many calls each: fewer where the ratio is only logged.
func viewSize() (pairs, calls int) {
	if soak() {
		return 5, 2400
	}
	return 3, 200
}

// The consensus client does not notice a secondary: not a healthy one, not one that hangs for the whole
// time, not one that is gone. A B pairs of each; asserted in a soak only, for a machine of its own.
func TestEngineTheConsensusClientNeverNoticesASecondary(t *testing.T) {
	primary := startChild(t, "client")
	pairs, calls := viewSize()
	alone, secret := viewed(t, "alone", primary, nil)
	overhead(t, primary, alone, secret, calls)
	for name, trouble := range map[string]func(*eltest.Fake){
		"healthy": func(*eltest.Fake) {},
		"hangs":   func(f *eltest.Fake) { f.Fail(eltest.Fault{Hang: true}) },
		"gone":    func(f *eltest.Fake) { f.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			secondary := started(t)
			url, _ := viewed(t, name, primary, secondary)
			trouble(secondary)
			var ratios []float64
			var raw []string
			for range pairs {
				took := timed(t, secret, calls, alone, url)
				a, b := took[0][calls*99/100], took[1][calls*99/100]
				ratios = append(ratios, float64(b)/float64(a))
				raw = append(raw, fmt.Sprintf("%s/%s", b, a))
			}
			secondary.Recover()
			slices.Sort(ratios)
			report(t, "p99 with a secondary beside none: %.3f (median of %s)", ratios[pairs/2], strings.Join(raw, " "))
			if soak() {
				require.LessOrEqual(t, ratios[pairs/2], viewRatio)
			}
		})
	}
}

// overhead compares calls to the primary itself, through a relay that only passes bytes on, through the standard
// library's reverse proxy, and through the door, each a process of its own, in turn. The relay shows what the
// machine takes to wake one more process there and back, and the proxy what HTTP costs; asserted is what the
// door, which also checks the token, keeps the order and records, adds to that, in a soak only.
func overhead(t *testing.T, primary, door string, secret engineapi.Secret, calls int) {
	t.Helper()
	target := strings.TrimPrefix(primary, "http://")
	urls := []string{primary, startChild(t, "relay "+target), startChild(t, "proxy "+target), door}
	middle := make([]time.Duration, len(urls))
	for i, took := range timed(t, secret, calls, urls...) {
		middle[i] = took[len(took)/2]
	}
	relay, proxy, added := middle[1]-middle[0], middle[2]-middle[0], middle[3]-middle[0]
	report(t, "p50 direct %s; a relay adds %s, a reverse proxy %s, the door %s", middle[0], relay, proxy, added)
	if soak() {
		require.LessOrEqual(t, float64(added), viewOverhead*float64(proxy))
	}
}

// started is a fake client that runs.
func started(t *testing.T) *eltest.Fake {
	t.Helper()
	f := eltest.NewFake(eltest.Config{})
	require.NoError(t, f.Start())
	t.Cleanup(f.Stop)
	return f
}

// An engine with nothing to do costs at most 1 % of a CPU and 100 MB; the CPU is asserted in a soak only.
func TestEngineIdleCostsNextToNothing(t *testing.T) {
	beside(t)
	primary, secondary := started(t), started(t)
	file := filepath.Join(t.TempDir(), "cl.hex")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("c1", 32)), 0o600))
	js, err := json.Marshal([]map[string]string{{"name": "b", "url": secondary.URL()}})
	require.NoError(t, err)
	p := newProcess(t, "engine", "engine", "--log.format=json", "--engine.listen="+freeAddr(t), "--engine.primary="+primary.URL(),
		"--engine.jwt_secret="+file, "--engine.secondaries="+string(js))
	p.up(t)
	nap(t, 3*time.Second) // the start is over
	before := cpuTicks(t, p.pid())
	span := short(10*time.Second, 30*time.Second)
	nap(t, span)
	share := float64(cpuTicks(t, p.pid())-before) / 100 / span.Seconds()
	resident := residentBytes(t, p.pid())
	t.Logf("%.2f %% of a CPU, %d MB", 100*share, resident>>20)
	require.LessOrEqual(t, resident, int64(100<<20))
	if soak() {
		require.LessOrEqual(t, share, 0.01)
	}
}

// cpuTicks is what a process used of CPUs, in hundredths of a second.
func cpuTicks(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(after)
	var user, system int64
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	require.NoError(t, err)
	return user + system
}

// residentBytes is a process's resident memory.
func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(t, err)
	var size, resident int64
	_, err = fmt.Sscan(string(b), &size, &resident)
	require.NoError(t, err)
	return resident * int64(os.Getpagesize())
}
