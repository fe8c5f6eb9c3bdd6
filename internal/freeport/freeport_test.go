package freeport

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddrsAreFreeAndOutsideOfWhatSystemsGiveAway(t *testing.T) {
	all, err := Addrs(t.Context(), 50)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, a := range all {
		require.False(t, seen[a], a)
		seen[a] = true
		l, err := net.Listen("tcp", a)
		require.NoError(t, err)
		defer l.Close()
		require.Less(t, l.Addr().(*net.TCPAddr).Port, 32768)
	}
}

func TestRowPassesWhatIsTaken(t *testing.T) {
	p, err := Row(t.Context(), 3, 2000)
	require.NoError(t, err)
	for _, taken := range []int{p + 4, p + 2007} { // in the way of the next two rows
		l, err := net.Listen("tcp", addr(taken))
		require.NoError(t, err)
		defer l.Close()
	}
	q, err := Row(t.Context(), 3, 2000)
	require.NoError(t, err)
	require.GreaterOrEqual(t, q, p+9)
}

func TestTheLastRowDoesNotLeaveTheRange(t *testing.T) {
	next.Store(ports - 2)
	p, err := Row(t.Context(), 3, 4000)
	require.NoError(t, err)
	require.LessOrEqual(t, p+4003, first+ports)
}
