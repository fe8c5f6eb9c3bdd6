package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"millrace/internal/certificate"
	"millrace/internal/rpcapi"
)

// Limits of HTTP that need no configuration.
const (
	readTimeout     = 30 * time.Second // for headers and body
	idleTimeout     = 90 * time.Second // longer than the 30 to 90 s for which clients keep a connection
	writeTimeout    = time.Minute      // for an answer; renewed when a call took long
	maxHeader       = 16 << 10
	certificatePoll = 5 * time.Second
	// cutWait is how long calls that were cut off may take to notice.
	cutWait = 5 * time.Second
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
	sockets     *visits
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
	addr             atomic.Pointer[net.Addr]
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
		ports: ports, log: log, sockets: newVisits(),
		jsonType: []string{"application/json"}, reading: readTimeout, writing: writeTimeout,
	}
	d.policy.Store(p)
	d.budget.total.Store(cfg.InflightBytes)
	d.messages.New = func() any { return new(message) }
	d.errands.New = func() any { return newErrand(d) }
	for s := rpcapi.SourceHit; s <= rpcapi.SourceBypass; s++ {
		d.sources[s] = []string{s.String()}
	}
	d.certificate = certificate.New("tls.cert", "tls.key", d.certificateChanged)
	d.metrics = newMetrics(prometheus.WrapRegistererWith(prometheus.Labels{"listener": cmp.Or(cfg.Name, cfg.Listen)}, reg), d)
	return d, nil
}

// Addr is the listener's address once Run listens, else nil.
func (d *Door) Addr() net.Addr {
	if a := d.addr.Load(); a != nil {
		return *a
	}
	return nil
}

// Ready is nil, or the reason why no calls should be sent here.
func (d *Door) Ready() error {
	if d.draining.Load() {
		return errDraining
	}
	if d.addr.Load() == nil {
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
	p := d.policy.Load()
	if p.TLS != (TLS{}) {
		if err := d.certificate.Load(p.TLS.Cert, p.TLS.Key); err != nil {
			return err
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", p.Listen)
	if err != nil {
		return fmt.Errorf("listen for calls: %w", err)
	}
	a := l.Addr()
	d.addr.Store(&a)
	return d.serveAll(ctx, netutil.LimitListener(l, p.MaxConnections))
}

// serveAll serves until ctx ends or the listener fails, drains, and returns when all goroutines have ended.
func (d *Door) serveAll(ctx context.Context, l net.Listener) error {
	root, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	srv := d.server(root)
	g, serving := errgroup.WithContext(root)
	g.Go(func() error {
		var err error
		if srv.TLSConfig != nil {
			err = srv.ServeTLS(l, "", "")
		} else {
			err = srv.Serve(l)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve calls: %w", err)
	})
	polling, stop := context.WithCancel(serving)
	if srv.TLSConfig != nil {
		g.Go(func() error { d.certificate.Watch(polling, certificatePoll); return nil })
	}
	g.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
		case <-serving.Done():
		}
		return d.drain(serving, srv, cut)
	})
	return g.Wait()
}

// server has a deadline for everything that a client can delay.
func (d *Door) server(root context.Context) *http.Server {
	srv := &http.Server{
		Handler:        d.handler(),
		ReadTimeout:    d.reading, // includes the headers
		WriteTimeout:   d.writing,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		Protocols:      new(http.Protocols),
		BaseContext:    func(net.Listener) context.Context { return root },
		// What it says is each client's fault: failed handshakes, broken framing.
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	srv.Protocols.SetHTTP1(true) // a WebSocket needs it, and neither of those that this replaces speaks another
	if d.policy.Load().TLS != (TLS{}) {
		srv.TLSConfig = d.certificate.Config(0)
		srv.TLSConfig.NextProtos = []string{"http/1.1"}
	}
	return srv
}

// drain turns unready, waits for load balancers to notice, stops accepting, waits for what is in flight, and cuts
// the rest off.
func (d *Door) drain(serving context.Context, srv *http.Server, cut context.CancelCauseFunc) error {
	p := d.policy.Load()
	d.draining.Store(true)
	d.log.LogAttrs(serving, slog.LevelInfo, "rpc door is draining", slog.String("listener", p.Listen))
	delay := time.NewTimer(p.DrainDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-serving.Done(): // nobody would be served
	}
	root := context.WithoutCancel(serving)
	ctx, cancel := context.WithTimeout(root, p.Drain)
	defer cancel()
	d.sockets.close()
	err := srv.Shutdown(ctx)
	if err == nil {
		err = d.sockets.wait(ctx)
	}
	if err == nil {
		return nil
	}
	d.log.LogAttrs(root, slog.LevelWarn, "calls were cut off at shutdown", slog.Int64("calls", d.inflight.Load()))
	cut(rpcapi.ErrStopping)
	last, cancel := context.WithTimeout(root, cutWait)
	defer cancel()
	if err := srv.Shutdown(last); err != nil { // most answer that they were cut off
		return errors.Join(srv.Close(), d.sockets.wait(last))
	}
	return d.sockets.wait(last)
}

// certificateChanged hears of changes of state only.
func (d *Door) certificateChanged(err error) {
	ctx := context.Background() // news of the files belongs to no request
	if err != nil {
		d.metrics.reloads["failed"].Inc()
		d.log.LogAttrs(ctx, slog.LevelWarn, "certificate not reloaded, the old one stays", slog.Any("error", err))
		return
	}
	d.metrics.reloads["ok"].Inc()
	d.log.LogAttrs(ctx, slog.LevelInfo, "certificate reloaded")
}
