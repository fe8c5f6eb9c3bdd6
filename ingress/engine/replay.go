package engine

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"millrace/internal/engineapi"
)

// Generation is that of the last live call which may move the primary's state.
func (d *Door) Generation() Generation {
	d.order.mu.Lock()
	defer d.order.mu.Unlock()
	return d.order.last
}

// Term is that of the primary of now.
func (d *Door) Term() Term {
	d.order.mu.Lock()
	defer d.order.mu.Unlock()
	return d.order.term
}

// Replay sends one call of a replayer to the primary of term; when another is the primary nothing is
// sent and ErrOvertaken returned. So it is with a call that may move the primary's state when a live
// one that may move it was dispatched after decided or is under way; others are sent at once. A replayed forkchoice in flight may be cut off by a live one,
// which is ErrOvertaken too. Neither request nor outcome is recorded. One replayer uses it, one call
// at a time; ctx bounds the call. The date is the answer's, zero without one.
func (d *Door) Replay(ctx context.Context, term Term, decided Generation, body []byte) (status int, answer []byte, date time.Time, err error) {
	m, err := d.own(body)
	if err != nil {
		return 0, nil, time.Time{}, err
	}
	x := classified(body)
	if !x.moves {
		t, err := d.order.of(term)
		if err != nil {
			return 0, nil, time.Time{}, err
		}
		return exchangeWith(ctx, t, m, func() {})
	}
	step, cancel := context.WithCancel(ctx)
	defer cancel()
	held, err := d.order.hold(ctx)
	if err != nil {
		return 0, nil, time.Time{}, err
	}
	defer held.release()
	t, done, err := d.order.step(term, decided, x.chooses, cancel)
	if err != nil {
		return 0, nil, time.Time{}, err
	}
	defer done()
	held.soon()
	status, answer, date, err = exchangeWith(step, t, m, held.release)
	if err != nil && step.Err() != nil && ctx.Err() == nil {
		err = ErrOvertaken
	}
	return status, answer, date, err
}

// of is the primary of term, if it still is.
func (d *dispatcher) of(term Term) (*target, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.term != term {
		return nil, ErrOvertaken
	}
	return d.primary, nil
}

// step reserves the primary for one replayed call, under the order lock.
func (d *dispatcher) step(term Term, decided Generation, chooses bool, cancel context.CancelFunc) (t *target, done func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.term != term || d.last != decided || d.primary.moving > 0 || d.replay != nil {
		return nil, nil, ErrOvertaken
	}
	if !chooses {
		return d.primary, func() {}, nil
	}
	r := &replay{ended: make(chan struct{}), cancel: cancel}
	d.replay = r
	return d.primary, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.replay == r {
			d.replay = nil
		}
		close(r.ended)
	}, nil
}

// classified tells what a body may do.
func classified(body []byte) *exchange {
	x := &exchange{message: message{body: body}}
	x.calls, x.batch, _ = engineapi.ParseCalls(body)
	x.classify()
	return x
}

// own is a message that the consensus client did not send.
func (d *Door) own(body []byte) (*message, error) {
	m := unsigned(body)
	d.order.mu.Lock()
	minted := !d.order.primary.secret.IsZero()
	d.order.mu.Unlock()
	if minted {
		return m, nil
	}
	var ok bool
	if m.authorization, ok = d.token.current(); !ok {
		return nil, ErrNoToken
	}
	return m, nil
}

func unsigned(body []byte) *message {
	return &message{method: http.MethodPost, header: http.Header{"Content-Type": {contentTypeJSON}}, body: body}
}

// exchangeWith is a send whose answer the caller may keep.
func exchangeWith(ctx context.Context, t *target, m *message, wrote func()) (status int, body []byte, date time.Time, err error) {
	a, err := t.send(ctx, m, wrote)
	if err != nil {
		return 0, nil, time.Time{}, err
	}
	defer a.release()
	if at, err := http.ParseTime(a.header.Get("Date")); err == nil {
		date = at
	}
	return a.status, bytes.Clone(a.body), date, nil
}
