package rpc

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/certificate"
	"millrace/internal/listener"
	"millrace/internal/rpcapi"
)

// Limits of HTTP that need no configuration.
const (
	readTimeout  = 30 * time.Second // for headers and body
	idleTimeout  = 90 * time.Second // longer than the 30 to 90 s for which clients keep a connection
	writeTimeout = time.Minute      // for an answer; renewed when a call took long
	cutGrace     = 5 * time.Second  // for the answers to calls that were cut off
)

// Door is one listener of the gateway. Create it with New, then call Run once.
type Door struct {
	ports       Ports
	log         *slog.Logger
	policy      atomic.Pointer[policy]
	reloads     sync.Mutex // one Reload at a time
	certificate *certificate.Pair
	metrics     *metrics
	budget      budget
	sockets     *listener.Visits                  // the server does not wait for them
	messages    sync.Pool                         // of *message
	zippers     sync.Pool                         // of *gzip.Writer
	unzippers   sync.Pool                         // of *gzip.Reader
	errands     sync.Pool                         // of *errand
	jsonType    []string                          // Content-Type of answers
	sources     [rpcapi.SourceBypass + 1][]string // X-LB-Cache of answers
	last        atomic.Pointer[blockLine]
	sampled     atomic.Uint64
	inflight    atomic.Int64

	reading, writing time.Duration // readTimeout, writeTimeout
	running          atomic.Bool
	draining         atomic.Bool
	listener         *listener.Listener
}

// New returns a door that is not listening yet. It fails when cfg is invalid (ErrConfig) or ports has no Caller
// (ErrPort). log and reg must not be nil; metrics have the label listener, cfg.Listen, so that reg may hold a door
// for each address.
func New(cfg Config, ports Ports, log *slog.Logger, reg prometheus.Registerer) (*Door, error) {
	p, err := newPolicy(cfg)
	if err != nil {
		return nil, err
	}
	if ports.Caller == nil {
		return nil, ErrPort
	}
	d := &Door{
		ports: ports, log: log, sockets: listener.NewVisits(),
		jsonType: []string{"application/json"}, reading: readTimeout, writing: writeTimeout, listener: listener.New("calls"),
	}
	d.policy.Store(p)
	d.budget.total.Store(cfg.InflightBytes)
	d.messages.New = func() any { return new(message) }
	d.errands.New = func() any { return newErrand(d) }
	for s := rpcapi.SourceHit; s <= rpcapi.SourceBypass; s++ {
		d.sources[s] = []string{s.String()}
	}
	d.metrics = newMetrics(prometheus.WrapRegistererWith(prometheus.Labels{"listener": cmp.Or(cfg.Name, cfg.Listen)}, reg), d)
	d.certificate = listener.NewCertificate("tls.cert", "tls.key", log, d.metrics.reloads)
	return d, nil
}

// Addr is the listener's address once Run listens, else nil.
func (d *Door) Addr() net.Addr { return d.listener.Addr() }

// Ready is nil, or the reason why no calls should be sent here.
func (d *Door) Ready() error {
	if d.draining.Load() {
		return errDraining
	}
	if d.Addr() == nil {
		return errClosed
	}
	return nil
}

// Run listens and serves until ctx ends, then drains and returns nil. It returns early with an error when the
// listener or the certificate fails.
func (d *Door) Run(ctx context.Context) error {
	if !d.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	root, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	p, srv := d.policy.Load(), d.server(root)
	parts := []func(context.Context) error{d.listener.Serve}
	if p.TLS != (TLS{}) {
		if err := d.certificate.Load(p.TLS.Cert, p.TLS.Key); err != nil {
			return err
		}
		srv.TLSConfig = d.certificate.Config(0)
		parts = append(parts, listener.Follow(d.certificate))
	}
	if err := d.listener.Open(ctx, p.Listen, p.MaxConnections, srv); err != nil {
		return err
	}
	return listener.Run(ctx, func(failed context.Context) error { return d.drain(failed, root, cut) }, parts...)
}

// server has a deadline for everything that a client can delay. It speaks no HTTP/2: a WebSocket needs HTTP/1.1, and
// neither of those that this replaces speaks another.
func (d *Door) server(root context.Context) *http.Server {
	srv := listener.NewServer(d.handler(), d.log)
	srv.ReadTimeout, srv.WriteTimeout, srv.IdleTimeout = d.reading, d.writing, idleTimeout // reading includes the headers
	srv.BaseContext, srv.ConnState = func(net.Listener) context.Context { return root }, d.metrics.connState
	return srv
}

// drain turns unready, waits for load balancers to notice, stops accepting, waits for what is in flight, and cuts
// the rest off: most answer that they were.
func (d *Door) drain(failed, root context.Context, cut context.CancelCauseFunc) error {
	p := d.policy.Load()
	d.draining.Store(true)
	d.log.LogAttrs(root, slog.LevelInfo, "rpc door is draining", slog.String("listener", p.Listen))
	listener.Linger(failed, p.DrainDelay)
	d.sockets.Close()
	return d.listener.Drain(root, listener.Farewell{
		Patience: p.Drain, Visits: d.sockets, Grace: cutGrace,
		Cut: func() {
			d.log.LogAttrs(root, slog.LevelWarn, "calls were cut off at shutdown", slog.Int64("calls", d.inflight.Load()))
			cut(rpcapi.ErrStopping)
		},
	})
}
