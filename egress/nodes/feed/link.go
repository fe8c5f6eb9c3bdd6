package feed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
)

// Times of a node's WebSocket.
const (
	pingEvery  = 15 * time.Second
	pongWithin = 10 * time.Second
)

// link is an open WebSocket to a node. Its reader runs until it is closed.
type link struct {
	conn    *websocket.Conn
	metrics *metrics
	done    chan struct{} // closed when the reader has ended

	mu    sync.Mutex
	next  uint64
	asked map[uint64]*upstream
	subs  map[string]*upstream
}

// upstream is one subscription at a node.
type upstream struct {
	link *link
	// results holds at most its capacity; when it is full the subscription ends with errOverflow.
	results chan []byte
	// made is closed when the node has answered; err is why it refused, or why results was closed.
	made chan struct{}
	id   string
	err  error
}

func newLink(conn *websocket.Conn, m *metrics) *link {
	return &link{
		conn: conn, metrics: m, done: make(chan struct{}),
		asked: make(map[uint64]*upstream), subs: make(map[string]*upstream),
	}
}

// read takes the node's messages until the connection ends.
func (l *link) read(ctx context.Context) {
	defer close(l.done)
	defer l.lost()
	for {
		_, b, err := l.conn.Read(ctx)
		if err != nil {
			return
		}
		e, err := decodeEnvelope(b)
		switch {
		case err != nil:
			return
		case e.Method == "eth_subscription":
			l.notified(e.Params.Subscription, e.Params.Result)
		default:
			l.answered(&e)
		}
	}
}

// ping ends the connection when the node stops answering.
func (l *link) ping(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.done:
			return
		case <-tick.C:
		}
		within, cancel := context.WithTimeout(ctx, pongWithin)
		err := l.conn.Ping(within)
		cancel()
		if err != nil {
			_ = l.conn.CloseNow()
			return
		}
	}
}

// lost ends all subscriptions.
func (l *link) lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, u := range l.asked {
		delete(l.asked, id)
		u.err = errLinkClosed
		close(u.made)
	}
	for _, u := range l.subs {
		l.drop(u, errLinkClosed)
	}
}

// drop is called with the lock held.
func (l *link) drop(u *upstream, err error) {
	if l.subs[u.id] != u {
		return
	}
	delete(l.subs, u.id)
	l.metrics.upstream.Dec()
	u.err = err
	close(u.results)
}

func (l *link) notified(id string, result []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.subs[id]
	if u == nil {
		return
	}
	select {
	case u.results <- result:
	default:
		l.metrics.overflow.Inc()
		l.drop(u, errOverflow)
	}
}

// answered registers a subscription before the next message is read, which may be its first result.
func (l *link) answered(e *envelope) {
	id, err := strconv.ParseUint(string(e.ID), 10, 64)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.asked[id]
	if u == nil {
		return // an answer to eth_unsubscribe, or to who does not wait any more
	}
	delete(l.asked, id)
	defer close(u.made)
	result, err := e.result()
	if err == nil {
		err = json.Unmarshal(result, &u.id)
	}
	if err != nil {
		u.err = fmt.Errorf("%w: %w", errRefused, err)
		return
	}
	l.subs[u.id] = u
	l.metrics.upstream.Inc()
}

// subscribe subscribes at the node.
func (l *link) subscribe(ctx context.Context, params string, queue int) (*upstream, error) {
	u := &upstream{link: l, results: make(chan []byte, queue), made: make(chan struct{})}
	l.mu.Lock()
	l.next++
	id := l.next
	l.asked[id] = u
	l.mu.Unlock()
	forget := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.asked, id)
	}
	if err := l.send(ctx, id, "eth_subscribe", params); err != nil {
		forget()
		return nil, fmt.Errorf("%w: %w", errLinkClosed, err)
	}
	select {
	case <-u.made:
		return u, u.refusal()
	case <-l.done:
		forget()
		return nil, errLinkClosed
	case <-ctx.Done():
		forget()
		return nil, context.Cause(ctx)
	}
}

// refusal is why the subscription was not made.
func (u *upstream) refusal() error {
	u.link.mu.Lock()
	defer u.link.mu.Unlock()
	if errors.Is(u.err, errRefused) || u.id == "" {
		return u.err
	}
	return nil
}

// ended is why results was closed.
func (u *upstream) ended() error {
	u.link.mu.Lock()
	defer u.link.mu.Unlock()
	return u.err
}

// close unsubscribes; the node's answer is not waited for.
func (u *upstream) close(ctx context.Context) {
	l := u.link
	l.mu.Lock()
	open := l.subs[u.id] == u
	l.drop(u, errLinkClosed)
	l.next++
	id := l.next
	l.mu.Unlock()
	if open {
		_ = l.send(ctx, id, "eth_unsubscribe", "["+strconv.Quote(u.id)+"]")
	}
}

func (l *link) send(ctx context.Context, id uint64, method string, params string) error {
	return l.conn.Write(ctx, websocket.MessageText,
		[]byte(`{"jsonrpc":"2.0","id":`+strconv.FormatUint(id, 10)+`,"method":"`+method+`","params":`+params+`}`))
}
