//go:build e2e && linux

package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// replayed is what `millrace replay orders --json` reports.
type replayed struct {
	Read, Chosen, Sent, Accepted, Refused, Lost, Withheld, Unsendable, Late, Resent int

	OtherHash int            `json:"other_hash"`
	Complete  bool           `json:"complete"`
	Refusals  map[string]int `json:"refused_reasons"`
	Rate      float64        `json:"orders_per_second"`
	Elapsed   time.Duration  `json:"elapsed_ns"`
	Latency   struct {
		P50 int64 `json:"p50_us"`
		P99 int64 `json:"p99_us"`
	} `json:"latency"`
}

// replay runs the command and returns its report and exit code.
func replay(t *testing.T, args ...string) (replayed, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"replay", "orders", "--json"}, args...)...)
	cmd.Env, cmd.Dir = environment(), t.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var rep replayed
	if out.Len() > 0 {
		require.NoError(t, json.Unmarshal(out.Bytes(), &rep), "%s", out.String())
	}
	report(t, "replay %s: %+v %s", strings.Join(args, " "), rep, strings.TrimSpace(errs.String()))
	if err == nil {
		return rep, 0
	}
	_, exited := errors.AsType[*exec.ExitError](err)
	require.True(t, exited, "%v", err)
	return rep, cmd.ProcessState.ExitCode()
}

// token is the file of a node's admin token.
func (p *pipeline) token() string { return filepath.Join(filepath.Dir(p.store), "admin.token") }

// fate is how an order ended, in words that do not depend on the node or the time.
type fate struct {
	Hash    string
	Signer  string
	Method  string
	Outcome string
	Code    string
	Text    string
}

// fates are the ends of all orders that a node accepted, as a sorted list. What the delivery decides by
// timing (a replacement that was overtaken) counts as taken: the order was valid.
func (p *pipeline) fates(t *testing.T) []fate {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, "ledger", "dump", "--json", "--since", "1h", "--admin", p.egress.admin)
	cmd.Env, cmd.Stdout = environment(), &out
	require.NoError(t, cmd.Run())
	var all []fate
	dec := json.NewDecoder(&out)
	for dec.More() {
		var r struct {
			Hash                        common.Hash
			Signer                      common.Address
			Method, Outcome, Code, Text string
		}
		require.NoError(t, dec.Decode(&r))
		f := fate{Hash: r.Hash.Hex(), Signer: r.Signer.Hex(), Method: r.Method, Outcome: r.Outcome, Code: r.Code, Text: r.Text}
		if r.Outcome == "superseded" || r.Outcome == "delivered" {
			f.Outcome, f.Text = "valid", ""
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b fate) int {
		return cmp.Or(cmp.Compare(a.Hash, b.Hash), cmp.Compare(a.Signer, b.Signer), cmp.Compare(a.Outcome, b.Outcome))
	})
	return all
}

// everyShape is what a recording should survive: every kind of order that the door takes, and those that
// a worker refuses.
func everyShape() loadtest.Mix {
	var m loadtest.Mix
	for s := loadtest.ShapeBundle; s <= loadtest.ShapeMalformed; s++ {
		weight := 10
		if s == loadtest.ShapeHeavy {
			weight = 1
		}
		m = append(m, loadtest.Weight{Shape: s, Weight: weight})
	}
	return m
}

// A recording, replayed at five times its speed into a fresh node: the same accepted set, hashes and
// verdicts.
func TestARecordingReplayedIntoAFreshNodeEndsTheSame(t *testing.T) {
	// No shedding and no rates: which orders a busy door turns away is not in a recording.
	roomy := []string{"--ingress.shed_age.high=0", "--ingress.shed_age.medium=0", "--ingress.shed_age.low=0"}
	first := startNode(t, roomy...)
	l := first.startLoad(t, loadtest.Flow{
		Name: "every shape", Rate: 120, Duration: short(6*time.Second, time.Minute), Connections: 64, Timeout: 20 * time.Second, Resend: 50,
		Corpus: loadtest.CorpusConfig{Mix: everyShape(), HeavyTxs: 30},
	})
	l.wait(t)
	first.verify(t, l, 30*time.Second, 0)
	want := first.fates(t)

	// Verdicts that come after the answer are in the ledger, but not in the report.
	second := startNode(t, append(roomy, "--ingress.verdict_wait=10s")...)
	rep, code := replay(t, "--since", "1h", "--rate", "5x", "--tries", "50", "--admin", first.bus.admin, "--token-file", first.token(), "--to", second.doors[0])
	require.Zero(t, code)
	require.Equal(t, len(want), rep.Sent, "an order is recorded once it is accepted, and then has its end")
	require.Zero(t, rep.Lost+rep.Unsendable+rep.OtherHash)
	require.True(t, rep.Complete)

	eventually(t, 30*time.Second, func() bool { return len(second.fates(t)) >= len(want) }, "%d ends at the second node", len(want))
	require.Equal(t, want, second.fates(t))
	require.Positive(t, rep.Refused)
	require.Equal(t, invalid(want), rep.Refused, "the door of the second node told each refusal")

	// Hash by hash, the builders were given the same.
	require.Equal(t, takenHashes(first.sink), takenHashes(second.sink))

	t.Run("from the store of the stopped node, to a builder", func(t *testing.T) {
		first.bus.stop(t)
		sink, url := startSink(t)
		rep, code := replay(t, "--store", first.store, "--rate", "max", "--as", "builder", "--to", url)
		require.Zero(t, code)
		require.Equal(t, len(want), rep.Chosen)
		require.Equal(t, invalid(want), rep.Withheld)
		require.Equal(t, len(want)-invalid(want), rep.Accepted)
		require.Equal(t, len(want)-invalid(want), sink.Taken())
		for h := range takenHashes(first.sink) {
			require.Contains(t, takenHashes(sink), h)
		}
		first.bus.up(t) // the store is whole
		require.Equal(t, want, first.fates(t))
	})

	t.Run("marked, it leaves the live flow alone", func(t *testing.T) { replayMarked(t, first, len(want), invalid(want)) })
}

