//go:build e2e && linux

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/freeport"
)

// beside runs a test beside others that say so, after all that do not. It is for those that wait more than they
// compute, and that hold however late a process gets a processor. A test that compares or bounds latencies or
// rates, measures a capacity or keeps the processors busy does without: it has the machine to itself. In a soak
// every test has, so that each figure is that of one test.
func beside(t *testing.T) {
	t.Helper()
	if !soak() {
		t.Parallel()
	}
}

// modest is the rate of a load that is beside others: a few of them leave a small machine room, and a test that
// kills learns as much from it.
func modest(rate float64) float64 {
	if soak() {
		return rate
	}
	return min(rate, 150)
}

// freeAddr is a loopback address that nothing listens on, and that no other test gets.
func freeAddr(t *testing.T) string {
	t.Helper()
	all, err := freeport.Addrs(t.Context(), 1)
	require.NoError(t, err)
	return all[0]
}
