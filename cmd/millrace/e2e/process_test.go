//go:build e2e && linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
	logTail      = 60 // lines printed of each log when a test fails
)

// process is one millrace process that can be killed and started again with the same arguments on
// the same data.
type process struct {
	name, admin string
	args        []string
	dir         string // working directory
	log         string // file with everything it printed, over all its lives
	lives       int

	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
	err    error         // of Wait, valid when exited is closed
}

// newProcess describes a process; role is the subcommand and may be empty.
func newProcess(t *testing.T, name, role string, args ...string) *process {
	t.Helper()
	p := &process{name: name, dir: t.TempDir(), log: filepath.Join(t.TempDir(), name+".log")}
	addr := freeAddr(t)
	p.admin = "http://" + addr
	if role != "" {
		p.args = append(p.args, role)
	}
	p.args = append(append(p.args, "--admin.listen="+addr), args...)
	t.Cleanup(func() {
		p.kill(t)
		p.summarizeLog(t)
		if t.Failed() {
			p.printLog(t)
		}
	})
	return p
}

// start starts the process without waiting for anything.
func (p *process) start(t *testing.T) {
	t.Helper()
	out, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer out.Close()
	p.lives++
	fmt.Fprintf(out, "--- life %d at %s: %s\n", p.lives, time.Now().UTC().Format("15:04:05.000"), strings.Join(p.args, " "))
	cmd := niced(0, p.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = p.dir, out, out, environment()
	// A test binary that is killed takes its children along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	p.cmd, p.exited = cmd, make(chan struct{})
	go func(done chan struct{}) {
		p.err = cmd.Wait()
		close(done)
	}(p.exited)
}

// environment is ours without what would configure millrace.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MILLRACE_") && !strings.HasPrefix(e, "GOGC") && !strings.HasPrefix(e, "GOMEMLIMIT") {
			env = append(env, e)
		}
	}
	return env
}

// up starts the process and waits until it says that it is ready.
func (p *process) up(t *testing.T) {
	t.Helper()
	p.start(t)
	p.waitReady(t)
}

func (p *process) waitReady(t *testing.T) {
	t.Helper()
	end := time.Now().Add(readyTimeout)
	for {
		status, body := get(p.admin + "/readyz")
		if status == http.StatusOK {
			return
		}
		if p.ended() {
			t.Fatalf("%s ended before it was ready: %v", p.name, p.err)
		}
		if time.Now().After(end) {
			t.Fatalf("%s not ready after %s: %d %s", p.name, readyTimeout, status, body)
		}
		nap(t, 20*time.Millisecond)
	}
}

func (p *process) ended() bool {
	if p.cmd == nil {
		return true
	}
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s), "%s to %s", s, p.name)
}

// kill is kill -9; a process that has ended stays as it is.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if p.ended() {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop is SIGTERM; the process must end by itself, with success.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	p.waitEnd(t)
	require.NoError(t, p.err, "%s after SIGTERM", p.name)
}

func (p *process) waitEnd(t *testing.T) {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		// What it waits for is in the goroutine dump of SIGQUIT.
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.exited
		t.Fatalf("%s did not end within %s", p.name, stopTimeout)
	}
}

func (p *process) printLog(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil {
		return
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if len(lines) > logTail {
		lines = lines[len(lines)-logTail:]
	}
	t.Logf("the end of %s:\n%s", p.log, bytes.Join(lines, []byte("\n")))
	if keep := os.Getenv("MILLRACE_E2E_KEEP"); keep != "" {
		_ = os.WriteFile(filepath.Join(keep, strings.ReplaceAll(t.Name(), "/", "_")+"_"+filepath.Base(p.log)), b, 0o600)
	}
}

// summarizeLog counts the warnings and errors in the log, so that a test that passes with trouble shows
// it.
func (p *process) summarizeLog(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil {
		return
	}
	counts := map[string]int{}
	for line := range bytes.Lines(b) {
		var e struct{ Level, Msg, Error, Text string }
		if json.Unmarshal(line, &e) != nil || e.Level != "WARN" && e.Level != "ERROR" {
			continue
		}
		text := e.Error + e.Text
		counts[fmt.Sprintf("%s %s %s", e.Level, e.Msg, text[:min(len(text), 60)])]++
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%s: %d x %s", p.name, counts[what], what)
	}
}

// get fetches a page; status is zero when nobody answers.
func get(url string) (status int, body string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	return resp.StatusCode, b.String()
}

// nap lets a schedule of the test pass: when to kill, how long an outage lasts. It never stands for
// waiting until something has happened.
func nap(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// eventually polls until cond holds.
func eventually(t *testing.T, within time.Duration, cond func() bool, what string, args ...any) {
	t.Helper()
	end := time.Now().Add(within)
	for !cond() {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", within, fmt.Sprintf(what, args...))
		}
		nap(t, 20*time.Millisecond)
	}
}
