package engine

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Limits of a WebSocket; the times are geth's.
const (
	socketCalls = 64 // in flight; the reader waits for a free place
	pingEvery   = 30 * time.Second
	pongWithin  = 30 * time.Second
	socketWrite = 30 * time.Second
)

// socket serves a WebSocket whose token was checked. Each message is one exchange with the primary
// over HTTP, dispatched in the order of arrival and answered when its answer is there.
func (d *Door) socket(root context.Context, w http.ResponseWriter, r *http.Request) {
	if d.cfg.Auth == AuthForward {
		d.refused(root, refusedSocket)
		http.Error(w, "a WebSocket outlives its token: it needs engine.auth verify", http.StatusBadRequest)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // answered
	}
	d.metrics.sockets.Inc()
	defer d.metrics.sockets.Dec()
	conn.SetReadLimit(d.cfg.MaxBody)
	s := &socket{door: d, conn: conn, places: make(chan struct{}, socketCalls), closed: make(chan struct{})}
	done := make(chan struct{})
	s.calls.Go(func() { s.keep(root, done) })
	s.read(root)
	close(done)
	s.calls.Wait()
	_ = conn.CloseNow()
}

// socket is one open WebSocket.
type socket struct {
	door   *Door
	conn   *websocket.Conn
	places chan struct{} // one is taken by each call in flight
	closed chan struct{} // closed when keep ended: no place becomes free any more
	calls  sync.WaitGroup
}

// read takes messages until the connection ends.
func (s *socket) read(root context.Context) {
	for {
		_, r, err := s.conn.Reader(root)
		if err != nil {
			return
		}
		body, held, err := s.door.budget.read(r, -1, s.door.cfg.MaxBody)
		if err != nil {
			s.door.budget.release(held)
			s.refuse(err)
			return
		}
		select {
		case s.places <- struct{}{}:
		case <-s.closed:
			s.door.budget.release(held)
			return
		case <-root.Done():
			s.door.budget.release(held)
			return
		}
		s.pass(root, body, held)
	}
}

// refuse ends the connection over a message that could not be read.
func (s *socket) refuse(err error) {
	switch {
	case errors.Is(err, errBodyTooLarge):
		_ = s.conn.Close(websocket.StatusMessageTooBig, err.Error())
	case errors.Is(err, errExhausted):
		_ = s.conn.Close(websocket.StatusTryAgainLater, messageBusy)
	}
}

// pass dispatches a message and leaves the rest to a goroutine of its own.
func (s *socket) pass(root context.Context, body []byte, held int64) {
	d := s.door
	leave := func() { d.budget.release(held); <-s.places }
	deliver := func(r reply) { s.deliver(root, r) }
	x := d.exchange(body)
	x.header = http.Header{"Content-Type": {contentTypeJSON}}
	x.socket = true
	if x.tooMany {
		d.carry(root, x, deliver)
		leave()
		return
	}
	ctx, cancel := context.WithTimeout(root, d.cfg.Timeout)
	if !d.begin(ctx, x, deliver) {
		cancel()
		leave()
		return
	}
	s.calls.Go(func() {
		defer leave()
		defer cancel()
		d.finish(ctx, x, deliver)
	})
}

// deliver writes an answer as a message. An HTTP status has no place here: what is not 200 becomes
// an error under the caller's id, see finish.
func (s *socket) deliver(root context.Context, r reply) {
	if len(r.body) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(root, socketWrite)
	defer cancel()
	_ = s.conn.Write(ctx, websocket.MessageText, r.body) // a failed write ends the reader
}

// keep pings, and ends the connection when the door stops: what is in flight is answered first.
func (s *socket) keep(root context.Context, done <-chan struct{}) {
	defer close(s.closed)
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-s.door.stopping:
			s.settle(root)
			_ = s.conn.Close(websocket.StatusGoingAway, "the door is stopping")
			return
		case <-tick.C:
			ctx, cancel := context.WithTimeout(root, pongWithin)
			err := s.conn.Ping(ctx)
			cancel()
			if err != nil {
				_ = s.conn.CloseNow()
				return
			}
		}
	}
}

// settle takes all places: then no call is in flight and none begins.
func (s *socket) settle(root context.Context) {
	for range cap(s.places) {
		select {
		case s.places <- struct{}{}:
		case <-root.Done():
			return
		}
	}
}
