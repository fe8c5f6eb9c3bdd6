package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
)

// lane names one connection: what it is for and, where it matters, whose class it carries. Each
// lane is an ordered byte pipe of its own, so a bulk order never sits in front of an urgent one.
type lane struct {
	use      use
	priority order.Priority // zero: all classes
}

type use uint8

const (
	useControl  use = iota + 1 // requests to the JetStream API, KV, direct gets
	useDoor                    // publishes to IN
	useStore                   // publishes to OK
	useWork                    // consumes IN
	useFeed                    // consumes OK
	useLedger                  // publishes to DONE and REJECTED
	useVerdicts                // receives verdicts
	useSay                     // sends verdicts
	useSigners                 // both directions; the server must not echo
	useLease                   // leases: nothing may stand in front of a renewal
	useScan                    // reads ledgers back
	useEngine                  // publishes to ENGINE
	useReplayer                // consumes ENGINE
	useStatus                  // asks what became of an order, or answers
	useGateway                 // gossip, calls and their answers
)

var useNames = [...]string{
	"", "control", "door", "store", "work", "feed", "ledger", "verdicts", "say", "signers", "lease", "scan",
	"engine", "replayer", "status", "gateway",
}

func (u use) String() string { return useNames[u] }

// String is the connection's name as `nats server report connections` shows it.
func (l lane) String() string {
	if l.priority == 0 {
		return "millrace-" + l.use.String()
	}
	return "millrace-" + l.use.String() + "-" + l.priority.String()
}

// buffered reports whether what is written while the connection is down is kept and sent later.
// Only acks are: a publish from the buffer would be stored after its caller gave up (CORRECTNESS 4).
func (l lane) buffered() bool { return l.use == useWork || l.use == useFeed || l.use == useReplayer }

// link is one open connection.
type link struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// reconnects counts how often the connection was made again.
func (l *link) reconnects() uint64 { return l.nc.Stats().Reconnects }

// links opens connections by need and closes them together.
type links struct {
	base  []nats.Option // where and as whom
	url   string
	inbox func(use) string
	log   *slog.Logger
	m     *metrics
	life  context.Context //nolint:containedctx // connections outlive the call that opens them

	mu     sync.Mutex
	open   map[lane]*link
	closed bool
}

const (
	apiTimeout     = 2 * time.Second
	reconnectWait  = 100 * time.Millisecond
	maxPendingMsgs = 1 << 16
)

// link returns the lane's connection, opening it at its first use. A server that is away is no
// error here: the connection keeps trying and what is asked of it fails meanwhile.
func (ls *links) link(l lane) (*link, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if c, ok := ls.open[l]; ok {
		return c, nil
	}
	if ls.closed {
		return nil, fmt.Errorf("open %s: %w", l, nats.ErrConnectionClosed)
	}
	c, err := ls.connect(l, nats.RetryOnFailedConnect(true))
	if err != nil {
		return nil, err
	}
	ls.open[l] = c
	return c, nil
}

func (ls *links) connect(l lane, more ...nats.Option) (*link, error) {
	opts := append([]nats.Option{
		nats.Name(l.String()),
		nats.CustomInboxPrefix(ls.inbox(l.use)),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.IgnoreAuthErrorAbort(),
		nats.DrainTimeout(DrainTimeout),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) { ls.fault(l, s, err) }),
		nats.ReconnectHandler(func(*nats.Conn) {
			ls.m.reconnects.WithLabelValues(l.use.String()).Inc()
			ls.log.LogAttrs(ls.life, slog.LevelInfo, "bus connection is back", slog.String("connection", l.String()))
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: we closed it
				ls.log.LogAttrs(ls.life, slog.LevelWarn, "bus connection lost",
					slog.String("connection", l.String()), slog.Any("error", err))
			}
		}),
	}, ls.base...)
	if !l.buffered() {
		opts = append(opts, nats.ReconnectBufSize(-1))
	}
	if l.use == useSigners {
		opts = append(opts, nats.NoEcho())
	}
	nc, err := nats.Connect(ls.url, append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", l, err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open jetstream on %s: %w", l, err)
	}
	return &link{nc: nc, js: js}, nil
}

// fault hears what the client library can't return from a call: dropped messages and refused
// permissions. A refused publish shows up here and as a timeout only.
func (ls *links) fault(l lane, s *nats.Subscription, err error) {
	kind := "other"
	switch {
	case errors.Is(err, nats.ErrSlowConsumer):
		kind = "slow_consumer"
	case errors.Is(err, nats.ErrPermissionViolation):
		kind = "permission"
	}
	ls.m.faults.WithLabelValues(l.use.String(), kind).Inc()
	attrs := []slog.Attr{slog.String("connection", l.String()), slog.Any("error", err)}
	if s != nil {
		attrs = append(attrs, slog.String("subject", s.Subject))
	}
	ls.log.LogAttrs(ls.life, slog.LevelWarn, "bus connection fault", attrs...)
}

// all returns the open connections.
func (ls *links) all() map[lane]*link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return maps.Clone(ls.open)
}

// close drains every connection, for at most DrainTimeout, and refuses new ones.
func (ls *links) close() {
	ls.mu.Lock()
	ls.closed = true
	open := ls.open
	ls.open = nil
	ls.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range open {
		wg.Go(func() {
			if c.nc.IsClosed() {
				return
			}
			gone := make(chan struct{})
			c.nc.SetClosedHandler(func(*nats.Conn) { close(gone) })
			if err := c.nc.Drain(); err != nil { // not connected: nothing to drain
				c.nc.Close()
			}
			<-gone // Drain and Close both end here, within DrainTimeout
		})
	}
	wg.Wait()
}

// cut closes every connection without draining it, and refuses new ones: nobody answers any more.
func (ls *links) cut() {
	ls.mu.Lock()
	ls.closed = true
	open := ls.open
	ls.open = nil
	ls.mu.Unlock()
	for _, c := range open {
		c.nc.Close()
	}
}
