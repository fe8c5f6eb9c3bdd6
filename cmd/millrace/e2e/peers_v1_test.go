//go:build e2e && linux

package e2e

import (
	"context"
	"crypto/tls"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/certificate/selfsigned"
	"millrace/internal/discovery/hubtest"
)

// oldProxy is the first proxy's last version (78e0d2f), behind a TLS terminator as it is deployed.
type oldProxy struct {
	user, system string
	pid          int
}

// startOldProxy starts the binary that MILLRACE_V1B_BIN names: it is no dependency of ours.
func startOldProxy(t *testing.T, builder, hub string, tlsConfig *tls.Config) *oldProxy {
	t.Helper()
	bin := os.Getenv("MILLRACE_V1B_BIN")
	plain := freeAddr(t)
	p := &oldProxy{user: "http://" + freeAddr(t), system: terminate(t, tlsConfig, plain)}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "--user-listen-addr", p.user[len("http://"):], "--system-listen-addr", plain,
		"--builder-endpoint", builder, "--builder-confighub-endpoint", hub, "--orderflow-archive-endpoint", builder,
		"--metrics-addr", freeAddr(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	p.pid = cmd.Process.Pid
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
	return p
}

// terminate accepts TLS for a plain address, and returns where.
func terminate(t *testing.T, cfg *tls.Config, to string) string {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go forward(ln, to)
	return ln.Addr().String()
}

// hubIdentity is a certificate as a hub lists it, with its files and what shows it.
func hubIdentity(t *testing.T) (pem, cert, key string, shown *tls.Config) {
	t.Helper()
	cert, key = selfsigned.Write(t, t.TempDir(), 1)
	b, err := os.ReadFile(cert)
	require.NoError(t, err)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	return string(b), cert, key, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
}

// A network of the first proxy and Millrace, joined by a BuilderHub: orders flow in both directions, replacements and cancels
// included, and reach each builder once.
func TestPeersOfTheFirstProxyExchangeOrders(t *testing.T) {
	if os.Getenv("MILLRACE_V1B_BIN") == "" {
		t.Skip("MILLRACE_V1B_BIN names no binary of the first proxy: it is no dependency of ours, see docs/performance.md")
	}
	pem, cert, key, shown := hubIdentity(t)
	hub := hubtest.Start(t)
	system := freeAddr(t)
	hub.Set(hubtest.Builder{Name: "mill", IP: system, Instance: &hubtest.Credentials{Certificate: pem}})
	ours := startNode(t, "--peers.hub.url="+hub.URL("mill"), "--peers.hub.every=1s", "--peers.system.listen="+system,
		"--peers.system.tls.cert="+cert, "--peers.system.tls.key="+key)
	eventually(t, 10*time.Second, func() bool { return len(hub.Registrations()) > 0 }, "we are registered")

	theirs := &pipeline{}
	theirs.sink, theirs.builder = startSink(t)
	old := startOldProxy(t, theirs.builder, hub.URL("old"), shown)
	theirs.doors = []string{old.user}
	hub.Set(hubtest.Builder{Name: "old", IP: old.system, Instance: &hubtest.Credentials{Certificate: pem}})
	eventually(t, 60*time.Second, func() bool {
		_, body := get(ours.bus.admin + "/targets")
		return len(hub.Registrations()) > 1 && len(body) > 0 && strings.Contains(body, `"old"`)
	}, "both know each other")
	nap(t, short(3*time.Second, 35*time.Second))

	here, there := &operator{pipeline: ours, name: "mill"}, &operator{pipeline: theirs, name: "old"}
	sent := ours.startLoad(t, exchanged(50, 5*time.Second))
	sent.wait(t)
	there.arrived(t, sent, here, 0)
	got := theirs.startLoad(t, exchanged(50, 5*time.Second))
	got.wait(t)
	here.arrived(t, got, there, 0)
	t.Log(run(t, "ledger", "verify", "--admin="+ours.bus.admin))
}
