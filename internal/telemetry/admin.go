package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 30 * time.Second
	stopTimeout   = 2 * time.Second
)

// AdminConfig says where the process can be observed. Keys under admin.*.
type AdminConfig struct {
	Listen    string `name:"listen" help:"Address of the admin listener: metrics, health, ledger, profiles." default:"127.0.0.1:8090"`
	TokenFile string `name:"token_file" help:"File with the token for admin writes; made in the data directory when not set."`
}

// Validate reports an address that can't be listened on.
func (c AdminConfig) Validate() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	return nil
}

// Check is one condition of readiness.
type Check struct {
	Name string
	// Ready returns nil, or why not. It must be cheap: load balancers ask often.
	Ready func() error
}

// Pages are what an admin listener serves beyond its own pages; nil ones are left out.
type Pages struct {
	Checks []Check
	// Ledger serves /ledger, NATS serves what is below /nats/, Targets serves /targets, RemoveTarget
	// serves POST /targets/remove, Record serves /record, Reload serves POST /reload.
	Ledger, NATS, Targets, RemoveTarget, Record http.Handler
	// Export serves /export, Trace serves /trace.
	Export, Trace http.Handler
	Reload        func(context.Context) error
	// More are pages of parts that not every process has.
	More []Page
}

// Page is one more page.
type Page struct {
	// Pattern is http.ServeMux's, with the method.
	Pattern string
	Access  Access
	Handler http.Handler
}

// Access says who may see a page.
type Access uint8

// The kinds of access.
const (
	// AccessRead is for everybody on this machine, and for others with the token.
	AccessRead Access = iota + 1
	// AccessWrite needs the token.
	AccessWrite
)

// Admin is the admin listener.
type Admin struct {
	listen  string
	token   Token
	reg     *prometheus.Registry
	handler atomic.Pointer[http.ServeMux] // of the pages in force
	log     *slog.Logger
	bound   chan net.Addr
}

// NewAdmin returns an admin listener that is not listening yet. Its pages may be those of a process
// that is not up, until Show.
func NewAdmin(c AdminConfig, token Token, p Pages, reg *prometheus.Registry, log *slog.Logger) (*Admin, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	a := &Admin{listen: c.Listen, token: token, reg: reg, log: log, bound: make(chan net.Addr, 1)}
	a.Show(p)
	return a, nil
}

// Show replaces the pages, while Run serves them or before.
func (a *Admin) Show(p Pages) {
	mux, token := http.NewServeMux(), a.token
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.reg, promhttp.HandlerOpts{Registry: a.reg, EnableOpenMetrics: true}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { ok(w) })
	mux.Handle("GET /readyz", readyz(p.Checks))
	for path, h := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		mux.Handle("GET "+path, token.read(h))
	}
	if p.Ledger != nil {
		mux.Handle("GET /ledger", token.read(p.Ledger))
	}
	if p.Export != nil {
		mux.Handle("GET /export", token.read(p.Export))
	}
	if p.Trace != nil {
		mux.Handle("GET /trace", token.read(p.Trace))
	}
	if p.Targets != nil {
		mux.Handle("GET /targets", token.read(p.Targets))
	}
	if p.RemoveTarget != nil {
		mux.Handle("POST /targets/remove", token.write(p.RemoveTarget))
	}
	if p.Record != nil { // what senders sent, before it was public: not for every user of this machine
		mux.Handle("GET /record", token.write(p.Record))
	}
	if p.NATS != nil {
		mux.Handle("GET /nats/", token.read(http.StripPrefix("/nats", p.NATS)))
	}
	if p.Reload != nil {
		mux.Handle("POST /reload", token.write(reload(p.Reload)))
	}
	for _, page := range p.More {
		h := token.write(page.Handler)
		if page.Access == AccessRead {
			h = token.read(page.Handler)
		}
		mux.Handle(page.Pattern, h)
	}
	a.handler.Store(mux)
}

func (a *Admin) serve(w http.ResponseWriter, r *http.Request) { a.handler.Load().ServeHTTP(w, r) }

// Bound delivers the address once Run listens on it.
func (a *Admin) Bound() <-chan net.Addr { return a.bound }

// Run listens and serves until ctx ends. An address that can't be bound is an error.
func (a *Admin) Run(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", a.listen)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	a.bound <- l.Addr()
	srv := &http.Server{
		Handler:           http.HandlerFunc(a.serve),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("admin: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		_ = srv.Close() // a profile or a ledger reader that does not end
	}
	<-failed
	return nil
}

func ok(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("OK\n"))
}

// readyz answers 200 "OK" or 503 with a reason on each line; with ?verbose, every check as JSON.
func readyz(checks []Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, results := http.StatusOK, make(map[string]string, len(checks))
		var reasons []error
		for _, c := range checks {
			results[c.Name] = "ok"
			if err := c.Ready(); err != nil {
				status, results[c.Name] = http.StatusServiceUnavailable, err.Error()
				reasons = append(reasons, fmt.Errorf("%s: %w", c.Name, err))
			}
		}
		switch {
		case r.URL.Query().Has("verbose"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]any{"ready": status == http.StatusOK, "checks": results})
		case status != http.StatusOK:
			http.Error(w, errors.Join(reasons...).Error(), status)
		default:
			ok(w)
		}
	})
}

func reload(f func(context.Context) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		ok(w)
	})
}
