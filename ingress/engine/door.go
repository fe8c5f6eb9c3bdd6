package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"millrace/internal/certificate"
	"millrace/internal/engineapi"
)

// Limits of HTTP that need no configuration.
const (
	readTimeout = 30 * time.Second // geth's, for headers and body
	idleTimeout = 30 * time.Second
	writeSlack  = 60 * time.Second // for the answer itself, beyond reading and the call's cap
	maxHeader   = 16 << 10
	// cutWait is how long calls that were cut off may take to notice.
	cutWait = 5 * time.Second
)

// Door is the Engine API's front door. Create it with New, then call Run once.
type Door struct {
	cfg    Config
	ports  Ports
	epoch  uint64
	secret engineapi.Secret // that the consensus client's tokens are checked with
	log    *slog.Logger

	order       dispatcher
	issuers     issuers
	versions    versions
	token       liveToken
	health      health
	refusals    refusals
	certificate *certificate.Pair
	metrics     *metrics
	budget      budget
	visits      *visits

	reading  time.Duration // readTimeout
	running  atomic.Bool
	stopping chan struct{} // closed when the door stops accepting
	addr     atomic.Pointer[net.Addr]
}

// New returns a door that is not listening yet. It reads the secrets' files; it fails when cfg is
// invalid (ErrConfig), a secret is (engineapi.ErrSecret), or a port is missing (ErrPort). log and
// reg must not be nil; reg may hold one Door.
func New(cfg Config, ports Ports, log *slog.Logger, reg prometheus.Registerer) (*Door, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if ports.Recorder == nil || ports.Clock == nil || ports.Epoch == 0 {
		return nil, ErrPort
	}
	d := &Door{
		cfg: cfg, ports: ports, epoch: ports.Epoch, log: log, reading: readTimeout,
		visits: newVisits(), stopping: make(chan struct{}),
	}
	var err error
	if cfg.JWTSecret != "" {
		if d.secret, err = engineapi.LoadSecret(cfg.JWTSecret); err != nil {
			return nil, fmt.Errorf("engine.jwt_secret: %w", err)
		}
	}
	primary, err := newTarget(Target{Name: "primary", URL: cfg.Primary, JWTSecret: cfg.PrimaryJWTSecret, CA: cfg.PrimaryCA})
	if err != nil {
		return nil, err
	}
	if cfg.Auth == AuthVerify && primary.secret.IsZero() {
		primary.secret = d.secret
	}
	d.order.order = make(chan struct{}, 1)
	d.order.primary, d.order.targets = primary, []*target{primary}
	d.health.log = log
	d.certificate = certificate.New("engine.tls.cert", "engine.tls.key", d.certificateChanged)
	d.budget.total = cfg.InflightBytes
	d.metrics = newMetrics(reg, &d.budget)
	return d, nil
}

// Addr is the listener's address once Run listens, else nil.
func (d *Door) Addr() net.Addr {
	if a := d.addr.Load(); a != nil {
		return *a
	}
	return nil
}

// Healthy is nil, or the reason why no call can be taken now.
func (d *Door) Healthy() error {
	select {
	case <-d.stopping:
		return errStopped
	default:
	}
	if d.addr.Load() == nil {
		return errClosed
	}
	return nil
}

// Run listens and serves until ctx ends, then drains and returns nil. It returns early with an error
// when the listener or the certificate fails.
func (d *Door) Run(ctx context.Context) error {
	if !d.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer d.close()
	if d.cfg.TLS != (TLS{}) {
		if err := d.certificate.Load(d.cfg.TLS.Cert, d.cfg.TLS.Key); err != nil {
			return err
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", d.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for the consensus client: %w", err)
	}
	a := l.Addr()
	d.addr.Store(&a)
	return d.serveAll(ctx, netutil.LimitListener(l, d.cfg.MaxConnections))
}

// serveAll serves until ctx ends or the listener fails, drains, and returns when all goroutines have
// ended.
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
		return fmt.Errorf("serve the consensus client: %w", err)
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
		return d.drain(root, srv, cut)
	})
	return g.Wait()
}

// server has a deadline for everything that a client can delay.
func (d *Door) server(root context.Context) *http.Server {
	srv := &http.Server{
		Handler:           d.handler(root),
		ReadHeaderTimeout: d.reading,
		ReadTimeout:       d.reading,
		WriteTimeout:      d.reading + d.cfg.Timeout + writeSlack,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         d.metrics.connState,
		Protocols:         new(http.Protocols),
		// What it says is each client's fault: failed handshakes, broken framing.
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	srv.Protocols.SetHTTP1(true) // a WebSocket needs it, and consensus clients speak nothing else
	if d.cfg.TLS != (TLS{}) {
		srv.TLSConfig = d.tlsConfig()
	}
	return srv
}

// drain stops accepting, waits for what is in flight, and cuts the rest off.
func (d *Door) drain(root context.Context, srv *http.Server, cut context.CancelCauseFunc) error {
	close(d.stopping)
	d.log.LogAttrs(root, slog.LevelInfo, "engine door is draining")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(root), d.cfg.DrainTimeout)
	defer cancel()
	err := srv.Shutdown(ctx)
	d.visits.close()
	if err == nil {
		err = d.visits.wait(ctx)
	}
	if err == nil {
		return nil
	}
	cut(errStopped)
	last, cancel := context.WithTimeout(context.WithoutCancel(root), cutWait)
	defer cancel()
	return errors.Join(srv.Close(), d.visits.wait(last))
}

// close lets go of what New and calls took.
func (d *Door) close() {
	d.token.clear()
	d.order.mu.Lock()
	defer d.order.mu.Unlock()
	for _, t := range d.order.targets {
		t.close()
	}
}
