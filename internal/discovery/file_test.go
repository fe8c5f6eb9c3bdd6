package discovery

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAFileOfPeersIsReadWhole(t *testing.T) {
	dir := t.TempDir()
	cert := certificatePEM(t)
	write(t, filepath.Join(dir, "beta.pem"), "beta's, from the meeting\n"+cert)
	path := filepath.Join(dir, "peers.yaml")
	write(t, path, `
peers:
  - name: beta
    address: 10.0.0.1:7422
    dns_name: beta.example.org
    transport: leafnode
    certificate: beta.pem
    pins: [`+pin(2)+`, `+strings.ToUpper(pin(1))+`, `+pin(2)+`]
    signer: `+addr(1).Hex()+`
  - {name: gamma, signer: "`+addr(2).Hex()+`"}
`)
	ps, err := ReadFile(path)
	require.NoError(t, err)
	pins, err := normalPins([]string{pin(1), pin(2)})
	require.NoError(t, err)
	require.Equal(t, []Peer{
		{
			Name: "beta", Address: "10.0.0.1:7422", DNSName: "beta.example.org", Transport: Leafnode,
			Certificate: cert, Pins: pins, Signer: addr(1), Source: File,
		},
		{Name: "gamma", Transport: Auto, Pins: []string{}, Signer: addr(2), Source: File},
	}, ps)
	for _, empty := range []string{"", "# nobody yet\n", "peers:\n", "peers: []\n", "---\n"} {
		ps, err := decodeFile([]byte(empty), "")
		require.NoError(t, err, empty)
		require.Empty(t, ps, empty)
	}
}

func TestAFaultAnywhereRefusesTheFile(t *testing.T) {
	good := "peers:\n  - {name: beta, address: 'beta.example.org:1'}\n"
	_, err := decodeFile([]byte(good), "")
	require.NoError(t, err)
	for name, text := range map[string]string{
		"unknown key":         "peer: []",
		"unknown field":       good + "  - {name: gamma, where: 'h:1'}",
		"no list":             "peers: 5",
		"no yaml":             "peers: [",
		"second document":     good + "---\npeers: []",
		"no name":             good + "  - {address: 'h:1'}",
		"name is no token":    good + "  - {name: a.b, address: 'h:1'}",
		"name twice":          good + "  - {name: beta, address: 'h:1'}",
		"signer twice":        "peers:\n- {name: a, signer: '" + addr(1).Hex() + "'}\n- {name: b, signer: '" + addr(1).Hex() + "'}",
		"pin twice":           "peers:\n- {name: a, pins: [" + pin(1) + "]}\n- {name: b, pins: [" + pin(1) + "]}",
		"no port":             "peers:\n- {name: a, address: host}",
		"port 0":              "peers:\n- {name: a, address: 'h:0'}",
		"a URL":               "peers:\n- {name: a, address: 'https://h:1'}",
		"bad host":            "peers:\n- {name: a, address: 'h h:1'}",
		"bad dns name":        "peers:\n- {name: a, address: 'h:1', dns_name: '*.x'}",
		"bad pin":             "peers:\n- {name: a, pins: [" + pin(1)[1:] + "]}",
		"too many pins":       "peers:\n- {name: a, pins: [" + strings.Repeat(pin(1)+",", maxPins+1) + "]}",
		"bad signer":          "peers:\n- {name: a, signer: '0x12'}",
		"bad transport":       "peers:\n- {name: a, address: 'h:1', transport: pigeon}",
		"nothing to go by":    "peers:\n- {name: a}",
		"missing certificate": "peers:\n- {name: a, certificate: nowhere.pem}",
		"certificate is none": "peers:\n- {name: a, certificate: '-----BEGIN CERTIFICATE-----'}",
	} {
		ps, err := decodeFile([]byte(text), t.TempDir())
		require.ErrorIs(t, err, ErrMalformed, name)
		require.Empty(t, ps, name)
	}
	_, err = decodeFile(make([]byte, maxFile+1), "")
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = decodeFile([]byte("peers:\n"+strings.Repeat("- {}\n", maxEntries+1)), "")
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestAKeyIsNotTakenForACertificate(t *testing.T) {
	cert := certificatePEM(t)
	for _, text := range []string{
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		cert + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		cert + cert[:len(cert)/2],
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		strings.Repeat(cert, maxChain+1),
		cert + strings.Repeat(" ", maxPEM),
	} {
		_, err := normalPEM(text)
		require.ErrorIs(t, err, ErrCertificate)
	}
	for _, text := range []string{cert, "\n" + cert + "\n", cert + cert} {
		_, err := normalPEM(text)
		require.NoError(t, err)
	}
}

func TestAChangedFileIsTakenAndABadOneIsNot(t *testing.T) {
	path := peersFile(t, "peers:\n- {name: beta, address: 'h:1'}\n")
	g := newWatcher(t, Config{File: path}, Self{}, nil).start()
	require.Equal(t, []string{"beta"}, called(g.next()))
	require.True(t, g.Complete())

	write(t, path, "peers:\n- {name: beta, address: 'h:1'}\n- {name: gamma, address: 'h:1'}\n")
	g.awaitReload("beta", "gamma")
	write(t, path, "peers:\n- {name: beta, where: 'h:1'}\n")
	g.awaitFault(File, "malformed")
	require.Equal(t, []string{"beta", "gamma"}, called(g.Peers()))
	require.Contains(t, g.logs.String(), "where")
	require.NoError(t, os.Remove(path))
	g.awaitFault(File, "not_found")
	write(t, path, "peers: []\n")
	g.Refresh()
	g.awaitSet()
}

// awaitReload waits for a set without a Refresh; the watch of the file may not stand yet at the first
// write, which is why it is written again.
func (g *rig) awaitReload(want ...string) {
	g.t.Helper()
	data, err := os.ReadFile(g.cfg.File)
	require.NoError(g.t, err)
	n := 0
	g.eventually(func() bool {
		n++
		if n%100 == 0 {
			data = append(data, '\n')
			write(g.t, g.cfg.File, string(data))
		}
		select {
		case ps := <-g.sets:
			return strings.Join(called(ps), " ") == strings.Join(want, " ")
		default:
			return false
		}
	})
}

func TestAFileThatIsMissingAtStartMayComeLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "later", "peers.yaml")
	g := newWatcher(t, Config{File: path}, Self{}, nil).start()
	require.Empty(t, g.next())
	require.False(t, g.Complete())
	g.awaitFault(File, "not_found")
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
	write(t, path, "peers:\n- {name: beta, address: 'h:1'}\n")
	g.Refresh()
	g.awaitSet("beta")
	require.True(t, g.Complete())
}

func TestACertificateOfTheFileIsReadAgain(t *testing.T) {
	path := peersFile(t, "peers:\n- {name: beta, address: 'h:1', certificate: beta.pem}\n")
	first, second := certificatePEM(t), certificatePEM(t)
	cert := filepath.Join(filepath.Dir(path), "beta.pem")
	write(t, cert, first)
	g := newWatcher(t, Config{File: path}, Self{}, nil).start()
	require.Equal(t, first, g.awaitSet("beta")[0].Certificate)
	write(t, cert, second)
	g.Refresh()
	require.Equal(t, second, g.awaitSet("beta")[0].Certificate)
}
