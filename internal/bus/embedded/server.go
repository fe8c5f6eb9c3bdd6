package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"millrace/internal/certificate"
)

// Server is a running nats-server. It is safe for concurrent use.
type Server struct {
	cfg    Config
	log    *slog.Logger
	ns     *server.Server
	users  *users
	check  *checker
	cert   *certificate.Pair // nil: no TLS
	lock   *os.File
	stop   sync.Once
	bootMu sync.Mutex
	boot   *boot

	reloading sync.RWMutex                    // read-locked by each connection of this process while it is being made
	remotes   func() []*server.RemoteLeafOpts // what the server dials; nil: nothing
}

// Start runs a server on cfg.StoreDir and returns when it is healthy: streams recovered, listener
// open. A large store that was not stopped cleanly takes a while to recover, which is not
// interrupted; ctx bounds the wait for health after it.
// Errors: ErrLocked, and whatever the server could not do.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("embedded server: %w", err)
	}
	if err := os.MkdirAll(cfg.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("create store directory: %w", err)
	}
	f, err := lock(cfg.StoreDir)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: log, lock: f}
	if err := s.start(ctx); err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	var err error
	if s.boot, err = openBoot(s.cfg.StoreDir); err != nil {
		return err
	}
	if err := adoptStore(s.cfg.StoreDir); err != nil {
		return err
	}
	if s.users, err = newUsers(&s.cfg); err != nil {
		return err
	}
	if err := s.openCertificate(); err != nil {
		return err
	}
	if err := s.create(); err != nil {
		return err
	}
	l := newServerLog(s.log)
	s.ns.SetLoggerV2(l, false, false, false)
	s.ns.Start()
	err = s.awaitReady(ctx, l)
	if err == nil {
		err = s.announce(ctx)
	}
	if err != nil {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
		return fmt.Errorf("start embedded server: %w", err)
	}
	return nil
}

// create makes the server, to be started. The checker decides about every connection, and the list of keys
// about none; but a reload closes the connections whose keys are not on it, and the server reads the list
// only while it has no checker. So the checker is put into the options that the server has taken.
func (s *Server) create() error {
	accounts := []Account{{Name: AccountOrders, JetStream: true}}
	if s.cfg.Peering != nil { // with nobody to exchange orders with yet
		accounts = append(accounts, Account{Name: AccountPeers, JetStream: true})
	}
	opts, err := s.options(accounts)
	if err != nil {
		return err
	}
	s.check = &checker{local: s.users.identities()}
	s.check.admitted.Store(!s.boot.unclean)
	if p := s.cfg.Peering; p != nil {
		s.check.admit = p.Admit
	}
	if s.ns, err = server.NewServer(opts); err != nil {
		return fmt.Errorf("embedded server: %w", err)
	}
	s.check.ns = s.ns
	opts.CustomClientAuthentication = s.check
	return nil
}

// options are made anew each time: the server keeps and changes what it is given.
func (s *Server) options(accounts []Account) (*server.Options, error) {
	cfg := &s.cfg
	o, err := parseAccounts(RenderAccounts(accounts))
	if err != nil {
		return nil, err
	}
	o.Nkeys = s.users.nkeyUsers(o)
	o.AlwaysEnableNonce = true
	o.ServerName = orDefault(cfg.ServerName, "millrace")
	o.DontListen, o.NoSigs = cfg.Listen == "", true
	o.MaxPayload, o.MaxPending = orDefault(cfg.MaxPayload, defaultMaxPayload), maxPending
	o.JetStream, o.StoreDir, o.DisableJetStreamBanner = true, cfg.StoreDir, true
	o.JetStreamMaxMemory = orDefault(cfg.MaxMemory, defaultMaxMemory)
	o.JetStreamMaxStore = orDefault(cfg.MaxStore, defaultMaxStore)
	o.SyncInterval, o.SyncAlways = time.Second, cfg.Sync == SyncAlways
	if cfg.Peering != nil {
		o.ServerName = orDefault(cfg.ServerName, "millrace-"+cfg.Peering.Domain)
		if err := cfg.Peering.apply(o, nil); err != nil {
			return nil, err
		}
	}
	if cfg.Listen == "" {
		return o, nil
	}
	if o.Host, o.Port, err = splitListen(cfg.Listen); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if s.cert != nil {
		o.TLSConfig = s.cert.Config(certificateEvery)
	}
	return o, nil
}

