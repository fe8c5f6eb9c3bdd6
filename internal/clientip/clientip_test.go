package clientip

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheLastUntrustedAddressIsTheClients(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"a peer is believed about itself only", "192.0.2.1:9", []string{"198.51.100.1"}, "192.0.2.1"},
		{"a proxy names its client", "10.0.0.1:9", []string{"198.51.100.1"}, "198.51.100.1"},
		{"what the client wrote before counts for nothing", "10.0.0.1:9", []string{"203.0.113.9, 198.51.100.1"}, "198.51.100.1"},
		{"a chain of proxies is walked", "10.0.0.1:9", []string{"198.51.100.1", "10.0.0.3, 10.0.0.2"}, "198.51.100.1"},
		{"no header", "10.0.0.1:9", nil, "10.0.0.1"},
		{"nonsense ends the walk", "10.0.0.1:9", []string{"198.51.100.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"IPv4 in IPv6", "[::ffff:192.0.2.1]:9", nil, "192.0.2.1"},
		{"IPv6 is its /64", "[2001:db8:1:2:3:4:5:6%eth0]:9", nil, "2001:db8:1:2::"},
		{"an IPv6 proxy", "[fd00::1]:9", []string{"2001:db8:1:2::5"}, "2001:db8:1:2::"},
	} {
		require.Equal(t, netip.MustParseAddr(c.want), Of(c.remote, c.forwarded, proxies), c.name)
	}
	require.False(t, Of("@", []string{"198.51.100.1"}, proxies).IsValid())
}

func TestANetworkMayBeOneAddress(t *testing.T) {
	nets, err := Networks([]string{"10.1.2.3/8", "192.0.2.1", "2001:db8::1"})
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::1/128"),
	}, nets)
	_, err = Networks([]string{"10.0.0.0/33", "10.0.0.1", "x"})
	require.ErrorContains(t, err, `"10.0.0.0/33" is not a network`)
	require.ErrorContains(t, err, `"x" is not a network`)
	nets, err = Networks(nil)
	require.NoError(t, err)
	require.Empty(t, nets)
}

func FuzzOf(f *testing.F) {
	f.Add("10.0.0.1:1", "1.2.3.4, ::1")
	trusted := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	f.Fuzz(func(t *testing.T, remote, forwarded string) {
		a := Of(remote, []string{forwarded}, trusted)
		require.Equal(t, a, Site(a))
	})
}
