package engine

import (
	"bytes"
	"context"
	"net/http"

	"millrace/internal/engineapi"
)

// Generation is that of the last live call which may move the primary's state.
func (d *Door) Generation() Generation {
	d.order.mu.Lock()
	defer d.order.mu.Unlock()
	return d.order.last
}

// Replay sends one call of a replayer to the primary, unless a live call that may move its state was
// dispatched after decided or is under way: then it returns ErrOvertaken and nothing was sent.
// Neither request nor outcome is recorded. One replayer uses it, one call at a time; ctx bounds the
// call. A forkchoice in flight may be cut off by a live one.
func (d *Door) Replay(ctx context.Context, decided Generation, body []byte) (status int, answer []byte, err error) {
	m, err := d.own(body)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release, err := d.order.hold(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer release()
	t, done, err := d.order.step(decided, choosing(body), cancel)
	if err != nil {
		return 0, nil, err
	}
	defer done()
	return exchangeWith(ctx, t, m, release)
}

// step reserves the primary for one replayed call, under the order lock.
func (d *dispatcher) step(decided Generation, chooses bool, cancel context.CancelFunc) (t *target, done func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != decided || d.moving > 0 || d.replay != nil {
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
		d.replay = nil
		close(r.ended)
	}, nil
}

// choosing says whether the body may hold a forkchoice.
func choosing(body []byte) bool {
	x := exchange{message: message{body: body}}
	x.calls, x.batch, _ = engineapi.ParseCalls(body)
	x.classify()
	return x.chooses
}

// Ask sends a read to the primary: it must not move the primary's state, and passes by the order
// that Replay keeps. Nothing is recorded.
func (d *Door) Ask(ctx context.Context, body []byte) (status int, answer []byte, err error) {
	m, err := d.own(body)
	if err != nil {
		return 0, nil, err
	}
	d.order.mu.Lock()
	t := d.order.primary
	d.order.mu.Unlock()
	return exchangeWith(ctx, t, m, func() {})
}

// own is a message that the consensus client did not send.
func (d *Door) own(body []byte) (*message, error) {
	m := &message{
		method: http.MethodPost,
		header: http.Header{"Content-Type": {contentTypeJSON}},
		body:   body,
	}
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

// exchangeWith is a send whose answer the caller may keep.
func exchangeWith(ctx context.Context, t *target, m *message, wrote func()) (status int, body []byte, err error) {
	a, err := t.send(ctx, m, wrote)
	if err != nil {
		return 0, nil, err
	}
	defer a.release()
	return a.status, bytes.Clone(a.body), nil
}