// awaitReady polls, because the server reports neither its readiness nor its failure by itself.
func (s *Server) awaitReady(ctx context.Context, l *serverLog) error {
	for {
		ready := s.ns.ReadyForConnections(50 * time.Millisecond)
		if text := l.fatal.Load(); text != nil {
			return errors.New(*text)
		}
		if ready && s.Health() == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", errors.Join(context.Cause(ctx), s.Health()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *Server) announce(ctx context.Context) error {
	if s.Unclean() {
		s.log.LogAttrs(ctx, slog.LevelWarn, "the machine stopped without a clean shutdown of the store",
			slog.String("store_dir", s.cfg.StoreDir))
	}
	if s.cfg.Listen == "" {
		return nil
	}
	cli, err := writeCLIContext(&s.cfg, s.ClientURL())
	if err != nil {
		return err
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "nats listener open",
		slog.String("url", s.ClientURL()),
		slog.String("admin_cli", "nats --context "+cli+" stream ls"),
		slog.String("role_creds", filepath.Join(s.cfg.authDir(), RoleSeed)))
	return nil
}

// ConnectOption makes a nats.Connect of this process reach the server over a pipe, authenticated,
// whatever address Connect is called with: a tls:// one would make it expect TLS on the pipe.
func (s *Server) ConnectOption() nats.Option { return s.connectOption(s.users.inProcess) }

func (s *Server) connectOption(key nkeys.KeyPair) nats.Option {
	return func(o *nats.Options) error {
		o.Url, o.Servers = nats.DefaultURL, nil
		return errors.Join(nats.InProcessServer(s)(o), keyAuth(key)(o))
	}
}

// InProcessConn opens a pipe to the server; it makes a Server a nats.InProcessConnProvider. The
// client still has to authenticate, which ConnectOption does.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.reloading.RLock()
	conn, err := s.ns.InProcessConn()
	if err != nil {
		s.reloading.RUnlock()
		return nil, err
	}
	return &pipe{Conn: conn, made: sync.OnceFunc(s.reloading.RUnlock)}, nil
}

// pipe keeps the server from taking options over until the client has been let in: the server would take it for an
// intruder, and as both then write to a pipe that nobody reads, the client would learn it after ten seconds.
type pipe struct {
	net.Conn
	made  func()
	wrote atomic.Bool // its credentials
	open  atomic.Bool // and it was answered
}

func (p *pipe) Write(b []byte) (int, error) {
	if !p.open.Load() {
		p.wrote.Store(true)
	}
	return p.Conn.Write(b)
}

func (p *pipe) Read(b []byte) (int, error) {
	answer := !p.open.Load() && p.wrote.Load()
	n, err := p.Conn.Read(b)
	if answer || err != nil {
		p.open.Store(true)
		p.made()
	}
	return n, err
}

func (p *pipe) Close() error {
	p.made()
	return p.Conn.Close()
}

// ClientURL is the listener's address, nats:// or tls://; without a listener an address that is of
// no use but with ConnectOption.
func (s *Server) ClientURL() string {
	if s.cfg.Listen == "" {
		return nats.DefaultURL
	}
	return s.ns.ClientURL()
}

// Health returns nil, or why the server can't do its work: ErrStopped, ErrStoreFailed, or what its
// health check says. It looks at every stream and consumer: fine twice a second, not per order.
func (s *Server) Health() error {
	if !s.ns.Running() {
		return ErrStopped
	}
	if !s.ns.JetStreamEnabled() {
		return fmt.Errorf("%w: JetStream is disabled", ErrStoreFailed)
	}
	st := s.ns.Healthz(&server.HealthzOptions{Details: true})
	for _, e := range st.Errors {
		if strings.Contains(e.Error, "write error") {
			return fmt.Errorf("%w: %s", ErrStoreFailed, e.Error)
		}
	}
	switch {
	case st.StatusCode < 400 && len(st.Errors) == 0:
		return nil
	case len(st.Errors) > 0:
		return fmt.Errorf("nats-server: %s", st.Errors[0].Error)
	}
	return fmt.Errorf("nats-server: %s", orDefault(st.Error, st.Status))
}

// Unclean reports whether the machine died while a server ran on this store, so that streams may
// have lost their last second and reuse sequence numbers (CORRECTNESS 7). It stays true, over
// restarts too, until Settled is called, and nobody is admitted by TCP in the meantime.
func (s *Server) Unclean() bool {
	s.bootMu.Lock()
	defer s.bootMu.Unlock()
	return s.boot.unclean
}

// Settled records that the sequences which may have been used before have been burnt. If the store
// was unclean it also lets the users of the listener and peers in, who were refused until now: one of
// them might have stored an order under a sequence that others have already seen, or see it.
func (s *Server) Settled() error {
	s.bootMu.Lock()
	defer s.bootMu.Unlock()
	if err := s.boot.settle(); err != nil {
		return err
	}
	s.check.admitted.Store(true)
	return nil
}

// Shutdown stops the server, waits until it has, and leaves the clean mark. Connections of this
// process are closed by it, so they should be drained before. Further calls do nothing.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
		s.bootMu.Lock()
		defer s.bootMu.Unlock()
		if err := s.boot.stopped(); err != nil {
			s.log.LogAttrs(context.Background(), slog.LevelWarn, "clean mark not written",
				slog.String("store_dir", s.cfg.StoreDir), slog.Any("error", err))
		}
		_ = s.lock.Close() // gives the directory back
	})
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
