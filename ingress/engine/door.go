package engine

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/certificate"
	"millrace/internal/engineapi"
	"millrace/internal/listener"
)

// Limits of HTTP that need no configuration.
const (
	readTimeout = 30 * time.Second // geth's, for headers and body
	writeSlack  = 60 * time.Second // for the answer itself, beyond reading and the call's cap
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
	visits      *listener.Visits

	reading  time.Duration // readTimeout
	running  atomic.Bool
	stopping chan struct{} // closed when the door stops accepting
	listener *listener.Listener
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
		visits: listener.NewVisits(), stopping: make(chan struct{}), listener: listener.New("the consensus client"),
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
	d.budget.total = cfg.InflightBytes
	d.metrics = newMetrics(reg, &d.budget)
	d.certificate = listener.NewCertificate("engine.tls.cert", "engine.tls.key", log.With(slog.String("door", "engine")), d.metrics.reloads)
	return d, nil
}

// Addr is the listener's address once Run listens, else nil.
func (d *Door) Addr() net.Addr { return d.listener.Addr() }

// Healthy is nil, or the reason why no call can be taken now.
func (d *Door) Healthy() error {
	select {
	case <-d.stopping:
		return errStopped
	default:
	}
	if d.Addr() == nil {
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
	root, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	srv := d.server(root)
	parts := []func(context.Context) error{d.listener.Serve}
	if d.cfg.TLS != (TLS{}) {
		if err := d.certificate.Load(d.cfg.TLS.Cert, d.cfg.TLS.Key); err != nil {
			return err
		}
		srv.TLSConfig = d.certificate.Config(0)
		parts = append(parts, listener.Follow(d.certificate))
	}
	if err := d.listener.Open(ctx, d.cfg.Listen, d.cfg.MaxConnections, srv); err != nil {
		return err
	}
	return listener.Run(ctx, func(context.Context) error { return d.drain(root, cut) }, parts...)
}

// server has a deadline for everything that a client can delay. It speaks no HTTP/2: a WebSocket needs HTTP/1.1, and
// consensus clients speak nothing else.
func (d *Door) server(root context.Context) *http.Server {
	srv := listener.NewServer(d.handler(root), d.log)
	srv.ReadTimeout = d.reading // includes the headers
	srv.WriteTimeout = d.reading + d.cfg.Timeout + writeSlack
	srv.ConnState = d.metrics.connState
	return srv
}

// drain stops accepting, waits for what is in flight, and cuts the rest off.
func (d *Door) drain(root context.Context, cut context.CancelCauseFunc) error {
	close(d.stopping)
	d.log.LogAttrs(root, slog.LevelInfo, "engine door is draining")
	return d.listener.Drain(root, listener.Farewell{
		Patience: d.cfg.DrainTimeout, Visits: d.visits, Cut: func() { cut(errStopped) },
	})
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