// replayMarked replays a node's record to the replay door of another node, which delivers and records
// none of it.
func replayMarked(t *testing.T, from *pipeline, orders, refused int) {
	t.Helper()
	door := freeAddr(t)
	to := startNode(t, "--ingress.replay_listen="+door)
	credential := filepath.Join(filepath.Dir(to.store), "replay.token")
	source := []string{"--admin", from.bus.admin, "--token-file", from.token(), "--rate", "max", "--connections", "16", "--tries", "50"}

	_, code := replay(t, append(source, "--to", to.doors[0], "--mark-token-file", credential)...)
	require.Equal(t, 1, code, "a live door does not mark")
	_, code = replay(t, append(source, "--to", "http://"+door)...)
	require.Equal(t, 1, code, "without the credential nothing gets in")

	rep, code := replay(t, append(source, "--to", "http://"+door, "--mark-token-file", credential)...)
	require.Zero(t, code)
	require.Equal(t, orders, rep.Sent)
	require.Equal(t, refused, rep.Refused)
	eventually(t, 20*time.Second, func() bool {
		_, page := get(to.bus.admin + "/metrics")
		return strings.Contains(page, fmt.Sprintf("millrace_replay_marked_total{outcome=\"valid\"} %d\n", orders-refused)) &&
			strings.Contains(page, fmt.Sprintf("millrace_replay_marked_total{outcome=\"invalid\"} %d\n", refused))
	}, "all marked orders validated")
	require.Zero(t, to.sink.Taken(), "no builder gets a marked order")
	require.Empty(t, to.fates(t), "nor is it in the live ledger")
	require.Contains(t, run(t, "ledger", "verify", "--replays", "--json", "--admin="+to.bus.admin),
		fmt.Sprintf(`"outcomes":{"delivered":%d,"invalid":%d}`, orders-refused, refused))
	status, page := get(to.bus.admin + "/metrics")
	require.Equal(t, http.StatusOK, status)
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "millrace_order_accepted_total") || strings.HasPrefix(line, "millrace_order_wire_to_wire_seconds_count") {
			require.True(t, strings.HasSuffix(line, " 0\n"), line)
		}
	}
	// The same orders live: none is taken for a repeat, none is refused for what a replay was.
	rep, code = replay(t, append(source, "--to", to.doors[0])...)
	require.Zero(t, code)
	require.Equal(t, orders-refused, rep.Accepted)
	eventually(t, 30*time.Second, func() bool { return len(to.fates(t)) == orders }, "%d ends", orders)
}

func invalid(fs []fate) (n int) {
	for _, f := range fs {
		if f.Outcome == "invalid" {
			n++
		}
	}
	return n
}

// takenHashes are the hashes that a builder took; of a replacement key only the newest must reach
// it, so those that may be superseded are left out.
func takenHashes(s *loadtest.Sink) map[string]int {
	got := map[string]int{}
	for _, r := range s.Receipts() {
		if r.Taken() && r.Nonce == 0 {
			got[fmt.Sprintf("%s %s %s", r.Method, r.Hash.Hex(), r.Signer.Hex())]++
		}
	}
	return got
}

// A replay that is broken off says so, and has sent nothing after the signal.
func TestABrokenOffReplayDrains(t *testing.T) {
	beside(t)
	first := startNode(t)
	l := first.startLoad(t, careful(100, 3*time.Second))
	l.wait(t)
	second := startNode(t)
	cmd := exec.Command(binary, "replay", "orders", "--json", "--rate", "0.1x", "--admin", first.bus.admin, "--token-file", first.token(), "--to", second.doors[0])
	cmd.Env = environment()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	eventually(t, 20*time.Second, func() bool { return second.sink.Taken() > 0 }, "the first order of the replay")
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	var rep replayed
	require.NoError(t, json.Unmarshal(out.Bytes(), &rep), "%s", errs.String())
	require.False(t, rep.Complete)
	require.Zero(t, rep.Lost)
	require.Equal(t, rep.Sent, rep.Accepted+rep.Refused)
	require.Contains(t, errs.String(), "broken off")
}
