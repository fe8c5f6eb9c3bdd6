package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// maxExposure is what systemd-analyze security may find at most, in tenths: 2 of 10 is "OK", and most
// services are above 9.
const maxExposure = "20"

func units(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("systemd/*.service")
	require.NoError(t, err)
	require.Len(t, found, 7)
	return found
}

// TestUnitsAreValidAndTight asks systemd itself.
func TestUnitsAreValidAndTight(t *testing.T) {
	analyze := tool(t, "systemd-analyze", "apt-get install systemd")
	dir := t.TempDir()
	for _, u := range units(t) {
		b, err := os.ReadFile(u)
		require.NoError(t, err)
		// The binaries are elsewhere on this machine.
		text := regexp.MustCompile(`/usr/local/bin/\S+`).ReplaceAllString(string(b), millrace)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(u)), []byte(text), 0o600))
		t.Run(filepath.Base(u), func(t *testing.T) {
			out := command(t, dir, analyze, "verify", "--man=no", "--recursive-errors=no", "./"+filepath.Base(u))
			require.Empty(t, strings.TrimSpace(out))
			command(t, dir, analyze, "security", "--offline=true", "--threshold="+maxExposure, "./"+filepath.Base(u))
		})
	}
}

// directives reads a unit: each key with its values.
func directives(t *testing.T, path string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	all := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			all[key] = append(all[key], value)
		}
	}
	return all
}

func TestUnitsDrainInPeaceAndComeBack(t *testing.T) {
	t.Parallel()
	for _, u := range units(t) {
		d := directives(t, u)
		require.Equal(t, []string{"always"}, d["Restart"], u)
		stop, err := time.ParseDuration(d["TimeoutStopSec"][0])
		require.NoError(t, err)
		require.GreaterOrEqual(t, stop, drain(t), u)
		if strings.Contains(u, "gateway") {
			require.GreaterOrEqual(t, stop, gatewayDrain(t), u)
		}
		require.Equal(t, []string{""}, d["CapabilityBoundingSet"], u)
		for _, yes := range []string{"NoNewPrivileges", "PrivateTmp", "PrivateDevices", "MemoryDenyWriteExecute", "RestrictNamespaces"} {
			require.Equal(t, []string{"yes"}, d[yes], "%s in %s", yes, u)
		}
	}
}

// fixed is a key's default, a duration.
func fixed(t *testing.T, key string) time.Duration {
	t.Helper()
	m := regexp.MustCompile("`" + regexp.QuoteMeta(key) + "` \\| duration \\| `([^`]+)`").FindStringSubmatch(command(t, "", millrace, "config", "reference"))
	require.NotNil(t, m, key)
	d, err := time.ParseDuration(m[1])
	require.NoError(t, err)
	return d
}

// busDrain is how long the bus may take.
const busDrain = 30 * time.Second

// drain is how long a process may take to stop with the default configuration: the deadlines of its
// parts, one after the other.
func drain(t *testing.T) time.Duration {
	t.Helper()
	const (
		workers = 12 * time.Second
		targets = 15 * time.Second
	)
	return fixed(t, "ingress.drain_delay") + fixed(t, "ingress.drain_timeout") + workers + fixed(t, "egress.drain") + targets + busDrain
}

// gatewayDrain is the same of a gateway: doors, WebSockets, shared queue and nodes, each with gateway.drain.
func gatewayDrain(t *testing.T) time.Duration {
	t.Helper()
	const margin = 2 * time.Second
	return fixed(t, "gateway.drain_delay") + 4*(fixed(t, "gateway.drain")+margin) + busDrain
}
