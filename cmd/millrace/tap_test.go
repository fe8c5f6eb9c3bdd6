package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
)

// Only a node with a server of its own has the consumers to itself.
func TestTheTapIsOnWhereNobodyElseConsumes(t *testing.T) {
	const elsewhere = "nats://127.0.0.1:4222"
	for _, c := range []struct {
		role role
		url  string
		tap  string
		want string // empty: refused
	}{
		{roleNode, "", bus.TapAuto, bus.TapOn},
		{roleNode, "", bus.TapOn, bus.TapOn},
		{roleNode, "", bus.TapOff, bus.TapOff},
		{roleNode, elsewhere, bus.TapAuto, bus.TapOff},
		{roleNode, elsewhere, bus.TapOn, ""},
		{roleBus, "", bus.TapAuto, bus.TapOff},
		{roleBus, "", bus.TapOn, ""},
		{roleWorkers, elsewhere, bus.TapAuto, bus.TapOff},
		{roleWorkers, elsewhere, bus.TapOn, ""},
	} {
		cfg := Config{NATS: bus.Config{URL: c.url, Tap: c.tap}}
		err := cfg.fitTap(c.role)
		if c.want == "" {
			require.ErrorContains(t, err, "nats.tap", "%+v", c)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, cfg.NATS.Tap, "%+v", c)
	}
}
