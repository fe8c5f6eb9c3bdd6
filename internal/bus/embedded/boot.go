package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Files of the store directory that are ours, not JetStream's.
const (
	lockFile  = "millrace.lock"
	bootFile  = "boot_id"
	cleanFile = "clean"
	jsDir     = "jetstream"
)

// boot decides whether the store may have been rolled back by the death of the machine
// (CORRECTNESS 7). The directory names the machine run in which the store was last known to be
// whole; the clean mark says that it was flushed when its server stopped.
type boot struct {
	dir     string
	id      string // of this run; empty when it can't be told
	unclean bool
}

// openBoot reads the marks and takes the clean mark away. While the store is unclean the old boot
// id stays, so that a process that dies before the sequences are burnt finds it unclean again.
func openBoot(dir string) (*boot, error) {
	id, err := bootID()
	if err != nil {
		id = ""
	}
	before, err := os.ReadFile(filepath.Join(dir, bootFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	clean := exists(filepath.Join(dir, cleanFile))
	same := id != "" && strings.TrimSpace(string(before)) == id
	b := &boot{dir: dir, id: id, unclean: !clean && !same && exists(filepath.Join(dir, jsDir))}
	if b.unclean {
		return b, nil
	}
	// The order matters: a crash between the two must not leave a store that looks clean.
	if err := b.settle(); err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(dir, cleanFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove clean mark: %w", err)
	}
	return b, flushDir(dir)
}

// settle records this machine run as one in which the store is whole.
func (b *boot) settle() error {
	if err := writeDurably(filepath.Join(b.dir, bootFile), b.id+"\n"); err != nil {
		return fmt.Errorf("write boot id: %w", err)
	}
	b.unclean = false
	return nil
}

// stopped leaves the clean mark, after everything that the server wrote has reached the medium.
func (b *boot) stopped() error {
	if b.unclean {
		return nil
	}
	if err := flushVolume(b.dir); err != nil {
		return fmt.Errorf("flush volume: %w", err)
	}
	if err := writeDurably(filepath.Join(b.dir, cleanFile), b.id+"\n"); err != nil {
		return fmt.Errorf("write clean mark: %w", err)
	}
	return nil
}

// lock takes the store directory for this process; the kernel gives it back when the file is
// closed or the process dies.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock store directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
		}
		return nil, fmt.Errorf("lock store directory %s: %w", dir, err)
	}
	return f, nil
}

// writeDurably replaces a file so that after a crash it has the old or the new content.
func writeDurably(path, content string) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return flushDir(filepath.Dir(path))
}

func flushDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
