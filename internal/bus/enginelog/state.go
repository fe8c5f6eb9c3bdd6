package enginelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// stateTry bounds one request to the bucket, stateBudget all tries of one call.
	stateTry    = time.Second
	stateBudget = 2 * time.Second
	// watchTick is how soon a watch notices that its connection was made again.
	watchTick = 100 * time.Millisecond
	watchMost = 2 * time.Second
)

// State is what doors and replayers share beside the record: small values that are changed rarely, in a
// bucket of their own. It is safe for concurrent use. Values are opaque here: a mode is a name that its replayer
// knows.
type State struct {
	bus Bus
	log *slog.Logger
	now func() time.Time // for the first epoch

	mu sync.Mutex
	kv jetstream.KeyValue // nil: to be opened
}

// NewState returns the State on b.
func NewState(b Bus, log *slog.Logger) *State { return &State{bus: b, log: log, now: time.Now} }

// bucket opens the bucket at its first use.
func (s *State) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kv != nil {
		return s.kv, nil
	}
	js, err := s.bus.EngineState()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, stateTry)
	defer cancel()
	kv, err := js.KeyValue(ctx, subjects.BucketEngine)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", subjects.BucketEngine, err)
	}
	s.kv = kv
	return kv, nil
}

// get is a key's value; empty when there is none.
func (s *State) get(ctx context.Context, key string) (value string, revision uint64, err error) {
	kv, err := s.bucket(ctx)
	if err != nil {
		return "", 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, stateTry)
	defer cancel()
	e, err := kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return "", 0, nil
	case err != nil:
		return "", 0, fmt.Errorf("read %s: %w", key, err)
	}
	return string(e.Value()), e.Revision(), nil
}

// put stores a value; putting it twice is harmless, so it is tried again while nobody refuses it.
func (s *State) put(ctx context.Context, key, value string) error {
	start := time.Now()
	for n := 0; ; n++ {
		err := s.putOnce(ctx, key, value)
		if err == nil {
			return nil
		}
		pause := retry.Backoff(n, retryLeast, retryMost)
		if time.Since(start)+pause > stateBudget || !retry.Pause(ctx, pause) {
			return fmt.Errorf("write %s: %w", key, err)
		}
	}
}

func (s *State) putOnce(ctx context.Context, key, value string) error {
	kv, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stateTry)
	defer cancel()
	_, err = kv.PutString(ctx, key, value)
	return err
}

// ClaimEpoch takes the next epoch for a door of this process and returns it. No two claims are given the
// same, whatever became of the bucket in between: an epoch is at least the time in seconds. It waits for a bus that
// is away until ctx ends.
func (s *State) ClaimEpoch(ctx context.Context) (uint64, error) {
	for n := 0; ; n++ {
		epoch, err := s.claim(ctx)
		if err == nil {
			return epoch, nil
		}
		if n%20 == 0 && ctx.Err() == nil && !errors.Is(err, jetstream.ErrKeyExists) {
			s.log.LogAttrs(ctx, slog.LevelWarn, "engine epoch can't be claimed yet", slog.Any("error", err))
		}
		if !retry.Pause(ctx, retry.Backoff(n, retryLeast, retryMost)) {
			return 0, fmt.Errorf("claim engine epoch: %w: %w", context.Cause(ctx), err)
		}
	}
}

// claim is one try. When another claims at the same time, or the answer is lost, the next try finds a
// later epoch: a gap between epochs means nothing.
func (s *State) claim(ctx context.Context) (uint64, error) {
	last, revision, err := s.epoch(ctx)
	if err != nil {
		return 0, err
	}
	epoch := max(last+1, uint64(max(s.now().Unix(), 1)))
	return epoch, s.swapEpoch(ctx, epoch, revision)
}

// KeepEpoch says whether epoch, which this process claimed, still is the last one. It is one try, and
// writes the epoch once more: what is only read may be out of date.
func (s *State) KeepEpoch(ctx context.Context, epoch uint64) (kept bool, err error) {
	last, revision, err := s.epoch(ctx)
	if err != nil || last > epoch {
		return false, err
	}
	if err := s.swapEpoch(ctx, epoch, revision); err != nil {
		return false, fmt.Errorf("keep engine epoch: %w", err)
	}
	return true, nil
}

// epoch is the last one that was claimed, 0 before the first.
func (s *State) epoch(ctx context.Context) (last, revision uint64, err error) {
	value, revision, err := s.get(ctx, subjects.EngineEpochKey)
	if err != nil || value == "" {
		return 0, revision, err
	}
	if last, err = strconv.ParseUint(value, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("epoch %.40q: %w", value, err)
	}
	return last, revision, nil
}

// swapEpoch stores an epoch if nobody stored one since revision.
func (s *State) swapEpoch(ctx context.Context, epoch, revision uint64) error {
	kv, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stateTry)
	defer cancel()
	text := []byte(strconv.FormatUint(epoch, 10))
	if revision == 0 {
		_, err = kv.Create(ctx, subjects.EngineEpochKey, text)
	} else {
		_, err = kv.Update(ctx, subjects.EngineEpochKey, text, revision)
	}
	return err
}

