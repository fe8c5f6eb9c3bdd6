package engine

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

const (
	// sendHold is how long a state-moving call may keep the next one from being sent. A primary that
	// does not even take the request would otherwise queue up calls that would fail side by side.
	sendHold = 50 * time.Millisecond
	// overtakeWait is how long a live forkchoice waits for a replayed one in flight.
	overtakeWait = 2 * time.Second
)

// Generation is the record's sequence of the latest live call that may move the primary's state, 0
// before the first. A replay step decided at some generation must rest on a record that holds that
// call, if the generation is not 0.
type Generation uint64

// Term counts the changes of the primary. A replay step rests on what one client said, and must not
// reach another.
type Term uint64

// dispatcher orders what is sent to the primary.
type dispatcher struct {
	// order is held from the moment when a state-moving call gets its sequence until it is written.
	order chan struct{}
	turn  atomic.Pointer[turn] // whose the lock is, or was last

	mu       sync.Mutex
	primary  *target
	term     Term      // of primary
	targets  []*target // every primary there was
	sequence uint64
	last     Generation
	replay   *replay // a forkchoice in flight to the primary that a replayer sent
}

// replay is a replayed forkchoice in flight.
type replay struct {
	ended  chan struct{}
	cancel context.CancelFunc
}

// exchange is one message of the consensus client on its way.
type exchange struct {
	message
	calls    []engineapi.Call // none when the body can't be read
	batch    bool
	tooMany  bool // a batch above the limit
	moves    bool // may move the client's state
	chooses  bool // may be a forkchoice
	verified bool // its token was verified here
	socket   bool // it came on a WebSocket
	received time.Time

	// Set at dispatch.
	target     *target
	requests   []*record.Request // one per call, or one for a body that can't be read
	last       Generation        // the sequence of its last call
	dispatched time.Time
	release    func() // lets the next state-moving call go; may be called often
}

// classify tells what the exchange may do, which decides how it is ordered and whether it may be sent again.
func (x *exchange) classify() {
	// What can't be read, or is not known, may move money.
	x.once = len(x.calls) == 0 || slices.ContainsFunc(x.calls, func(c engineapi.Call) bool { return !engineapi.Repeatable(c.Method) })
	if len(x.calls) == 0 {
		x.moves, x.chooses = len(x.body) > 0, len(x.body) > 0
	}
	for _, c := range x.calls {
		switch {
		case c.Method == "":
			x.moves, x.chooses = true, true
		case c.Class() == engineapi.ClassForkchoice:
			x.moves, x.chooses = true, true
		case c.Class() == engineapi.ClassReplay:
			x.moves = true
		}
	}
}

// dispatch gives the exchange its place: target, sequence, record. When it returns nil the exchange
// is to be sent at once, and ended thereafter.
func (d *Door) dispatch(ctx context.Context, x *exchange) error {
	x.release = func() {}
	var held *turn
	if x.moves {
		var err error
		if held, err = d.order.hold(ctx); err != nil {
			return err
		}
		x.release = held.release
	}
	meets := d.enlist(x)
	if meets != nil {
		meets.giveWay(ctx)
	}
	if x.moves {
		held.soon()
	}
	return nil
}

// maxSlack is how much of a body beside a call a record of that call may keep alive: a queue of records
// counts their own bytes.
const maxSlack = 4 << 10

// enlist takes the sequence, chooses the target and has the requests recorded, all under one lock.
// It returns the replay that the exchange meets in flight and must not be mixed up with.
func (d *Door) enlist(x *exchange) *replay {
	for _, c := range x.calls {
		if len(x.body) > 2*len(c.Raw)+maxSlack {
			c.Raw = bytes.Clone(c.Raw)
		}
		x.requests = append(x.requests, record.NewRequest(record.ID{Epoch: d.epoch}, x.received, c))
	}
	if len(x.calls) == 0 && len(x.body) > 0 {
		x.requests = []*record.Request{opaque(d.epoch, x)}
	}
	o := &d.order
	o.mu.Lock()
	defer o.mu.Unlock()
	x.target = d.route(x)
	first := o.sequence + 1
	for _, r := range x.requests {
		o.sequence++
		r.Sequence, r.Verified = o.sequence, x.verified
		if x.batch {
			r.Batch = first
		}
		d.ports.Recorder.Request(r)
	}
	x.last = Generation(o.sequence)
	x.dispatched = time.Now()
	if !x.moves {
		return nil
	}
	o.last = x.last
	x.target.moving++
	if x.chooses {
		return o.replay
	}
	return nil
}

// opaque describes a body that can't be read as calls. It is evidence and can't be replayed, so a
// long one is not kept.
func opaque(epoch uint64, x *exchange) *record.Request {
	const longest = 64 << 10
	r := record.NewRequest(record.ID{Epoch: epoch}, x.received, engineapi.Call{Raw: x.body})
	if len(x.body) > longest {
		r.Raw, r.OmittedSize = nil, int64(len(x.body))
	}
	return r
}

// giveWay waits until the replay ended, and cuts it off when that takes too long.
func (r *replay) giveWay(ctx context.Context) {
	limit := time.NewTimer(overtakeWait)
	defer limit.Stop()
	select {
	case <-r.ended:
	case <-limit.C:
	case <-ctx.Done():
	}
	r.cancel()
}

// ended counts a dispatched exchange as answered.
func (d *dispatcher) ended(x *exchange) {
	x.release()
	if !x.moves {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t := x.target
	if t.moving--; t.moving == 0 && t.still != nil {
		close(t.still)
		t.still = nil
	}
}

// again takes the order lock once more for sending x a second time; false when something came after
// it that it must not follow.
func (d *dispatcher) again(ctx context.Context, x *exchange) (release func(), ok bool) {
	if !x.moves {
		return func() {}, true
	}
	held, err := d.hold(ctx)
	if err != nil {
		return nil, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != x.last || d.primary != x.target {
		held.release()
		return nil, false
	}
	held.soon()
	return held.release, true
}

// leads says whether t is the primary.
func (d *dispatcher) leads(t *target) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.primary == t
}

// quiet waits until no state-moving live call is in flight to the primary, or ctx ends.
func (d *dispatcher) quiet(ctx context.Context) {
	d.mu.Lock()
	t := d.primary
	if t.moving == 0 {
		d.mu.Unlock()
		return
	}
	if t.still == nil {
		t.still = make(chan struct{})
	}
	still := t.still
	d.mu.Unlock()
	select {
	case <-still:
	case <-ctx.Done():
	}
}
