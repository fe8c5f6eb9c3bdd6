package regions

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTwoRegionsAreThePublishedOnes(t *testing.T) {
	require.Contains(t, Builtins(), "two-regions")
	top, err := Load("two-regions")
	require.NoError(t, err)
	require.Equal(t, []string{"frankfurt", "virginia"}, top.NodeNames())
	want := Conditions{Delay: 44 * time.Millisecond, Bandwidth: 1e9}
	require.Equal(t, want, top.Between(Pair{"virginia", "frankfurt"}))
	require.Equal(t, want, top.Between(Pair{"frankfurt", "virginia"}))
	require.Equal(t, 85*time.Microsecond, top.Regions["virginia"].Delay)
	require.Equal(t, 135*time.Microsecond, top.Regions["frankfurt"].Delay)
	require.InDelta(t, 860, top.Orders.Rate, 0)
	require.Equal(t, []string{"virginia"}, top.Doors())
}

func TestTopologyOfAFileHasNodesInRegions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
name: three
regions: {east: {delay: 1ms}, west: {}}
nodes: {a: east, b: east, c: west}
links:
  - {between: [east, west], delay: 20ms, jitter: 2ms, bandwidth: 100Mbit, reset_every: 30s, back: {delay: 30ms}}
`), 0o600))
	top, err := Load(file)
	require.NoError(t, err)
	require.Equal(t, Conditions{Delay: time.Millisecond}, top.Between(Pair{"a", "b"}))
	require.Equal(t, Conditions{Delay: 20 * time.Millisecond, Jitter: 2 * time.Millisecond, Bandwidth: 100e6, ResetEvery: 30 * time.Second}, top.Between(Pair{"a", "c"}))
	require.Equal(t, Conditions{Delay: 30 * time.Millisecond}, top.Between(Pair{"c", "b"}))
	require.Equal(t, []string{"a", "b", "c"}, top.Doors())
	require.Len(t, top.Pairs(), 6)

	_, err = Load(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, ErrTopology)
	require.ErrorContains(t, err, "two-regions")
}

func TestTopologyNamesItsFaults(t *testing.T) {
	for name, c := range map[string]struct{ yaml, fault string }{
		"a key that is not known":      {"colour: red", "colour"},
		"one node":                     {"regions: {a: {}}", "1 nodes"},
		"a node nowhere":               {"regions: {a: {}, b: {}}\nnodes: {x: c, y: a}", `node "x" in region "c"`},
		"regions that are not joined":  {"regions: {a: {}, b: {}}", "no link between a and b"},
		"a link to nowhere":            {"regions: {a: {}, b: {}}\nlinks: [{between: [a, c]}]", `link to "c"`},
		"a link to itself":             {"regions: {a: {}, b: {}}\nlinks: [{between: [a, a]}]", "not two regions"},
		"two links":                    {"regions: {a: {}, b: {}}\nlinks: [{between: [a, b]}, {between: [b, a]}]", "two links"},
		"jitter above the delay":       {"regions: {a: {jitter: 1ms}, b: {}}\nlinks: [{between: [a, b]}]", "region a: delay"},
		"a delay of the way back":      {"regions: {a: {}, b: {}}\nlinks: [{between: [a, b], back: {delay: 1h}}]", "link b>a: delay"},
		"a bandwidth without unit":     {"regions: {a: {bandwidth: 5}, b: {}}", "100Mbit"},
		"orders at a node that is not": {"regions: {a: {}, b: {}}\nlinks: [{between: [a, b]}]\norders: {at: [c]}", `orders at "c"`},
		"a name with blanks":           {"regions: {\"a b\": {}, b: {}}\nlinks: [{between: [\"a b\", b]}]", "small letters"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.yaml))
			require.ErrorIs(t, err, ErrTopology)
			require.ErrorContains(t, err, c.fault)
		})
	}
}

func TestRatesHaveUnits(t *testing.T) {
	for text, want := range map[string]Rate{"1Gbit": 1e9, "2.5 Mbit": 25e5, "10kbit": 1e4, "7bit": 7, "0bit": 0} {
		var r Rate
		require.NoError(t, r.parse(text))
		require.Equal(t, want, r)
	}
	for _, text := range []string{"", "5", "-1bit", "1e300Gbit", "NaNbit", "fastbit"} {
		var r Rate
		require.Error(t, r.parse(text), text)
	}
	require.Equal(t, "1 Gbit/s", Rate(1e9).String())
	require.Equal(t, "unbounded", Rate(0).String())
	require.Equal(t, 8*time.Millisecond, Rate(1e6).takes(1000))
}

func FuzzDecodeTopology(f *testing.F) {
	f.Add("regions: {a: {delay: 1ms, bandwidth: 1Gbit}, b: {}}\nlinks: [{between: [a, b], back: {}}]\nnodes: {x: a, y: b}")
	f.Fuzz(func(t *testing.T, text string) {
		top, err := Parse([]byte(text))
		if err != nil {
			return
		}
		for _, p := range top.Pairs() {
			c := top.Between(p)
			require.GreaterOrEqual(t, c.Delay, c.Jitter)
		}
		n, err := New(top, nil)
		require.NoError(t, err)
		require.Empty(t, n.Addr(Pair{"x", "y"}))
	})
}

func FuzzDecodeScenario(f *testing.F) {
	f.Add("steps: [{at: 1s, do: partition, between: [virginia, frankfurt], for: 1s}]")
	f.Add("steps: [{at: 1s, do: flap, from: virginia, to: frankfurt, for: 1s, every: 1ms}, {do: restart, node: frankfurt}]")
	top, err := Load("two-regions")
	require.NoError(f, err)
	n, err := New(top, nil)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScenario([]byte(text))
		if err != nil || s.Validate(top) != nil {
			return
		}
		at := time.Duration(0)
		for _, m := range n.moments(s, Hooks{}) {
			require.GreaterOrEqual(t, m.at, at)
			require.NotEmpty(t, strings.TrimSpace(m.what))
			at = m.at
		}
	})
}

// What the documentation shows has to work.
func TestDocumentedFilesAreRead(t *testing.T) {
	text, err := os.ReadFile("../../docs/performance.md")
	require.NoError(t, err)
	var blocks []string
	for _, part := range strings.Split(string(text), "```yaml\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	require.Len(t, blocks, 2)
	top, err := Parse([]byte(blocks[0]))
	require.NoError(t, err)
	s, err := ParseScenario([]byte(blocks[1]))
	require.NoError(t, err)
	require.NoError(t, s.Validate(top))
	require.Len(t, s.Steps, 5)
}
