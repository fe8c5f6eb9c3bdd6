package discovery_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"millrace/internal/config"
	"millrace/internal/discovery"
)

// read parses a configuration as cmd does.
func read(t *testing.T, file string, environ, args []string) discovery.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "millrace.yaml")
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	var g struct {
		Config string           `name:"config"`
		Peers  discovery.Config `embed:"" prefix:"peers."`
	}
	opts := append(config.Options(reflect.TypeFor[[]discovery.Entry]()), kong.PostBuild(func(k *kong.Kong) error {
		s := config.NewSchema(k.Model.Node)
		r := config.NewResolver(s, config.Input{Environ: environ})
		s.Detach(k.Model.Node)
		return kong.Resolvers(r).Apply(k)
	}))
	k, err := kong.New(&g, opts...)
	require.NoError(t, err)
	_, err = k.Parse(append([]string{"--config=" + path}, args...))
	require.NoError(t, err)
	require.NoError(t, g.Peers.Validate())
	return g.Peers
}

func TestKeysHaveTheDefaultsOfTheCode(t *testing.T) {
	require.Equal(t, discovery.DefaultConfig(), read(t, "", nil, nil))
}

func TestKeysHaveThreeSpellings(t *testing.T) {
	signer := "0x00000000000000000000000000000000000000Ab"
	want := []discovery.Entry{{Name: "beta", Address: "h:1", Transport: discovery.HTTPS}}
	require.NoError(t, want[0].Signer.UnmarshalText([]byte(signer)))
	c := read(t, `
peers:
  hub: {url: "http://127.0.0.1:7937", every: 1m, transport: leafnode, register: false}
  file: peers.yaml
  srv: _millrace._tcp.example.org
  static:
    - {name: beta, address: "h:1", transport: https, signer: "`+signer+`"}
`, nil, nil)
	require.Equal(t, discovery.Config{
		Hub:  discovery.HubConfig{URL: "http://127.0.0.1:7937", Every: time.Minute, Transport: discovery.Leafnode},
		File: "peers.yaml", SRV: "_millrace._tcp.example.org", Static: want,
	}, c)

	list := `[{"name":"beta","address":"h:1","transport":"https","signer":"` + signer + `"}]`
	c = read(t, "", []string{"MILLRACE_PEERS_STATIC=" + list, "MILLRACE_PEERS_HUB_TRANSPORT=https"}, nil)
	require.Equal(t, want, c.Static)
	require.Equal(t, discovery.HTTPS, c.Hub.Transport)
	c = read(t, "", nil, []string{"--peers.static=" + list, "--no-peers.hub.register"})
	require.Equal(t, want, c.Static)
	require.False(t, c.Hub.Register)
}

func TestPredecessorsNamesForTheHubWork(t *testing.T) {
	for _, name := range []string{"BUILDERHUB_ENDPOINT", "BUILDER_CONFIGHUB_ENDPOINT"} {
		require.Equal(t, "http://127.0.0.1:14892", read(t, "", []string{name + "=http://127.0.0.1:14892"}, nil).Hub.URL)
	}
}
