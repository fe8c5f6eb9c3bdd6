package discovery

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// usable says what every decoder promises of what it lets through.
func usable(t *testing.T, ps []Peer, hub bool) {
	t.Helper()
	for _, p := range ps {
		require.True(t, validName(p.Name), "%q", p.Name)
		require.Contains(t, []Transport{Leafnode, HTTPS, Auto}, p.Transport)
		if p.Address != "" || hub {
			_, _, err := net.SplitHostPort(p.Address)
			require.NoError(t, err)
		}
		text, err := normalPEM(p.Certificate)
		require.NoError(t, err)
		require.Equal(t, text, p.Certificate)
		pins, err := normalPins(p.Pins)
		require.NoError(t, err)
		require.Equal(t, pins, p.Pins)
		again := p
		require.NoError(t, again.complete())
		require.True(t, again.Equal(&p), "written in one way")
	}
}

func FuzzDecodeBuilders(f *testing.F) {
	element := `{"name":"beta","ip":"10.0.0.1:5544","dns_name":"b.example.org","orderflow_proxy":{"ecdsa_pubkey_address":"` + addr(1).Hex() + `"}}`
	for _, s := range []string{
		"", "null", "[]", "{}", "[" + element + "]", "[" + element + ",{},5,null]", `[{"name":"a","name":"b"}]`, "[[[[", "[\xff]",
		`[{"name":"` + certificatePEM(f) + `"}]`, `[{"name":"ü","ip":"[::1]:1","orderflow_proxy":{"ecdsa_pubkey_address":"` + addr(2).Hex() + `"}}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		ps, skips, err := decodeBuilders(body, Auto)
		if err != nil {
			require.NotEmpty(t, faultReason(err))
			return
		}
		usable(t, ps, true)
		for _, s := range skips {
			require.NotEmpty(t, entryReason(s.Err))
		}
		u := newUnion(Self{})
		u.add(ps)
		require.Empty(t, newUnion(Self{}).add(u.sorted()), "what is left can be together")
	})
}

func FuzzDecodeFile(f *testing.F) {
	for _, s := range []string{
		"", "peers:\n- {name: beta, address: 'h:1'}\n", "peers: [{name: a, signer: '" + addr(1).Hex() + "', pins: [" + pin(1) + "]}]",
		"peers: &x [*x]", "a: &a [1]\nb: [*a,*a]", "peers:\n- name: a\n  certificate: |\n    " + "-----BEGIN CERTIFICATE-----", "---\n---\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ps, err := decodeFile(data, "/nonexistent")
		if err != nil {
			require.Empty(t, ps)
			return
		}
		usable(t, ps, false)
	})
}

func FuzzDecodeTXT(f *testing.F) {
	for _, s := range []string{"", "pin=" + pin(1), "name=beta transport=https signer=" + addr(1).Hex(), "v=spf1 -all", "pin= name= signer=", "=", "\xff=\x00"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		p := Peer{Name: "beta", Address: "h:1", Transport: Auto}
		if p.describe([]string{a, b}) != nil || p.complete() != nil {
			return
		}
		usable(t, []Peer{p}, true)
	})
}
