package access_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/bus/access"
	"millrace/internal/bus/embedded"
	"millrace/internal/freeport"
	"millrace/internal/natstest"
	"millrace/subjects"
)

func TestMain(m *testing.M) {
	natstest.SideBySide()
	natstest.VerifyTestMain(m)
}

const (
	soon = 20 * time.Second // bound of what should take milliseconds, on a busy machine
	tick = 10 * time.Millisecond
)

// freePort is the first of n ports in a row, with those above it that a site takes.
func freePort(t *testing.T, n int) int {
	t.Helper()
	p, err := freeport.Row(t.Context(), n, 2000, 4000)
	require.NoError(t, err)
	return p
}

// newSite writes a site for servers of this test.
func newSite(t *testing.T, servers int) *access.Site {
	t.Helper()
	dir := t.TempDir()
	s := &access.Site{
		Dir: filepath.Join(dir, "site"), Servers: servers, Hosts: []string{"127.0.0.1"}, Port: freePort(t, servers),
		Store: filepath.Join(dir, "store"),
	}
	_, err := s.Write()
	require.NoError(t, err)
	return s
}

// run starts a server from the file that the site has for it, as nats-server -c does.
func run(t *testing.T, s *access.Site, name string) *server.Server {
	t.Helper()
	opts, err := server.ProcessConfigFile(filepath.Join(s.Dir, name+".conf"))
	require.NoError(t, err)
	opts.NoSigs, opts.NoLog = true, true
	ns, err := server.NewServer(opts)
	require.NoError(t, err)
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	return ns
}

func topology() subjects.Options {
	return subjects.Options{
		MaxAge: 36 * time.Second, MaxBody: 1 << 20,
		InMaxBytes: 16 << 20, OKMaxBytes: 16 << 20, RecordMaxBytes: 16 << 20, RecordMaxAge: time.Hour,
		LedgerMaxBytes: 16 << 20, LedgerMaxAge: 24 * time.Hour, Partitions: 4,
	}
}

// dial connects as a process of the role does. role is the process's; user is whose key it has.
func dial(t *testing.T, s *access.Site, role, user string) (*bus.Bus, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	cfg := bus.Config{URL: s.URL(), Sync: bus.SyncInterval, Replicas: min(s.Servers, 3), Role: role, Creds: seed(s, user)}
	b, err := bus.Dial(t.Context(), cfg, topology(), slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b, reg
}

func seed(s *access.Site, user string) string { return filepath.Join(s.Dir, "keys", user+".nk") }

// connect is a plain connection of the user, and what the server refused it.
func connect(t *testing.T, s *access.Site, user string) (*nats.Conn, chan error) {
	t.Helper()
	auth, err := embedded.ClientAuth(seed(s, user))
	require.NoError(t, err)
	refused := make(chan error, 64)
	nc, err := nats.Connect(s.URL(), auth, nats.NoReconnect(), nats.CustomInboxPrefix("_INBOX_"+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc, refused
}

// faults is how often the server refused a publish or a subscription of the process.
func faults(t *testing.T, reg *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "millrace_bus_connection_faults_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			n += m.GetCounter().GetValue()
		}
	}
	return n
}

// background runs f until the test ends.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return string(b)
}

func publicKeys(users string) (n int) { return strings.Count(users, "nkey: U") }
