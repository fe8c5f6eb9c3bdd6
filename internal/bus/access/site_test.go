package access_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/access"
	"millrace/internal/order"
)

func TestThreeServersMakeAClusterAndSurviveTheLossOfOne(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	servers := []*server.Server{run(t, s, "nats-1"), run(t, s, "nats-2"), run(t, s, "nats-3")}
	require.Eventually(t, func() bool { return servers[0].JetStreamIsCurrent() && servers[1].NumRoutes() > 0 && leader(servers) }, soon, tick)
	admin, _ := dial(t, s, "", access.Admin)
	require.Eventually(t, func() bool { _, err := admin.Apply(t.Context()); return err == nil }, soon, tick)
	door, reg := dial(t, s, "ingress", "ingress")
	publish := func() error { _, err := door.Publish(t.Context(), testOrder(order.PriorityHigh)); return err }
	require.Eventually(t, func() bool { return publish() == nil }, soon, tick)
	servers[2].Shutdown()
	servers[2].WaitForShutdown()
	require.Eventually(t, func() bool { return publish() == nil }, soon, tick)
	require.Zero(t, faults(t, reg))
}

func leader(servers []*server.Server) bool {
	for _, s := range servers {
		if s.JetStreamIsLeader() {
			return true
		}
	}
	return false
}

func TestKeysStayWhenTheSiteIsWrittenAgain(t *testing.T) {
	s := newSite(t, 3)
	before := read(t, s.Dir, "users.conf") + read(t, s.Dir, "nats-1.conf")
	_, err := s.Write()
	require.NoError(t, err)
	require.Equal(t, before, read(t, s.Dir, "users.conf")+read(t, s.Dir, "nats-1.conf"))
}

func TestSecretsAreForTheirOwnerAndInNoOtherFile(t *testing.T) {
	s := newSite(t, 3)
	var seeds []string
	keys, err := os.ReadDir(filepath.Join(s.Dir, "keys"))
	require.NoError(t, err)
	for _, k := range keys {
		info, err := k.Info()
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), k.Name())
		if strings.HasSuffix(k.Name(), ".nk") {
			seeds = append(seeds, strings.TrimSpace(read(t, s.Dir, "keys", k.Name())))
		}
	}
	require.Len(t, seeds, len(access.Roles())+1)
	files, err := os.ReadDir(s.Dir)
	require.NoError(t, err)
	for _, f := range files {
		for _, seed := range seeds {
			if !f.IsDir() {
				require.NotContains(t, read(t, s.Dir, f.Name()), seed)
			}
		}
		info, err := f.Info()
		require.NoError(t, err)
		if strings.HasSuffix(f.Name(), ".conf") && f.Name() != "users.conf" { // it holds the routes' password
			require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), f.Name())
		}
	}
	require.Equal(t, "*\n", read(t, s.Dir, ".gitignore"))
}

