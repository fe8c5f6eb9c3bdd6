package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTableAlignsItsColumnsAndNoCellSteersTheTerminal(t *testing.T) {
	var b strings.Builder
	x := newTable(&b, "NAME", "ROWS")
	x.row("a\x1b[2J\tb\n", 12)
	x.row("c", 3)
	require.NoError(t, x.flush())
	require.Equal(t, "NAME      ROWS\na.[2J.b.  12\nc         3\n", b.String())
}

func TestTableWithoutHeadsBeginsWithItsRows(t *testing.T) {
	var b strings.Builder
	x := newTable(&b)
	x.row("path", "what")
	require.NoError(t, x.flush())
	require.Equal(t, "path  what\n", b.String())
}
