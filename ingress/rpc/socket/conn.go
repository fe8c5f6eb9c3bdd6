package socket

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"millrace/internal/jsonrpc"
)

// conn is one connection. Its goroutines are the reader (of serve), a writer, a keeper, and one for each message
// under way.
type conn struct {
	server *Server
	cfg    *Config // as it was when the connection came
	ws     *websocket.Conn
	client Client
	queue  *queue
	// places has one taken by each message under way.
	places chan struct{}
	// heard is when the client was last heard, nanoseconds; busy says that the reader waits for a place, so that
	// the client can't be heard.
	heard atomic.Int64
	busy  atomic.Bool
	// ending says how the connection is to be closed; only the first counts.
	ending chan ending
	work   sync.WaitGroup

	mu   sync.Mutex
	subs map[string]*subscription
	shut bool // no subscription may be added
}

// ending is why and how a connection ends from this side.
type ending struct {
	reason string
	code   websocket.StatusCode // 0: without a word
	text   string
}

func newConn(s *Server, cfg *Config, ws *websocket.Conn, c Client) *conn {
	return &conn{
		server: s, cfg: cfg, ws: ws, client: c, queue: newQueue(cfg.QueueMessages, cfg.QueueBytes),
		places: make(chan struct{}, cfg.MaxCalls), ending: make(chan ending, 1), subs: make(map[string]*subscription),
	}
}

// serve runs the connection to its end and returns why it ended.
func (c *conn) serve(ctx context.Context) (reason string) {
	ctx, cancel := context.WithCancel(ctx)
	c.heard.Store(time.Now().UnixNano())
	ended := make(chan string, 1)
	c.work.Go(func() { c.write(ctx) })
	c.work.Go(func() {
		defer cancel() // the reader may wait for a place that the keeper has taken
		ended <- c.keep(ctx)
	})
	err := c.read(ctx)
	cancel()
	c.closeAll()
	c.work.Wait()
	_ = c.ws.CloseNow()
	c.server.metrics.queued.Sub(float64(c.queue.held))
	if reason = <-ended; reason != endedClient {
		return reason
	}
	select {
	case e := <-c.ending: // the reader saw the end before the keeper was told why
		return e.reason
	default:
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return endedTooBig
	}
	return endedClient
}

// end asks the keeper to close the connection.
func (c *conn) end(e ending) {
	select {
	case c.ending <- e:
	default:
	}
}

// slow ends a connection that does not take what is sent.
func (c *conn) slow() {
	c.end(ending{endedSlow, websocket.StatusPolicyViolation, "messages are not taken fast enough"})
}

// read takes messages until the connection ends.
func (c *conn) read(ctx context.Context) error {
	for {
		_, message, err := c.ws.Read(ctx)
		if err != nil {
			return err
		}
		c.heard.Store(time.Now().UnixNano())
		c.server.metrics.received.Inc()
		c.busy.Store(true)
		select {
		case c.places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		c.busy.Store(false)
		c.work.Go(func() {
			defer func() { <-c.places }()
			c.pass(ctx, message)
		})
	}
}

// write writes what the queue has.
func (c *conn) write(ctx context.Context) {
	var batch [][]byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.queue.filled:
		}
		batch = c.queue.take(batch[:0])
		for i, b := range batch {
			within, cancel := context.WithTimeout(ctx, c.cfg.WriteTimeout)
			err := c.ws.Write(within, websocket.MessageText, b)
			cancel()
			if err != nil {
				if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
					c.end(ending{reason: endedSlow})
				} else {
					c.end(ending{reason: endedClient})
				}
				return
			}
			batch[i] = nil
			c.queue.written(len(b))
			c.server.metrics.queued.Sub(float64(len(b)))
		}
	}
}

// keep pings, and ends the connection when it is to end. It returns why it ended.
func (c *conn) keep(ctx context.Context) string {
	tick := time.NewTicker(c.cfg.PingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return endedClient
		case e := <-c.ending:
			return c.close(e)
		case <-c.server.stopping:
			return c.drain(ctx)
		case <-tick.C:
			if c.dead(ctx) {
				return c.close(ending{reason: endedDead})
			}
		}
	}
}

