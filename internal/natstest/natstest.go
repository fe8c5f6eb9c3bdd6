// Package natstest runs real nats-servers for tests: in process, on a directory of the test, without
// a port unless it is asked for.
package natstest

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/bus/embedded"
)

const startWithin = 30 * time.Second

var errDown = errors.New("the test's server is stopped")

// Server is an embedded server that belongs to a test; it is stopped with it.
type Server struct {
	*embedded.Server
	cfg     embedded.Config
	log     *slog.Logger
	current atomic.Pointer[embedded.Server] // what connections reach; nil while there is none
}

// VerifyTestMain is goleak.VerifyTestMain for packages that start servers: a server that is stopped
// while a stream looks for its source, or lets go of it, leaves a goroutine that ends by its own timeout (v2.15.2).
func VerifyTestMain(m goleak.TestingM) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*stream).tryDeleteSourcingConsumer.func1"))
}

// SideBySide has more tests run at a time than there are processors, unless -parallel says how many: tests with a
// server wait most of theirs, for it or for its timers. A TestMain calls it before the tests.
func SideBySide() {
	const tests = 6
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given && runtime.GOMAXPROCS(0) < tests {
		_ = flag.Set("test.parallel", strconv.Itoa(tests))
	}
}

// Option changes how the server is started.
type Option func(*Server)

// Listen opens the authenticated TCP listener on a free loopback port.
func Listen() Option { return func(s *Server) { s.cfg.Listen = "127.0.0.1:0" } }

// StoreDir uses dir instead of a fresh directory.
func StoreDir(dir string) Option { return func(s *Server) { s.cfg.StoreDir = dir } }

// Config changes any other setting.
func Config(change func(*embedded.Config)) Option { return func(s *Server) { change(&s.cfg) } }

// Log hands the server's log to log instead of dropping it.
func Log(log *slog.Logger) Option { return func(s *Server) { s.log = log } }

// Start starts a server and stops it when tb ends.
func Start(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	s := &Server{log: slog.New(slog.DiscardHandler)}
	for _, o := range opts {
		o(s)
	}
	if s.cfg.StoreDir == "" {
		s.cfg.StoreDir = filepath.Join(tb.TempDir(), "nats")
	}
	s.start(tb)
	tb.Cleanup(func() { s.Shutdown() })
	return s
}

func (s *Server) start(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	srv, err := embedded.Start(ctx, s.cfg, s.log)
	require.NoError(tb, err)
	s.Server = srv
	s.current.Store(srv)
}

// Settings returns what the server is started with.
func (s *Server) Settings() embedded.Config { return s.cfg }

// Connect returns a connection of this process, closed when tb ends. It reconnects by itself after a
// restart, quickly and for ever.
func (s *Server) Connect(tb testing.TB, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(s.ClientURL(), append([]nats.Option{
		s.ConnectOption(), nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond), nats.ReconnectJitter(0, 0),
	}, opts...)...)
	require.NoError(tb, err)
	tb.Cleanup(nc.Close)
	return nc
}

// JetStream returns a JetStream context on a connection of its own.
func (s *Server) JetStream(tb testing.TB) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(s.Connect(tb))
	require.NoError(tb, err)
	return js
}

// InProcessConn opens a pipe to the server that runs now.
func (s *Server) InProcessConn() (net.Conn, error) {
	srv := s.current.Load()
	if srv == nil {
		return nil, errDown
	}
	return srv.InProcessConn()
}

// ConnectOption makes a connection reach the server over a pipe, the one after a restart too.
func (s *Server) ConnectOption() nats.Option {
	auth := s.Server.ConnectOption()
	return func(o *nats.Options) error {
		return errors.Join(auth(o), nats.InProcessServer(s)(o))
	}
}

// Stop stops the server cleanly and leaves it stopped, until Restart.
func (s *Server) Stop() {
	s.current.Store(nil)
	s.Shutdown()
}

// Restart stops the server cleanly and starts it on the same store.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.Stop()
	s.start(tb)
}

// Kill starts the server again on the files as they are now, as after kill -9: whatever it would
// have written while it stops is not there.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	s.Rollback(tb, s.Snapshot(tb))
}

// Snapshot copies the store's files as they are now, page cache included.
func (s *Server) Snapshot(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "snapshot")
	copyTree(tb, s.cfg.StoreDir, dir)
	return dir
}

// Rollback stops the server and starts it again on the files of a snapshot, as after the death of a
// machine that had not written the rest. The snapshot is used up.
func (s *Server) Rollback(tb testing.TB, snapshot string) {
	tb.Helper()
	s.Stop()
	require.NoError(tb, os.RemoveAll(s.cfg.StoreDir))
	require.NoError(tb, os.Rename(snapshot, s.cfg.StoreDir))
	s.start(tb)
}

// RollbackStream is Rollback for one stream of our account: the others keep what they have, as
// when the machine died between writing the one and the other.
func (s *Server) RollbackStream(tb testing.TB, snapshot, stream string) {
	tb.Helper()
	s.Stop()
	dir := filepath.Join("jetstream", embedded.AccountOrders, "streams", stream)
	require.NoError(tb, os.RemoveAll(filepath.Join(s.cfg.StoreDir, dir)))
	copyTree(tb, filepath.Join(snapshot, dir), filepath.Join(s.cfg.StoreDir, dir))
	s.start(tb)
}

// copyTree copies a directory that is being written to: files that vanish meanwhile are left out.
func copyTree(tb testing.TB, from, to string) {
	tb.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	require.NoError(tb, err)
}
