package feed

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"millrace/internal/rpcapi"
)

// links has one open WebSocket for each node in use.
type links struct {
	cfg     *Config
	client  func(*rpcapi.Node) (*http.Client, error)
	metrics *metrics
	wg      sync.WaitGroup

	mu   sync.Mutex
	open map[rpcapi.Tag]*shared
}

// shared is a link that several subscriptions use. users is under the lock of links; the rest does not change once
// ready is closed.
type shared struct {
	users int
	ready chan struct{}
	link  *link
	err   error
	stop  context.CancelFunc
}

func newLinks(cfg *Config, client func(*rpcapi.Node) (*http.Client, error), m *metrics) *links {
	return &links{cfg: cfg, client: client, metrics: m, open: make(map[rpcapi.Tag]*shared)}
}

// use is the node's link, dialled if there is none. Release is to be called once; the last user's closes it.
func (l *links) use(ctx context.Context, n *rpcapi.Node) (_ *link, release func(), err error) {
	l.mu.Lock()
	s, ours := l.open[n.Tag], false
	if s == nil || s.broken() {
		s, ours = &shared{ready: make(chan struct{})}, true
		l.open[n.Tag] = s
	}
	s.users++
	l.mu.Unlock()
	if ours {
		l.dial(ctx, n, s)
		close(s.ready)
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		l.release(n.Tag, s)
		return nil, nil, context.Cause(ctx)
	}
	if s.err != nil {
		l.release(n.Tag, s)
		return nil, nil, s.err
	}
	return s.link, func() { l.release(n.Tag, s) }, nil
}

// broken says whether the link was dialled and has ended, or was never made.
func (s *shared) broken() bool {
	select {
	case <-s.ready:
	default:
		return false
	}
	if s.err != nil {
		return true
	}
	select {
	case <-s.link.done:
		return true
	default:
		return false
	}
}

func (l *links) release(tag rpcapi.Tag, s *shared) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	if l.open[tag] == s {
		delete(l.open, tag)
	}
	select {
	case <-s.ready:
		if s.stop != nil {
			s.stop()
		}
	default: // its dialler is a user, so it is ready
	}
}

func (l *links) dial(ctx context.Context, n *rpcapi.Node, s *shared) {
	client, err := l.client(n)
	if err != nil {
		s.err = err
		return
	}
	within, cancel := context.WithTimeout(ctx, l.cfg.CallTimeout)
	defer cancel()
	conn, _, err := websocket.Dial(within, n.WS.String(), &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // the connection has it
	if err != nil {
		s.err = fmt.Errorf("dial the WebSocket of %s: %w", n.Label, err)
		return
	}
	conn.SetReadLimit(l.cfg.MaxMessage)
	s.link = newLink(conn, l.metrics)
	// A link outlives the subscription that it was dialled for if another one uses it.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	l.metrics.sockets.Inc()
	l.wg.Go(func() { s.link.ping(life) })
	l.wg.Go(func() {
		defer l.metrics.sockets.Dec()
		s.link.read(life)
		_ = conn.CloseNow()
	})
}

// wait returns when all links have ended: when nobody uses one any more.
func (l *links) wait() { l.wg.Wait() }
