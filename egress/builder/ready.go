package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"

	"millrace/egress/post"
)

const (
	readyInterval = 2 * time.Second
	readyTimeout  = 2 * time.Second

	connectTimeout = 800 * time.Millisecond // and as much again for the TLS handshake
	keepAlive      = 15 * time.Second
	idleTimeout    = 28 * time.Second // below every builder's
	maxAnswer      = 64 << 10
)

// Errors of a ready check, FlowProxy's texts.
var (
	// ErrNotReady: the builder answered that it is not ready.
	ErrNotReady = errors.New("builder not ready")
	// ErrNotAnswering: the builder did not answer the ready check.
	ErrNotAnswering = errors.New("builder not answering readyz request")
)

// Ready polls the builders that have a ready_url. It informs, and never holds up delivery.
type Ready struct {
	checks []*check
	client *http.Client
}

type check struct {
	name, url string
	state     atomic.Pointer[error]
	gauge     prometheus.Gauge
}

// NewReady returns the checks of the given builders.
func NewReady(ts []Target, reg prometheus.Registerer) (*Ready, error) {
	up := promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
		Name: "millrace_builder_ready", Help: "1 when the builder's ready check says so; only for builders with a ready_url.",
	}, []string{"target"})
	r := &Ready{client: &http.Client{Timeout: readyTimeout, Transport: newTransport(len(ts) + 1)}}
	for _, t := range ts {
		if t.ReadyURL == "" {
			continue
		}
		u, err := post.ParseURL(t.ReadyURL)
		if err != nil {
			return nil, fmt.Errorf("builder %s: ready_url: %w", t.Name, err)
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/readyz"
		}
		r.checks = append(r.checks, &check{name: t.Name, url: u.String(), gauge: up.WithLabelValues(t.Name)})
	}
	return r, nil
}

func newTransport(conns int) *http.Transport {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: connectTimeout, KeepAlive: keepAlive}).DialContext,
		TLSHandshakeTimeout:    connectTimeout,
		Protocols:              p,
		MaxConnsPerHost:        conns,
		MaxIdleConns:           conns,
		MaxIdleConnsPerHost:    conns,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
	}
}

// Run polls until ctx ends.
func (r *Ready) Run(ctx context.Context) error {
	defer r.client.CloseIdleConnections()
	var g errgroup.Group
	for _, c := range r.checks {
		g.Go(func() error {
			tick := time.NewTicker(readyInterval)
			defer tick.Stop()
			for {
				c.note(ctx, r.client)
				select {
				case <-ctx.Done():
					return nil
				case <-tick.C:
				}
			}
		})
	}
	if len(r.checks) == 0 {
		<-ctx.Done()
	}
	return g.Wait()
}

// Err is nil when every checked builder said that it is ready, or has not been asked yet.
func (r *Ready) Err() error {
	var errs []error
	for _, c := range r.checks {
		if err := c.state.Load(); err != nil && *err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, *err))
		}
	}
	return errors.Join(errs...)
}

func (c *check) note(ctx context.Context, client *http.Client) {
	err := c.ask(ctx, client)
	if ctx.Err() != nil {
		return
	}
	c.state.Store(&err)
	if err == nil {
		c.gauge.Set(1)
	} else {
		c.gauge.Set(0)
	}
}

func (c *check) ask(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, http.NoBody)
	if err != nil {
		return ErrNotAnswering
	}
	res, err := client.Do(req)
	if err != nil {
		return ErrNotAnswering
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer)
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return ErrNotReady
	}
	return nil
}