// Load is how far an execution client's replayer said it was; zero when it never did.
func (s *State) Load(ctx context.Context, target string) (uint64, error) {
	if !subjects.ValidName(target) {
		return 0, fmt.Errorf("cursor of %.40q: %w", target, ErrName)
	}
	value, _, err := s.get(ctx, subjects.EngineCursorKey(target))
	if err != nil || value == "" {
		return 0, err
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cursor of %s: %w", target, err)
	}
	return n, nil
}

// Save says how far an execution client's replayer is; it may go back.
func (s *State) Save(ctx context.Context, target string, at uint64) error {
	if !subjects.ValidName(target) {
		return fmt.Errorf("cursor of %.40q: %w", target, ErrName)
	}
	return s.put(ctx, subjects.EngineCursorKey(target), strconv.FormatUint(at, 10))
}

// Mode is the mode that was chosen for a secondary; empty when none was.
func (s *State) Mode(ctx context.Context, secondary string) (string, error) {
	if !subjects.ValidName(secondary) {
		return "", fmt.Errorf("mode of %.40q: %w", secondary, ErrName)
	}
	value, _, err := s.get(ctx, subjects.EngineModeKey(secondary))
	return value, err
}

// SetMode chooses a secondary's mode at run time; an empty one gives the choice back to the configuration.
func (s *State) SetMode(ctx context.Context, secondary, mode string) error {
	if !subjects.ValidName(secondary) {
		return fmt.Errorf("mode of %.40q: %w", secondary, ErrName)
	}
	return s.put(ctx, subjects.EngineModeKey(secondary), mode)
}

// Watch calls f with the secondary's mode, now and each time that it is set, also to what it is, until
// ctx ends. It is empty while none is chosen, and then the configuration's holds.
func (s *State) Watch(ctx context.Context, secondary string, f func(mode string)) error {
	if !subjects.ValidName(secondary) {
		return fmt.Errorf("mode of %.40q: %w", secondary, ErrName)
	}
	return s.watch(ctx, subjects.EngineModeKey(secondary), f)
}

// Primary is the execution client that was chosen as the primary; empty when the configuration's holds.
func (s *State) Primary(ctx context.Context) (string, error) {
	value, _, err := s.get(ctx, subjects.EnginePrimaryKey)
	return value, err
}

// SetPrimary chooses the primary, also for processes that start later; an empty name gives the choice
// back to the configuration.
func (s *State) SetPrimary(ctx context.Context, target string) error {
	if target != "" && !subjects.ValidName(target) {
		return fmt.Errorf("primary %.40q: %w", target, ErrName)
	}
	return s.put(ctx, subjects.EnginePrimaryKey, target)
}

// WatchPrimary calls f with the chosen primary, now and each time that it is chosen, until ctx ends.
func (s *State) WatchPrimary(ctx context.Context, f func(target string)) error {
	return s.watch(ctx, subjects.EnginePrimaryKey, f)
}

// watch calls f with a key's value, empty for none, and with every one that is stored thereafter.
func (s *State) watch(ctx context.Context, key string, f func(string)) error {
	w := &watcher{f: f}
	for n := 0; ctx.Err() == nil; n++ {
		told := w.told
		err := s.watchOnce(ctx, key, w)
		if w.told != told {
			n = 0
		}
		if err != nil && ctx.Err() == nil && n%20 == 0 {
			s.log.LogAttrs(ctx, slog.LevelInfo, "watch of engine state is made again", slog.String("key", key), slog.Any("error", err))
		}
		retry.Pause(ctx, retry.Backoff(n, retryLeast, watchMost))
	}
	return ctx.Err()
}

// watcher tells what was stored since it told last: a watch that is made again begins with what was told.
// An equal value that was stored anew is told, as it means something to whoever stored it.
type watcher struct {
	f        func(string)
	revision uint64 // 0: none is stored
	told     int
}

func (w *watcher) tell(value string, revision uint64) {
	if w.told > 0 && revision == w.revision {
		return
	}
	w.revision = revision
	w.told++
	w.f(value)
}

var errWatchEnded = errors.New("watch ended")

// watchOnce watches over one consumer, which lives in the server's memory and is gone after a restart.
func (s *State) watchOnce(ctx context.Context, key string, w *watcher) error {
	kv, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	js, err := s.bus.EngineState()
	if err != nil {
		return err
	}
	connected := js.Conn().Stats().Reconnects
	updates, err := kv.Watch(ctx, key)
	if err != nil {
		return err
	}
	defer func() { _ = updates.Stop() }()
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	present := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-updates.Updates():
			switch {
			case !ok:
				return errWatchEnded
			case e != nil:
				present = true
				w.tell(string(e.Value()), e.Revision())
			case !present: // all that was there has been told
				w.tell("", 0)
			}
		case <-tick.C:
			if js.Conn().Stats().Reconnects != connected {
				return errWatchEnded
			}
		}
	}
}
