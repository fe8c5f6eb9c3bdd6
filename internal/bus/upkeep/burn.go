package upkeep

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/subjects"
)

const (
	// BurnCount is how many sequences have to be burnt after an unclean machine stop: SyncInterval
	// (1 s) times the peak rate.
	BurnCount = 10_000
	// burnWindow bounds the publishes that are on their way.
	burnWindow = 256
	// burnRoom is what one burnt sequence may take in the store until it is purged, generously.
	burnRoom = 256
)

// Burn moves the last sequence of each stream by n, with empty messages on the stream's void
// subject that are purged at once; the stream's orders stay. It must be done before the door opens
// after an unclean machine stop: whoever sources the stream may have seen up to a second more than
// is left of it, and would silently skip new messages under the sequences it has already seen.
// Those who source or consume may see void messages (subjects.IsVoid) in the meantime.
//
// A stream that is full, and would refuse them, is given room for the time being.
func Burn(ctx context.Context, js jetstream.JetStream, streams []string, n int) error {
	for _, name := range streams {
		if err := burn(ctx, js, name, n); err != nil {
			return fmt.Errorf("burn sequences of %s: %w", name, err)
		}
	}
	return nil
}

func burn(ctx context.Context, js jetstream.JetStream, name string, n int) (err error) {
	subject, err := subjects.Void(name)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	restore, err := makeRoom(ctx, js, stream.CachedInfo(), n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	target := stream.CachedInfo().State.LastSeq + uint64(max(n, 0))
	for last := target - uint64(max(n, 0)); last < target; {
		if err := publishVoid(ctx, js, subject, target-last); err != nil {
			return err
		}
		info, err := stream.Info(ctx)
		if err != nil {
			return err
		}
		last = info.State.LastSeq
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject(subject))
}

// makeRoom raises a byte limit that the void messages would hit.
func makeRoom(ctx context.Context, js jetstream.JetStream, info *jetstream.StreamInfo, n int) (restore func() error, err error) {
	cfg := info.Config
	need := int64(max(n, 0)) * burnRoom
	if cfg.MaxBytes <= 0 || int64(info.State.Bytes)+need < cfg.MaxBytes { //nolint:gosec // a size
		return func() error { return nil }, nil
	}
	raised := cfg
	raised.MaxBytes += need
	if _, err := js.UpdateStream(ctx, raised); err != nil {
		return nil, fmt.Errorf("raise max_bytes: %w", err)
	}
	return func() error {
		if _, err := js.UpdateStream(context.WithoutCancel(ctx), cfg); err != nil {
			return fmt.Errorf("restore max_bytes: %w", err)
		}
		return nil
	}, nil
}

// publishVoid stores count empty messages, at most burnWindow of them unacknowledged at a time.
func publishVoid(ctx context.Context, js jetstream.JetStream, subject string, count uint64) error {
	window := make([]jetstream.PubAckFuture, 0, burnWindow)
	settle := func() error {
		for _, f := range window {
			select {
			case <-f.Ok():
			case err := <-f.Err():
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		window = window[:0]
		return nil
	}
	for ; count > 0; count-- {
		f, err := js.PublishMsgAsync(&nats.Msg{Subject: subject})
		if err != nil {
			return err
		}
		if window = append(window, f); len(window) == burnWindow {
			if err := settle(); err != nil {
				return err
			}
		}
	}
	return settle()
}
