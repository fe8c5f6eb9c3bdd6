//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// binary is the millrace under test.
var binary string

// reportMu guards the report file.
var reportMu sync.Mutex

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	if what := os.Getenv(childVariable); what != "" {
		return child(what)
	}
	binary = os.Getenv("MILLRACE_BIN")
	if binary == "" {
		dir, err := os.MkdirTemp("", "millrace-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if binary, err = build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	goAhead()
	return m.Run()
}

func build(dir string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	bin := filepath.Join(dir, "millrace")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, "millrace/cmd/millrace")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build millrace: %w\n%s", err, out)
	}
	return bin, nil
}

// rounds is how often each kind of kill happens.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_E2E_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return 1
}

// tap is nats.tap of every node: MILLRACE_E2E_TAP (on, off), on without it.
func tap() string {
	if mode := os.Getenv("MILLRACE_E2E_TAP"); mode != "" {
		return mode
	}
	return "on"
}

// soak reports whether outages last as long as promised and ratios are asserted.
func soak() bool { return os.Getenv("MILLRACE_E2E_SOAK") != "" || rounds() >= 10 }

// short picks the duration for a default run or for a soak.
func short(normal, long time.Duration) time.Duration {
	if soak() {
		return long
	}
	return normal
}

// report logs a figure and appends it to the report file.
func report(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	path := os.Getenv("MILLRACE_E2E_REPORT")
	if path == "" {
		return
	}
	reportMu.Lock()
	defer reportMu.Unlock()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Errorf("write report: %v", err)
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s %s: %s\n", time.Now().UTC().Format(time.RFC3339), t.Name(), line)
}
