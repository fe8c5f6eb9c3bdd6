package egress

import (
	"fmt"

	"millrace/internal/ledger"
)

// mined reports whether a target block is there already; a sender may ask, too.
func (l *loop) mined(target uint64) bool { return target > 0 && target <= l.block() }

func (l *loop) block() uint64 {
	if l.chain == nil {
		return 0
	}
	return l.chain.Block()
}

// follow ends what waits for a block that has come since. One sweep per block is cheaper than a second
// timer for each order.
func (l *loop) follow(now micros) {
	head := l.block()
	if head <= l.head {
		return
	}
	l.head = head
	for _, it := range l.pending {
		if it.state != stateDone && it.state != stateWire && l.mined(it.target) {
			l.miss(it, now)
		}
	}
}

// miss ends it because its target block is past.
func (l *loop) miss(it *item, now micros) {
	if l.foretold(it, now) {
		return
	}
	it.text = fmt.Sprintf("target block %d is past", it.target)
	l.end(it, ledger.Expired)
}
