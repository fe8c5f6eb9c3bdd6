package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
)

func TestEngineReportCountsSamplesOfTheHeadState(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, "--engine.replay.head_state_every=20ms")
	b.slots(t, 10)
	b.together(t, b.clients...)
	// field is a column of the only secondary's line.
	field := func(column string) string {
		o := b.command(t, "engine", "report")
		require.Equal(t, exitOK, o.code, o.errors)
		lines := strings.Split(o.out, "\n")
		at := strings.Index(lines[0], column)
		require.Positive(t, at, lines[0])
		text, _, _ := strings.Cut(lines[1][at:], " ")
		return text
	}
	eventually(t, "samples are counted", func() bool { return field("HEAD OK") != "0" })
	require.Equal(t, "0", field("HEAD DIFFERS"))
	// Its database is damaged: the same hash stands for another state.
	b.clients[1].SetStateRoot(b.driver.Head().Hash, eltest.GenesisBlock.Hash)
	eventually(t, "differences are counted", func() bool { return field("HEAD DIFFERS") != "0" })
	o := b.command(t, "engine", "report")
	require.Contains(t, o.out, " critical head_state block ")
	require.Contains(t, o.out, "the same head with another stateRoot")
	require.Contains(t, o.out, "millrace replay engine --mode verbatim --seq ")
	require.Equal(t, exitOK, b.stop())
}
