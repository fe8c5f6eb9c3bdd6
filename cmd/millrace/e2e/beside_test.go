//go:build e2e && linux

package e2e

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
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

const (
	firstPort = 10_000
	ports     = 5_000
)

// nextPort counts the ports that were given away, from a random one on: another run may be on this machine.
var nextPort atomic.Uint32

// freeAddr is a loopback address that nothing listens on, and that no other test gets. Its port is none of those
// that the system gives away by itself, to listeners and connections: the port of a process that is down would be
// somebody else's when it comes back.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range ports {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+nextPort.Add(1)%ports)
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}
