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
	// gathered is how many messages a patient intake takes at a time, patience after how many known
	// messages in a row it becomes patient, and impatience after how many more when it was hurried: what
	// somebody waits for is behind the copies that gathered while it lingered.
	gathered   = 256
	patience   = 32
	impatience = 2048
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
//
// While only copies of tapped orders come, nobody waits for them: a patient intake lets them gather at
// the server and takes all that are there at once, which costs less than a tenth. One that finds nothing
// waits for a single message, as ever. With a passer nothing is read at all while only known messages come.
type intake struct {
	consumer jetstream.Consumer
	pull     pull
	// linger is how long messages may gather; zero: they may not. hurry ends it, because somebody waits.
	linger time.Duration
	hurry  <-chan struct{}
	known  int // messages in a row that were no news; far below zero after a hurry
	// passer, if set, is asked before anything is read; hurried is a hurry that came during a batch.
	passer  *passer
	hurried bool

	ctx    context.Context //nolint:containedctx // ends the pull, which outlives the call that posts it
	cancel context.CancelFunc
	batch  jetstream.MessageBatch // nil while it lingers
	taken  int                    // messages of batch
	atOnce bool                   // batch is what was there when it was posted
	timer  *time.Timer
	rested *time.Timer // the end of lingering
}

// start posts the first pull. Pulls end with rest or cancel, not with ctx.
func (in *intake) start(ctx context.Context) error {
	in.ctx, in.cancel = context.WithCancel(context.WithoutCancel(ctx))
	in.timer, in.rested = time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	in.rested.Stop()
	first := in.fetch
	if in.passer != nil {
		first = in.gather
	}
	if err := first(); err != nil {
		in.cancel()
		return err
	}
	return nil
}

func (in *intake) fetch() error {
	in.taken, in.atOnce = 0, false
	in.passer.reading()
	// The pull stands for as long as its deadline less the second that the library keeps for itself.
	ctx, cancel := context.WithTimeout(in.ctx, expiry+time.Second)
	context.AfterFunc(ctx, cancel) // the batch outlives this call
	opts := []jetstream.FetchOpt{jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(heartbeat)}
	if in.pull.bytes > 0 {
		opts = append(opts, jetstream.FetchMaxBytes(in.pull.bytes))
	}
	messages := in.pull.messages
	if in.lingers() {
		messages = 1
	}
	b, err := in.consumer.Fetch(messages, opts...)
	if err != nil {
		cancel()
		return fmt.Errorf("pull: %w", err)
	}
	in.batch = b
	return nil
}

// gather takes what is there, without waiting for more.
func (in *intake) gather() error {
	in.passer.reading()
	b, err := in.consumer.FetchNoWait(in.most())
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	in.batch, in.taken, in.atOnce = b, 0, true
	return nil
}

// most is how much is taken at once. With a passer hardly anything is known that is read, so it waits here for
// its turn, and no more than without a tap.
func (in *intake) most() int {
	if in.passer != nil {
		return in.pull.messages
	}
	return gathered
}

// pass goes on after lingering: without reading, if what is there is known to have ended.
func (in *intake) pass() error {
	if in.passer == nil {
		return in.gather()
	}
	way, err := in.passer.step(in.ctx)
	switch {
	case err != nil:
		return err
	case way == wayLinger:
		in.rested.Reset(in.linger)
		return nil
	case way == wayWait:
		return in.fetch()
	default:
		return in.gather()
	}
}

// passing reports whether nothing is asked for because the passer looks after what comes.
func (in *intake) passing() bool { return in.passer != nil && in.batch == nil }

func (in *intake) lingers() bool {
	return in.passer != nil || in.linger > 0 && in.known >= patience
}

// was tells whether the message that next returned last was news.
func (in *intake) was(n news) {
	in.known++
	if n != newsKnown {
		in.known = 0
	}
}

// next returns the next message, errNothing when none came within wait, or why the pull ended.
func (in *intake) next(ctx context.Context, wait time.Duration) (jetstream.Msg, error) {
	in.timer.Reset(wait)
	for {
		var messages <-chan jetstream.Msg
		if in.batch != nil {
			messages = in.batch.Messages()
		}
		var err error
		select {
		case m, ok := <-messages:
			if ok {
				in.taken++
				return m, nil
			}
			err = in.turn() //nolint:contextcheck // the pull outlives this call
		case <-in.rested.C:
			err = in.pass() //nolint:contextcheck // the pull outlives this call
		case <-in.hurry:
			err = in.hasten() //nolint:contextcheck // the pull outlives this call
		case <-in.timer.C:
			return nil, errNothing
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
	}
}

// hasten ends the lingering, because somebody waits.
func (in *intake) hasten() error {
	in.known = -impatience
	switch {
	case in.batch != nil:
		in.hurried = true
		return nil
	case in.passer != nil:
		in.rested.Stop()
		return in.gather()
	default:
		in.rested.Stop()
		return in.fetch()
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
	hurried := in.hurried
	in.hurried = false
	switch {
	case in.passer == nil && (!in.lingers() || in.atOnce && in.taken == 0):
		return in.fetch()
	case in.taken == in.most(), in.passer != nil && hurried:
		return in.gather()
	}
	in.batch = nil
	in.rested.Reset(in.linger)
	return nil
}

// rest hands what is on its way to f and ends the pull.
func (in *intake) rest(f func(jetstream.Msg)) {
	if in.batch == nil {
		in.cancel()
		return
	}
	time.AfterFunc(returnWait, in.cancel)
	for m := range in.batch.Messages() {
		f(m)
	}
}
