package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A store that has failed is a failure of the process, and it ends soon, because what supervises it
// must start it again.
func TestProcessEndsWithExitCodeOneSoonAfterItsStoreFailed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=256m"); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("mounting a tmpfs needs root: %v", err)
	} else {
		require.NoError(t, err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	p := start(t, nil, nodeArgs(filepath.Join(dir, "data"), "--streams.in.max_bytes=12MiB", "--streams.ok.max_bytes=12MiB",
		"--record.orders.max_bytes=16MiB", "--record.ledger.max_bytes=16MiB")...)
	door, s := p.url("ingress"), newSender(t)
	s.accepted(t, door)
	fill(t, filepath.Join(dir, "foreign"))
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) && p.log.find("the store has failed: orders that were accepted are delivered after a restart with space", 1) == nil {
		status, _, _ := s.try(t, door, s.bundle(t))
		if status == 0 {
			break // the listener is gone
		}
	}
	select {
	case code := <-p.code:
		p.ended = true
		require.Equal(t, exitFailure, code)
	case <-time.After(patience):
		require.Fail(t, "still running")
	}
	require.Contains(t, p.line("stopped after a failure", 1)["error"], "the store has failed")
	require.Nil(t, p.log.find("consumer opened again", 20), "no flood of log lines")
}

// fill writes until the volume is full to the last byte.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	for chunk := make([]byte, 1<<18); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			chunk = chunk[:len(chunk)/2]
		}
	}
}
