package enginelog

import (
	"context"
	"fmt"
	"time"

	"millrace/internal/retry"
)

const (
	// stallPatience is how long the store may take nothing at all while somebody waits for room.
	stallPatience = 30 * time.Second
	// roomPoll is how often is looked whether there is room.
	roomPoll = 2 * time.Millisecond
)

// Room waits until a request of so many bytes, or an outcome, can be taken without any record being lost for
// want of room. It is for one that has time and is the only one that records, such as an import; a door
// never asks. It fails with ErrStalled when nothing was stored for half a minute, and with ctx.
func (r *Recorder) Room(ctx context.Context, size int64) error {
	// Half of each bound: in the spool what is stored already takes room beside what is not.
	most := min(r.cfg.QueueMax, r.cfg.SpoolMax) / 2
	return r.await(ctx, func(left int64) bool { return left == 0 || left+size+recordOverhead <= most })
}

// Settled waits until nothing that was taken is left to store. It fails as Room does.
func (r *Recorder) Settled(ctx context.Context) error {
	return r.await(ctx, func(left int64) bool { return left == 0 })
}

// Lost is how many of the records that this recorder had were lost, for any reason.
func (r *Recorder) Lost() uint64 { return r.m.gone.Load() }

func (r *Recorder) await(ctx context.Context, enough func(left int64) bool) error {
	stored, since := r.m.settled.Load(), time.Now()
	for !enough(r.left()) {
		if !retry.Pause(ctx, roomPoll) {
			return context.Cause(ctx)
		}
		if n := r.m.settled.Load(); n != stored {
			stored, since = n, time.Now()
		}
		if time.Since(since) > stallPatience {
			return fmt.Errorf("%w for %s", ErrStalled, stallPatience)
		}
	}
	return nil
}

// left is the bytes of what was taken and is neither stored nor lost; zero only if there is nothing.
func (r *Recorder) left() int64 {
	r.mu.Lock()
	n, j := r.bytes+r.moving, r.journal
	r.mu.Unlock()
	if j != nil {
		n += j.waiting()
	}
	return n
}