// TestAKeyIsReplacedWithoutAMomentInWhichNoneIsValid is the runbook's rotation: a new key, the
// servers reload, the role restarts, the old key goes, the servers reload.
func TestAKeyIsReplacedWithoutAMomentInWhichNoneIsValid(t *testing.T) {
	s := newSite(t, 1)
	ns := run(t, s, "nats")
	old := read(t, seed(s, "worker"))
	oldFile := filepath.Join(t.TempDir(), "old.nk")
	require.NoError(t, os.WriteFile(oldFile, []byte(old), 0o600))
	with := func(path string) error {
		auth, err := nats.NkeyOptionFromSeed(path)
		require.NoError(t, err)
		nc, err := nats.Connect(s.URL(), auth)
		if err == nil {
			nc.Close()
		}
		return err
	}
	reload := func() {
		_, err := s.Write()
		require.NoError(t, err)
		require.NoError(t, ns.Reload())
	}
	cut := make(chan struct{})
	auth, err := nats.NkeyOptionFromSeed(oldFile)
	require.NoError(t, err)
	lasting, err := nats.Connect(s.URL(), auth, nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(cut) }))
	require.NoError(t, err)
	t.Cleanup(lasting.Close)

	require.NoError(t, s.Rotate("worker"))
	require.ErrorIs(t, s.Rotate("worker"), access.ErrRotating)
	reload()
	require.NotEqual(t, old, read(t, seed(s, "worker")))
	require.NoError(t, with(oldFile))
	require.NoError(t, with(seed(s, "worker")))
	require.True(t, lasting.IsConnected(), "a connection outlives the reload")

	require.NoError(t, s.Retire("worker"))
	require.ErrorIs(t, s.Retire("worker"), access.ErrNotRotating)
	reload()
	await(t, cut)
	require.ErrorIs(t, with(oldFile), nats.ErrAuthorization)
	require.NoError(t, with(seed(s, "worker")))
	require.Equal(t, len(access.Roles())+1, publicKeys(read(t, s.Dir, "users.conf")))

	require.ErrorIs(t, s.Rotate("nobody"), access.ErrRole)
	require.ErrorIs(t, s.Retire("nobody"), access.ErrRole)
}

func TestABrokenKeyFileIsNamed(t *testing.T) {
	s := newSite(t, 1)
	require.NoError(t, os.WriteFile(seed(s, "egress"), []byte("SUnonsense"), 0o600))
	_, err := s.Write()
	require.ErrorContains(t, err, seed(s, "egress"))
}

func TestServersOnMachinesOfTheirOwnReachEachOther(t *testing.T) {
	s := &access.Site{
		Dir: t.TempDir(), Servers: 3, Hosts: []string{"a.example", "b.example", "10.0.0.3"}, Port: 4222, Store: "/var/lib/nats",
		TLS: "/etc/nats/tls", KeysAt: "/etc/millrace",
	}
	_, err := s.Write()
	require.NoError(t, err)
	require.Equal(t, "tls://a.example:4222,tls://b.example:4222,tls://10.0.0.3:4222", s.URL())
	one, three := read(t, s.Dir, "nats-1.conf"), read(t, s.Dir, "nats-3.conf")
	require.Contains(t, one, `listen: "0.0.0.0:4222"`)
	require.Contains(t, three, `listen: "10.0.0.3:4222"`)
	require.Contains(t, one, "@b.example:6222")
	require.NotContains(t, one, "@a.example:6222")
	require.Equal(t, 2, strings.Count(one, `cert_file: "/etc/nats/tls/cert.pem"`), "for clients and for routes")
	require.Contains(t, read(t, s.Dir, "worker.env"), "MILLRACE_NATS_CREDS=/etc/millrace/worker.nk\nMILLRACE_NATS_REPLICAS=3\nMILLRACE_NATS_TLS_CA=/etc/nats/tls/ca.pem\n")
}

func TestFaultsOfASiteAreReportedTogether(t *testing.T) {
	good := access.Site{Dir: "d", Servers: 3, Hosts: []string{"h"}, Port: 4222, Store: "s"}
	require.NoError(t, good.Validate())
	for what, change := range map[string]func(*access.Site){
		"majority":     func(s *access.Site) { s.Servers = 2 },
		"hosts for":    func(s *access.Site) { s.Hosts = []string{"a", "b"} },
		"host \"a:1\"": func(s *access.Site) { s.Hosts = []string{"a:1"} },
		"port 0":       func(s *access.Site) { s.Port = 0 },
		"port 65000":   func(s *access.Site) { s.Port = 65000 },
		"needed":       func(s *access.Site) { s.Store = "" },
		"quotes":       func(s *access.Site) { s.Store = "a\"b" },
	} {
		s := good
		change(&s)
		require.ErrorContains(t, s.Validate(), what)
		_, err := s.Write()
		require.ErrorContains(t, err, what)
	}
	bad := access.Site{}
	for _, what := range []string{"needed", "majority", "port 0"} {
		require.ErrorContains(t, bad.Validate(), what)
	}
}
