package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long a directory must be quiet before the file is read: editors and
	// orchestrators change a file in several steps.
	settle = 100 * time.Millisecond
	// poll is the fallback for file systems that send no events.
	poll = 15 * time.Second
)

// Watch calls changed whenever the content of the file at path has become another, until ctx ends.
// It watches the directories and not the file, because editors and Kubernetes replace the file (or
// a symbolic link above it) and a watch on the old one would see nothing more. A file that is away
// for a moment is not a change.
func Watch(ctx context.Context, path string, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer w.Close() //nolint:errcheck // nothing is lost with it
	if err := watchDirs(w, path); err != nil {
		return err
	}
	last, _ := digest(path)
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	check := func() {
		_ = watchDirs(w, path) // the link may point elsewhere now; the poll covers a failure
		if now, ok := digest(path); ok && now != last {
			last = now
			changed()
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return errors.New("file watcher closed")
			}
			quiet.Reset(settle)
		case <-w.Errors: // an overflow: the poll will see the change
		case <-quiet.C:
			check()
		case <-tick.C:
			check()
		}
	}
}

// watchDirs watches the directory that holds path and, when path is a link, the one of its target.
func watchDirs(w *fsnotify.Watcher, path string) error {
	if err := w.Add(filepath.Dir(path)); err != nil {
		return fmt.Errorf("watch %s: %w", filepath.Dir(path), err)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil && filepath.Dir(target) != filepath.Dir(path) {
		_ = w.Add(filepath.Dir(target))
	}
	return nil
}

func digest(path string) ([sha256.Size]byte, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return [sha256.Size]byte{}, false
	}
	return sha256.Sum256(data), true
}
