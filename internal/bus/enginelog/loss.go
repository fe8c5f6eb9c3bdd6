package enginelog

import "millrace/subjects"

// Reason is why something could not be handed out.
type Reason uint8

// The reasons.
const (
	// LossRetention: the stream dropped it, by age or size, before it was read.
	LossRetention Reason = iota + 1
	// LossParts: not all parts of the record are in the stream.
	LossParts
	// LossDamaged: it can't be read as a record.
	LossDamaged
)

// String is the reason as a label.
func (r Reason) String() string {
	switch r {
	case LossRetention:
		return missingRetention
	case LossParts:
		return missingParts
	case LossDamaged:
		return missingDamaged
	}
	return "unknown"
}

// Loss is what a reader could not hand out: a stretch of the stream, and for a single record its id
// without try and index, if it has one.
type Loss struct {
	Reason   Reason
	From, To uint64 // sequences in ENGINE, both included
	ID       subjects.EngineMessage
}
