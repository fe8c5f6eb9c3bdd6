package loadtest

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUsageOfThisProcess(t *testing.T) {
	u, err := ReadUsage([]int{os.Getpid(), 1 << 30})
	require.NoError(t, err)
	require.Positive(t, u.RSS)
	require.GreaterOrEqual(t, u.PeakRSS, u.RSS)
}

func TestUsageCountsFromTheLastParenthesis(t *testing.T) {
	stat := "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20"
	u, err := parseUsage([]byte(stat), []byte("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n"))
	require.NoError(t, err)
	require.Equal(t, Usage{CPU: 3 * time.Second, RSS: 1 << 20, PeakRSS: 2 << 20, Major: 9}, u)
	_, err = parseUsage([]byte("42 (x) S 1"), nil)
	require.Error(t, err)
	_, err = parseUsage(nil, nil)
	require.Error(t, err)
}
