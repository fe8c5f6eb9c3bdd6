package signers

import (
	"sync"
	"sync/atomic"
	"time"
)

// maxOrigins bounds the process lives that are told apart. When it is full, the one that was silent
// longest is forgotten; those in quarantine never are, and when they fill it, no new one is heard.
const maxOrigins = 256

// origin is another process, as far as its batches tell.
type origin struct {
	id          originID
	quarantined atomic.Bool // set once, read on every hit on its entries

	sequence uint64    // last accepted; under origins.mu
	heard    time.Time // under origins.mu
}

// origins is who told us something.
type origins struct {
	mu   sync.Mutex
	byID map[originID]*origin
}

// admit decides about one genuine batch: who sent it, and how many batches of that origin were
// missed before it. A nil origin means that the batch is refused, for the reason given.
func (o *origins) admit(id originID, sequence uint64, now time.Time) (from *origin, missed uint64, refused result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	from = o.byID[id]
	if from == nil {
		if len(o.byID) >= maxOrigins && !o.forgetOne() {
			return nil, 0, resultQuarantined
		}
		from = &origin{id: id, sequence: sequence - 1}
		o.byID[id] = from
	}
	if from.quarantined.Load() {
		return nil, 0, resultQuarantined
	}
	if sequence <= from.sequence {
		return nil, 0, resultReplayed
	}
	missed = sequence - from.sequence - 1
	from.sequence, from.heard = sequence, now
	return from, missed, resultAccepted
}

// forgetOne makes room; false: all are in quarantine.
func (o *origins) forgetOne() bool {
	var silent *origin
	for _, c := range o.byID {
		if !c.quarantined.Load() && (silent == nil || c.heard.Before(silent.heard)) {
			silent = c
		}
	}
	if silent == nil {
		return false
	}
	delete(o.byID, silent.id)
	return true
}

// quarantine refuses all that from tells; false when it was refused already. An origin that was
// forgotten in the meantime is put back, so that it stays refused.
func (o *origins) quarantine(from *origin) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.byID[from.id] = from
	return from.quarantined.CompareAndSwap(false, true)
}
