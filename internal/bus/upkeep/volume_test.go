package upkeep

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeStore is a volume of 1000 bytes of which a test decides the use.
type fakeStore struct {
	used   uint64
	health error
	volume error
}

func (f *fakeStore) Volume() (used, total uint64, err error) { return f.used, 1000, f.volume }
func (f *fakeStore) Health() error                           { return f.health }

// smallVolume mounts a memory file system of the given size, or skips the test where that is not
// permitted.
func smallVolume(t *testing.T, size string) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("needs root on Linux to mount a small volume")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("mounting is not permitted: %s", out)
	}
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", "-l", dir).Run()) })
	return dir
}

// fill writes a file of n bytes, or of as many as fit, and returns what takes it away again.
func fill(t *testing.T, dir string, n int64) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	chunk := make([]byte, 4<<10)
	for ; n > 0 && err == nil; n -= int64(len(chunk)) {
		_, err = f.Write(chunk)
	}
	require.NoError(t, errors.Join(f.Close()))
	return func() { require.NoError(t, os.Remove(path)) }
}
