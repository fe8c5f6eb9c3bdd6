//go:build e2e && linux

package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// outside is a load by a process of its own that gives way to everybody else on this machine: a flood
// comes from other machines, and what it costs to make it is not what is measured.
type outside struct {
	cmd    *exec.Cmd
	out    bytes.Buffer
	exited chan error
}

// outsideReport is what we read of its report.
type outsideReport struct {
	Flows []struct {
		Sent    int
		Rate    float64
		Answers map[string]int
	}
}

// startOutside starts `millrace loadtest` against the doors.
func (p *pipeline) startOutside(t *testing.T, args ...string) *outside {
	t.Helper()
	o := &outside{exited: make(chan error, 1)}
	o.cmd = niced(19, append([]string{"loadtest", "--json", "--url=" + strings.Join(p.doors, ",")}, args...)...)
	o.cmd.Stdout, o.cmd.Env = &o.out, environment()
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, o.cmd.Start())
	go func() { o.exited <- o.cmd.Wait() }()
	t.Cleanup(func() { _ = o.cmd.Process.Kill() })
	return o
}

// wait returns the report.
func (o *outside) wait(t *testing.T, within time.Duration) outsideReport {
	t.Helper()
	select {
	case err := <-o.exited:
		require.NoError(t, err, o.out.String())
	case <-time.After(within):
		t.Fatalf("the load outside did not end within %s", within)
	}
	var rep outsideReport
	require.NoError(t, json.Unmarshal(o.out.Bytes(), &rep), o.out.String())
	require.NotEmpty(t, rep.Flows)
	return rep
}
