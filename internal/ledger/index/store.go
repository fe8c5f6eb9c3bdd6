package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The memory of an open index, bytes: two tables that are filled and written, and what was read.
const (
	memTable   = 4 << 20
	memTables  = 3
	cacheBytes = 16 << 20
	openFiles  = 256
	fileBytes  = 16 << 20
)

// errHeld: another process has the folder.
var errHeld = errors.New("another process has the folder")

// damaged reports whether a folder that can't be opened is worth nothing any more: its files are not
// what they were, rather than out of reach.
func damaged(err error) bool {
	var errno syscall.Errno
	return !errors.Is(err, errHeld) && (errors.Is(err, fs.ErrNotExist) || !errors.As(err, &errno))
}

// errFailed: the store met a fault that it can't go on from.
var errFailed = errors.New("trace index has failed, a restart opens it again")

// store is the index's files: no log of writes beside them, as what was not written yet is read again.
type store struct {
	*pebble.DB
	cache  *pebble.Cache
	lock   *pebble.Lock
	failed atomic.Pointer[string]
}

func openStore(dir string, log *slog.Logger) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(dir, vfs.Default)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errHeld, err)
	}
	s := &store{cache: pebble.NewCache(cacheBytes), lock: lock}
	comparer := *pebble.DefaultComparer
	comparer.Name, comparer.Split = "millrace.trace.1", split
	opts := &pebble.Options{
		FS: vfs.Default, Lock: lock, Cache: s.cache, Comparer: &comparer, DisableWAL: true, FormatMajorVersion: pebble.FormatNewest,
		MemTableSize: memTable, MemTableStopWritesThreshold: memTables, MaxOpenFiles: openFiles,
		L0CompactionThreshold: 16, L0StopWritesThreshold: 128, LBaseMaxBytes: 256 << 20,
		Logger: &logger{log: log, store: s},
	}
	opts.TargetFileSizes[0] = fileBytes
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		opts.Levels[i].BlockSize = 8 << 10
	}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		s.cache.Unref()
		return nil, errors.Join(err, lock.Close())
	}
	s.DB = db
	return s, nil
}

// closeTimeout bounds each step of closing: the store goes on trying what a full or missing disk refuses.
const closeTimeout = 3 * time.Second

// errStuck: the store did not come to an end.
var errStuck = errors.New("trace index does not write, what it had in memory is read again")

// close writes what is in memory. A store that has failed, or does not get on, is left as it is.
func (s *store) close() error {
	if s == nil || s.failed.Load() != nil {
		return nil
	}
	flushed, err := s.AsyncFlush()
	if err == nil {
		err = within(flushed)
	}
	closed := make(chan struct{})
	var cerr error
	go func() {
		defer close(closed)
		cerr = errors.Join(s.DB.Close(), s.lock.Close())
		s.cache.Unref()
	}()
	if stuck := within(closed); stuck != nil {
		return stuck
	}
	return errors.Join(err, cerr)
}

func within(done <-chan struct{}) error {
	t := time.NewTimer(closeTimeout)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-t.C:
		return errStuck
	}
}

// ok is nil, or why the store can't be used any more.
func (s *store) ok() error {
	if why := s.failed.Load(); why != nil {
		return fmt.Errorf("%w: %s", errFailed, *why)
	}
	return nil
}

// places returns how far the logs were read, and the last minute that has a key.
func (s *store) places() (p places, newest minute, err error) {
	it, err := s.NewIter(nil)
	if err != nil {
		return p, 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.Last(); ok; {
		m, mine := minuteIn(it.Key())
		if !mine {
			return p, newest, ErrEntry
		}
		newest = max(newest, m)
		key := appendPlaces(nil, m)
		if it.SeekGE(key) && bytes.Equal(it.Key(), key) {
			p, err = decodePlaces(it.Value())
			return p, newest, err
		}
		ok = it.SeekLT(m.appendStart(nil))
	}
	return p, newest, it.Error()
}

// first is the oldest minute that has a key.
func (s *store) first() (m minute, ok bool, err error) {
	it, err := s.NewIter(nil)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if it.First() {
		m, ok = minuteIn(it.Key())
	}
	return m, ok, it.Error()
}

// drop takes everything before a minute out, whole files where it can.
func (s *store) drop(ctx context.Context, before minute) error {
	return s.Excise(ctx, pebble.KeyRange{Start: minute(0).appendStart(nil), End: before.appendStart(nil)})
}

// bytes is what the index takes of the disk.
func (s *store) bytes() int64 { return int64(s.Metrics().DiskSpaceUsage()) } //nolint:gosec // of a disk

// errorPause is how long the store waits after a fault.
const errorPause = 50 * time.Millisecond

// logger takes what the store says, and its last words: it must not take the process along.
type logger struct {
	log   *slog.Logger
	store *store
}

// Infof leaves out what is of no use here.
func (*logger) Infof(string, ...any) {}

// Errorf logs, slowly: the store repeats at once what has failed.
func (l *logger) Errorf(format string, args ...any) {
	time.Sleep(errorPause)
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "trace index store", slog.String("text", fmt.Sprintf(format, args...)))
}

// Fatalf ends the use of the store, and the goroutine that can't go on.
func (l *logger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if l.store.failed.CompareAndSwap(nil, &text) {
		l.log.LogAttrs(context.Background(), slog.LevelError, "trace index has failed", slog.String("text", text))
	}
	select {} // whoever met the fault holds locks that nobody may get
}
