package config_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch starts Watch and returns what it reports; it ends with the test.
func watch(t *testing.T, path string) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	changes, done := make(chan struct{}, 16), make(chan error, 1)
	go func() { done <- config.Watch(ctx, path, func() { changes <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return changes
}

// awaitChange makes the change again until it is seen, because the watch may not stand yet at the
// first one; each attempt writes another content.
func awaitChange(t *testing.T, changes <-chan struct{}, change func(attempt int)) {
	t.Helper()
	for attempt := 1; attempt <= 20; attempt++ {
		change(attempt)
		select {
		case <-changes:
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
	t.Fatal("the change was not seen")
}

func content(attempt int) []byte { return []byte("a: " + time.Duration(attempt).String()) }

func TestWatchSeesAWriteInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.yaml")
	require.NoError(t, os.WriteFile(path, []byte("a: 1"), 0o600))
	changes := watch(t, path)
	awaitChange(t, changes, func(n int) { require.NoError(t, os.WriteFile(path, content(n), 0o600)) })
}

func TestWatchSeesAtomicRenamesOneAfterTheOther(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.yaml")
	require.NoError(t, os.WriteFile(path, []byte("a: 1"), 0o600))
	changes := watch(t, path)
	replace := func(n int) {
		tmp := filepath.Join(dir, ".m.yaml.tmp")
		require.NoError(t, os.WriteFile(tmp, content(n), 0o600))
		require.NoError(t, os.Rename(tmp, path))
	}
	awaitChange(t, changes, replace)
	awaitChange(t, changes, func(n int) { replace(100 + n) })
}

func TestWatchSeesTheLinkSwapOfAKubernetesVolume(t *testing.T) {
	dir := t.TempDir()
	version := func(n int) string {
		d := filepath.Join(dir, "..v"+time.Duration(n).String())
		require.NoError(t, os.MkdirAll(d, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(d, "m.yaml"), content(n), 0o600))
		return filepath.Base(d)
	}
	require.NoError(t, os.Symlink(version(0), filepath.Join(dir, "..data")))
	path := filepath.Join(dir, "m.yaml")
	require.NoError(t, os.Symlink(filepath.Join("..data", "m.yaml"), path))
	changes := watch(t, path)
	awaitChange(t, changes, func(n int) {
		tmp := filepath.Join(dir, "..data_tmp")
		require.NoError(t, os.Symlink(version(n), tmp))
		require.NoError(t, os.Rename(tmp, filepath.Join(dir, "..data")))
	})
}

func TestWatchOfAMissingDirectoryIsAnError(t *testing.T) {
	require.Error(t, config.Watch(t.Context(), "/nonexistent/dir/m.yaml", func() {}))
}