// dead pings the client and says whether it has not been heard for too long. The pong is not waited for longer than
// until the next ping, nor while the connection is to end.
func (c *conn) dead(ctx context.Context) bool {
	within, cancel := context.WithTimeout(ctx, c.cfg.PingEvery)
	defer cancel()
	pong := make(chan error, 1)
	c.work.Go(func() { pong <- c.ws.Ping(within) })
	select {
	case err := <-pong:
		if err == nil || c.busy.Load() {
			c.heard.Store(time.Now().UnixNano())
		}
	case e := <-c.ending:
		c.end(e)
		return false
	case <-c.server.stopping:
		return false
	}
	return time.Since(time.Unix(0, c.heard.Load())) > c.cfg.DeadAfter
}

// close ends the connection, which ends the reader.
func (c *conn) close(e ending) string {
	if e.code == 0 {
		_ = c.ws.CloseNow()
		return e.reason
	}
	_ = c.ws.Close(e.code, e.text)
	return e.reason
}

// drain lets what is under way be answered and written, then it says goodbye.
func (c *conn) drain(ctx context.Context) string {
	for range cap(c.places) {
		select {
		case c.places <- struct{}{}: // when all are taken nothing is under way, and nothing begins
		case <-c.server.cut:
			return c.close(ending{reason: endedDrained})
		case <-ctx.Done():
			return endedClient
		}
	}
	c.closeAll()
	for {
		idle, changed := c.queue.idle()
		if idle {
			return c.close(ending{endedDrained, websocket.StatusGoingAway, "shutting down"})
		}
		select {
		case <-changed:
		case e := <-c.ending:
			return c.close(e)
		case <-c.server.cut:
			return c.close(ending{reason: endedDrained})
		case <-ctx.Done():
			return endedClient
		}
	}
}

// pass answers a message.
func (c *conn) pass(ctx context.Context, message []byte) {
	requests, batch := split(message)
	switch {
	case requests == nil:
		c.reply(ctx, c.server.ports.Calls.Answer(ctx, message, c.client))
	case batch:
		c.reply(ctx, c.mixed(ctx, requests))
	default:
		c.own(ctx, &requests[0])
	}
}

// reply sends an answer when there is room for it.
func (c *conn) reply(ctx context.Context, b []byte) bool {
	if len(b) == 0 {
		return true
	}
	c.server.metrics.queued.Add(float64(len(b)))
	if !c.queue.wait(ctx, b) {
		c.server.metrics.queued.Sub(float64(len(b)))
		return false
	}
	c.server.metrics.replies.Inc()
	return true
}

// notify sends a notification if there is room for it now.
func (c *conn) notify(b []byte) bool {
	c.server.metrics.queued.Add(float64(len(b)))
	if !c.queue.offer(b) {
		c.server.metrics.queued.Sub(float64(len(b)))
		c.slow()
		return false
	}
	c.server.metrics.notifications.Inc()
	return true
}

// mixed answers a batch that has requests of ours in it: these are refused, the others are the door's.
func (c *conn) mixed(ctx context.Context, requests []request) []byte {
	var others []request
	out := []byte{'['}
	for i := range requests {
		r := &requests[i]
		switch {
		case !r.ours():
			others = append(others, *r)
		case r.id != nil:
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = jsonrpc.AppendError(out, r.identified(), refusal())
		}
	}
	if len(others) > 0 {
		answers := bytes.TrimSpace(c.server.ports.Calls.Answer(ctx, whole(others), c.client))
		switch {
		case len(answers) < 3: // nothing to say to them
		case answers[0] != '[': // one error for them all, such as too many
			return answers
		case len(out) > 1:
			out = append(append(out, ','), answers[1:len(answers)-1]...)
		default:
			return answers
		}
	}
	if len(out) == 1 {
		return nil
	}
	return append(out, ']')
}
