package order

import "time"

// Log names one of the logs that the pipeline leaves behind: what passed validation, by class, and
// the terminal records.
type Log uint8

// The logs. Those of validated orders have the numbers of their classes.
const (
	LogHigh     = Log(PriorityHigh)
	LogMedium   = Log(PriorityMedium)
	LogLow      = Log(PriorityLow)
	LogRejected = LogLow + 1 // ends before delivery
	LogDone     = LogLow + 2 // ends at the targets
)

// Logs lists the logs in the order in which a reader should take them: an order before its end.
var Logs = [...]Log{LogHigh, LogMedium, LogLow, LogRejected, LogDone} //nolint:gochecknoglobals // immutable

var logNames = [...]string{"", "high", "medium", "low", "rejected", "done"}

// String is the log as a metric label.
func (l Log) String() string { return nameOf(logNames[:], uint8(l)) }

// Place is how far a log has been read. The zero Place is its beginning.
type Place struct {
	// Epoch tells lives of a log apart: when it was made, in nanoseconds since 1970.
	Epoch int64
	// Sequence is the last message that was read.
	Sequence uint64
}

// Logged is one message of a log: a validated order, or a batch of terminal records. One that has
// neither only takes up its sequence.
type Logged struct {
	// Order is a validated order without its body, with its trail if it has one.
	Order *Order
	// Target is whose records Batch holds; ledger.AnyTarget: those of orders that ended before
	// delivery, where Trail is set if there is one.
	Target string
	Batch  []byte
	Trail  func(AcceptID) (Trail, bool)

	Sequence uint64
	StoredAt time.Time
}
