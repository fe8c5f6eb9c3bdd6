package discovery

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDiffNamesWhatIsAnother(t *testing.T) {
	beta := Peer{Name: "beta", Address: "h:1", Transport: Auto, Pins: []string{pin(1)}, Signer: addr(1), Source: Static}
	gamma := Peer{Name: "gamma", Address: "h:2", Transport: HTTPS}
	moved := beta
	moved.Address = "h:3"
	elsewhere := beta
	elsewhere.Source = Hub
	require.Equal(t, Difference{Added: []Peer{beta}}, Diff(nil, []Peer{beta}))
	require.Equal(t, Difference{Removed: []Peer{beta}}, Diff([]Peer{beta}, nil))
	require.Equal(t, Difference{Changed: []Peer{moved}}, Diff([]Peer{beta, gamma}, []Peer{gamma, moved}))
	d := Diff([]Peer{beta}, []Peer{elsewhere})
	require.True(t, d.Empty(), "who says it changes nothing")
	for _, change := range []func(*Peer){
		func(p *Peer) { p.DNSName = "x" },
		func(p *Peer) { p.Transport = Leafnode },
		func(p *Peer) { p.Certificate = "x" },
		func(p *Peer) { p.Pins = nil },
		func(p *Peer) { p.Signer = addr(2) },
	} {
		other := beta
		change(&other)
		d := Diff([]Peer{beta}, []Peer{other})
		require.Len(t, d.Changed, 1)
	}
}

func TestADifferenceAppliedIsTheLaterSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := func(label string) map[string]Peer {
			out := map[string]Peer{}
			for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4).Draw(t, label) {
				out[name] = Peer{Name: name, Address: rapid.SampledFrom([]string{"h:1", "h:2"}).Draw(t, "address")}
			}
			return out
		}
		list := func(m map[string]Peer) (ps []Peer) {
			for _, p := range m {
				ps = append(ps, p)
			}
			return ps
		}
		before, after := set("before"), set("after")
		d := Diff(list(before), list(after))
		for _, p := range d.Removed {
			delete(before, p.Name)
		}
		for _, p := range append(d.Added, d.Changed...) {
			before[p.Name] = p
		}
		require.Equal(t, after, before)
	})
}

func TestEnumsAreWords(t *testing.T) {
	for w, want := range map[string]Transport{"leafnode": Leafnode, "https": HTTPS, "auto": Auto} {
		var got Transport
		require.NoError(t, got.UnmarshalText([]byte(w)))
		require.Equal(t, want, got)
		text, err := got.MarshalText()
		require.NoError(t, err)
		require.Equal(t, w, string(text))
	}
	for _, w := range []string{"", "HTTPS", "pigeon"} {
		require.ErrorIs(t, new(Transport).UnmarshalText([]byte(w)), ErrTransport)
	}
	text, err := Hub.MarshalText()
	require.NoError(t, err)
	require.Equal(t, "hub", string(text))
	require.Equal(t, "transport 9", Transport(9).String())
	require.Equal(t, "source 9", Source(9).String())
}
