package engine

import (
	"context"
	"time"

	"millrace/internal/engineapi/record"
)

// Clock is the bus clock: ages of recorded calls are judged on it.
type Clock interface {
	Now() time.Time
}

// Log is the record of the consensus client's calls.
type Log interface {
	// Read hands every entry from position from up to the newest at the time of the call to f, in order;
	// an error of f ends it and is returned. An entry's position is one from which Read yields that
	// entry first.
	Read(ctx context.Context, from uint64, f func(record.Entry) error) error
	// Follow is Read that goes on with what is stored later, until ctx ends or the log fails.
	Follow(ctx context.Context, from uint64, f func(record.Entry) error) error
	// First is the oldest position that the log still holds, one behind the newest if it holds none.
	First(ctx context.Context) (uint64, error)
	// Last is the newest position, 0 if there never was one. Below what was read before it says that
	// the log began anew.
	Last(ctx context.Context) (uint64, error)
}

// Cursors keep each client's position between processes. They tell lag, not where to resume.
type Cursors interface {
	// Load is the saved position, 0 if there is none.
	Load(ctx context.Context, target string) (uint64, error)
	Save(ctx context.Context, target string, at uint64) error
}

// Modes are the operators' choices.
type Modes interface {
	// Watch calls f with the target's mode, by name, now and at each change, until ctx ends. An empty name
	// is the configured mode.
	Watch(ctx context.Context, target string, f func(mode string)) error
}

// Divergences keep the evidence of what a secondary answered otherwise.
type Divergences interface {
	Publish(ctx context.Context, target string, d Divergence) error
}

// Caller makes one call to one client. It sends one request and returns the whole answer; date is
// the answer's Date header, zero without one. An error means that there was no answer: ErrOvertaken,
// ErrNoToken, or anything else for an unreachable client. It must return soon after ctx ends.
type Caller interface {
	Call(ctx context.Context, body []byte) (httpStatus int, answer []byte, date time.Time, err error)
}

// Asker is what a Caller may be besides: questions (eth_…, exchangeCapabilities, getClientVersion) then go
// this way, which no live call has to overtake because they move nothing. It is as Call otherwise.
type Asker interface {
	Ask(ctx context.Context, body []byte) (httpStatus int, answer []byte, date time.Time, err error)
}

// Decider is what the primary's Caller is besides.
type Decider interface {
	// Decide begins a decision: calls that follow are overtaken by every live call dispatched from now
	// on. It is the id of the newest live call dispatched so far, zero for none; the decision waits until
	// the record has it.
	Decide() record.ID
}

// Ports join the replayers to the bus. Clock and Log are needed, the others may be nil.
type Ports struct {
	Clock       Clock
	Cursors     Cursors
	Modes       Modes
	Divergences Divergences
	// Chain, if any, is whose chain the clients must be on.
	Chain Chain
	// Primary, if any, is asked for blocks that the record lost. It needs no Decide: it only reads.
	Primary Caller
}

// Chain knows which chain the primary is on.
type Chain interface {
	// Identity is the primary's; ok is false while it is not known.
	Identity(ctx context.Context) (id Identity, ok bool)
}
