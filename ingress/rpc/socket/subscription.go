package socket

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"millrace/internal/jsonrpc"
	"millrace/internal/rpcapi"
)

// subscription is one of a connection's. Until the client has been told its id, results are held: at most as many
// and as large as the send queue.
type subscription struct {
	conn *conn
	id   string

	mu    sync.Mutex
	held  [][]byte
	bytes int
	state state
	feed  rpcapi.Subscription
}

type state uint8

const (
	stateNew  state = iota + 1 // the id was not told
	stateOpen                  // results go out
	stateOver
)

// own answers eth_subscribe and eth_unsubscribe. One without an id has nobody to be answered, so it does nothing.
func (c *conn) own(ctx context.Context, r *request) {
	if r.id == nil {
		return
	}
	method := string(r.method)
	if g := c.server.ports.Gate; g != nil {
		if err := g.Admit(c.client, method); err != nil {
			c.reply(ctx, jsonrpc.AppendError(nil, r.identified(), err))
			return
		}
	}
	if method == methodSubscribe {
		c.subscribe(ctx, r)
		return
	}
	if err := c.unsubscribe(r.params); err != nil {
		c.reply(ctx, jsonrpc.AppendError(nil, r.identified(), rpcError(err)))
		return
	}
	c.reply(ctx, jsonrpc.AppendResult(nil, r.identified(), []byte("true")))
}

func (c *conn) subscribe(ctx context.Context, r *request) {
	s := &subscription{conn: c, id: newID(), state: stateNew}
	err := c.add(s)
	if err == nil {
		var feed rpcapi.Subscription
		if feed, err = c.server.ports.Subscriber.Subscribe(ctx, r.params, s.deliver); err == nil {
			s.attach(feed)
		} else {
			c.remove(s.id)
		}
	}
	if err != nil {
		c.reply(ctx, jsonrpc.AppendError(nil, r.identified(), rpcError(err)))
		return
	}
	if c.reply(ctx, jsonrpc.AppendResult(nil, r.identified(), []byte(`"`+s.id+`"`))) {
		s.open()
	}
}

// newID is as long as geth's, and random so that nobody guesses another's.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return "0x" + hex.EncodeToString(b[:])
}

// add makes the subscription one of the connection's, under its bound.
func (c *conn) add(s *subscription) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.shut:
		return rpcapi.ErrStopping
	case len(c.subs) >= c.server.cfg().MaxSubscriptions:
		return rpcapi.ErrSubscriptionLimit
	}
	c.subs[s.id] = s
	c.server.metrics.subscriptions.Inc()
	return nil
}

func (c *conn) remove(id string) *subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.subs[id]
	if s != nil {
		delete(c.subs, id)
		c.server.metrics.subscriptions.Dec()
	}
	return s
}

func (c *conn) unsubscribe(params []byte) error {
	var ids []string
	if json.Unmarshal(params, &ids) != nil || len(ids) != 1 {
		return rpcapi.ErrSubscriptionParams
	}
	s := c.remove(ids[0])
	if s == nil {
		return errNotFound
	}
	s.close()
	return nil
}

// closeAll ends all subscriptions, and none begins any more.
func (c *conn) closeAll() {
	c.mu.Lock()
	c.shut = true
	all := c.subs
	c.subs = make(map[string]*subscription)
	c.server.metrics.subscriptions.Sub(float64(len(all)))
	c.mu.Unlock()
	for _, s := range all {
		s.close()
	}
}

// deliver takes a result from the feed; see [rpcapi.Deliver].
func (s *subscription) deliver(n rpcapi.Notification) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateOver {
		return false
	}
	if n.Err != nil {
		s.state = stateOver
		s.conn.end(ending{endedFeed, websocket.StatusTryAgainLater, "subscription ended, subscribe again"})
		return false
	}
	b := appendNotification(make([]byte, 0, len(n.Result)+128), s.id, n.Result)
	if s.state == stateNew {
		return s.hold(b)
	}
	return s.send(b)
}

// hold keeps a notification until the id has been told.
func (s *subscription) hold(b []byte) bool {
	cfg := s.conn.cfg
	if len(s.held) >= cfg.QueueMessages || s.bytes+len(b) > cfg.QueueBytes {
		s.state, s.held = stateOver, nil
		s.conn.slow()
		return false
	}
	s.held = append(s.held, b)
	s.bytes += len(b)
	return true
}

func (s *subscription) send(b []byte) bool {
	if !s.conn.notify(b) {
		s.state = stateOver
		return false
	}
	return true
}

// open lets out what was held, once the id is in the send queue.
func (s *subscription) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateNew {
		return
	}
	s.state = stateOpen
	for _, b := range s.held {
		if !s.send(b) {
			break
		}
	}
	s.held, s.bytes = nil, 0
}

// attach gives the subscription its end at the feed; if it was closed meanwhile, that one is too.
func (s *subscription) attach(feed rpcapi.Subscription) {
	s.mu.Lock()
	s.feed = feed
	over := s.state == stateOver
	s.mu.Unlock()
	if over {
		feed.Close()
	}
}

// close ends it: nothing is sent any more. The feed is told without the lock, which its delivery takes.
func (s *subscription) close() {
	s.mu.Lock()
	s.state, s.held = stateOver, nil
	feed := s.feed
	s.mu.Unlock()
	if feed != nil {
		feed.Close()
	}
}
