package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// heartbeat is the server's sign of life on an idle pull; expiry how long a pull stands.
	heartbeat = time.Second
	expiry    = 10 * time.Second
	// returnWait is how long a stopping intake collects what is on its way to it.
	returnWait = 250 * time.Millisecond
)

// errNothing says that no message came in time.
var errNothing = errors.New("no message")

// intake reads one consumer through one standing pull after the other: the server sends what it has
// as it comes, and when a pull is used up and read the next one is posted. That costs a round trip
// per pull; two pulls at a time would not, but the server deals messages to them in turn, and their
// order would be lost.
//
// The library's own iterator is not used because it loses messages: its channel has room for
// as many entries as may be on their way, heartbeats and other status messages take room in it as well,
// and what does not fit is dropped by the client, to be repeated by the server only when the
// acknowledgement runs out. A fetch drains its channel itself and has room for all that it asked
// for, however long the reader takes.
type intake struct {
	consumer jetstream.Consumer
	pull     pull

	ctx    context.Context //nolint:containedctx // ends the pull, which outlives the call that posts it
	cancel context.CancelFunc
	batch  jetstream.MessageBatch
	timer  *time.Timer
}

// start posts the first pull. Pulls end with rest or cancel, not with ctx.
func (in *intake) start(ctx context.Context) error {
	in.ctx, in.cancel = context.WithCancel(context.WithoutCancel(ctx))
	in.timer = time.NewTimer(time.Hour)
	if err := in.fetch(); err != nil { //nolint:contextcheck // the pull outlives this call
		in.cancel()
		return err
	}
	return nil
}

func (in *intake) fetch() error {
	// The pull stands for as long as its deadline less the second that the library keeps for itself.
	ctx, cancel := context.WithTimeout(in.ctx, expiry+time.Second)
	context.AfterFunc(ctx, cancel) // the batch outlives this call
	opts := []jetstream.FetchOpt{jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(heartbeat)}
	if in.pull.bytes > 0 {
		opts = append(opts, jetstream.FetchMaxBytes(in.pull.bytes))
	}
	b, err := in.consumer.Fetch(in.pull.messages, opts...)
	if err != nil {
		cancel()
		return fmt.Errorf("pull: %w", err)
	}
	in.batch = b
	return nil
}

// next returns the next message, errNothing when none came within wait, or why the pull ended.
func (in *intake) next(ctx context.Context, wait time.Duration) (jetstream.Msg, error) {
	in.timer.Reset(wait)
	for {
		select {
		case m, ok := <-in.batch.Messages():
			if ok {
				return m, nil
			}
			if err := in.turn(); err != nil { //nolint:contextcheck // the pull outlives this call
				return nil, err
			}
		case <-in.timer.C:
			return nil, errNothing
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// turn replaces a pull that is used up. A pull that ran out, or heard nothing from the server, is
// replaced as well: if that does not help, the watchdog will tell.
func (in *intake) turn() error {
	err := in.batch.Error()
	for _, harmless := range []error{
		context.DeadlineExceeded, jetstream.ErrNoHeartbeat, jetstream.ErrBatchCompleted, jetstream.ErrMaxBytesExceeded,
	} {
		if errors.Is(err, harmless) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("pull ended: %w", err)
	}
	return in.fetch()
}

// rest hands what is on its way to f and ends the pull.
func (in *intake) rest(f func(jetstream.Msg)) {
	time.AfterFunc(returnWait, in.cancel)
	for m := range in.batch.Messages() {
		f(m)
	}
}
