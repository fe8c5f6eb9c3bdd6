package regions

import (
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// flightBuffer is how many chunks may be on their way in one connection, 32 kB or less each; when
// full, the sender waits.
const flightBuffer = 4096

var (
	_ toxics.Toxic = (*pace)(nil)
	_ toxics.Toxic = (*flight)(nil)
)

// pace lets a connection's bytes into a path: not while it is cut, and not faster than its bandwidth,
// which it shares with all others. It marks each chunk with the time when it has left.
type pace struct {
	path *path
	done <-chan struct{} // closed when the network ends
}

// Pipe runs for one connection.
func (t *pace) Pipe(stub *toxics.ToxicStub) {
	each(stub, func(c *stream.StreamChunk) {
		select {
		case <-t.path.gate():
		default:
			t.held()
			c.Timestamp = time.Now()
		}
		c.Timestamp = t.path.transmit(c.Timestamp, len(c.Data))
		wait(time.Until(c.Timestamp.Add(-backlog)), t.done)
	})
}

// held waits out every partition.
func (t *pace) held() {
	select {
	case <-t.path.gate():
	case <-t.done:
	}
}

// flight keeps each chunk for the delay after it left; chunks keep their order.
type flight struct {
	path *path
	done <-chan struct{}
}

// Pipe runs for one connection.
func (t *flight) Pipe(stub *toxics.ToxicStub) {
	each(stub, func(c *stream.StreamChunk) {
		due := c.Timestamp.Add(t.path.flight())
		wait(time.Until(due), t.done)
		c.Timestamp = due
	})
}

// each passes chunks on, each after do, until the connection ends. Nothing interrupts our toxics: a
// chain is never changed, only the path that it reads.
func each(stub *toxics.ToxicStub, do func(*stream.StreamChunk)) {
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			do(c)
			stub.Output <- c // who reads it reads to the end, see conduit
		}
	}
}

func wait(d time.Duration, done <-chan struct{}) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	}
}
