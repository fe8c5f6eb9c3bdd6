package engine

import (
	"time"

	"millrace/internal/engineapi/record"
)

// Recorder keeps what the door saw. Both methods return at once, whatever the store's state; they
// are safe for concurrent use. Request is called in the order of dispatch. The records and what they
// point to are the recorder's; the door does not touch them again.
type Recorder interface {
	Request(r *record.Request)
	Outcome(o *record.Outcome)
}

// Clock is the bus clock. Tokens are judged by this host's own clock, as any execution client does.
type Clock interface {
	Now() time.Time
}

// Ports are what the door needs from the rest of the system; all are required.
type Ports struct {
	Recorder Recorder
	Clock    Clock
	// Epoch is this door's, at least 1 and greater than that of any door before it.
	Epoch uint64
}
