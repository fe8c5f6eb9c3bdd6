package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/eltest/drive"
)

func TestUsersOfClProxyChangeOneWord(t *testing.T) {
	t.Parallel()
	primary, secondary := newEL(t, 1, eltest.Config{}), newEL(t, 1, eltest.Config{})
	_, port, err := net.SplitHostPort(freeAddr(t))
	require.NoError(t, err)
	dir := t.TempDir()
	p := start(t, nil, "engine", "--primary-builder", primary.URL(), "--secondary-builder", secondary.URL(), "--port", port,
		"--nats.store_dir="+filepath.Join(dir, "nats"), "--engine.spool_dir="+filepath.Join(dir, "engine"))
	p.url("engine")
	d := drive.New(drive.Config{Target: drive.Endpoint{URL: "http://127.0.0.1:" + port, Secret: primary.secret}, Genesis: miniGenesis(t), BuildWait: time.Microsecond})
	require.NoError(t, d.Sync(t.Context()))
	require.NoError(t, d.Random(t.Context()))
	eventually(t, "it is named live_only, as it has no secret of its own", func() bool {
		o := call(t, "", nil, "engine", "status", "--json", "--admin="+p.url("admin"), "--token-file="+filepath.Join(dir, "admin.token"))
		return strings.Contains(o.out, "live_only")
	})
	for range 20 { // at the pace of slots: without a secret there is no catching up from the record
		require.NoError(t, d.Random(t.Context()))
		require.Equal(t, d.Head().Hash, primary.Head().Hash)
		eventually(t, "the secondary follows", func() bool { return secondary.Head() == primary.Head() })
	}
	obeyed(t, secondary)
}

func TestEngineNeedsAPrimaryAndValidSecondaries(t *testing.T) {
	t.Parallel()
	_, file := secretFile(t, 1)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "engine.primary"},
		{[]string{"--engine.primary=http://127.0.0.1:1"}, "jwt_secret"},
		{[]string{"--engine.primary=http://127.0.0.1:1", "--engine.jwt_secret=" + file, `--engine.secondaries=[{"name":"a","url":"ftp://x"}]`}, "secondary a: url"},
		{[]string{"--engine.primary=http://127.0.0.1:1", "--engine.jwt_secret=" + file, `--engine.secondaries=[{"name":"primary","url":"http://x"}]`}, "two clients"},
		{[]string{"--engine.primary=http://127.0.0.1:1", "--engine.jwt_secret=" + file, `--engine.secondaries=[{"name":"a b","url":"http://x","mode":"x"}]`}, "letters"},
		{[]string{"--port=70000", "--primary-builder=http://127.0.0.1:1"}, "no port"},
	} {
		o := call(t, "", nil, append([]string{"engine", "--nats.store_dir=" + t.TempDir()}, tc.args...)...)
		require.Equal(t, exitUsage, o.code, tc.want)
		require.Contains(t, o.errors, tc.want)
	}
}
