package egress

import (
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// state says where an item is. Each item is in one place only.
type state uint8

const (
	stateParked  state = iota + 1 // waits for another item of its group, or for a copy's end
	stateReady                    // in its class's queue
	stateBackoff                  // waits for its retry time
	stateWire                     // a sender has it
	stateDone                     // ended; its record is not written yet
)

// micros is a time on the bus clock in microseconds: a third of a time.Time.
type micros int64

func toMicros(t time.Time) micros {
	if t.IsZero() {
		return 0
	}
	return micros(t.UnixMicro())
}

func (m micros) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(m))
}

// item is one order that the target is owed, without its body: what an order costs while it waits.
type item struct {
	accept      order.AcceptID
	id, key     order.ID
	hash        common.Hash
	signer      common.Address
	replacement order.UUID
	nonce       uint64
	sequence    uint64
	target      uint64 // block, zero: any
	text        string
	of          order.AcceptID

	// body is the whole order while the cache has room for it or a sender needs it.
	body *order.Order

	deadline, storedAt, sentAt, doneAt micros
	// retryAt is when an item in backoff is ready again.
	retryAt micros

	group  *group // nil without replacement key
	prev   *item  // in the ready queue
	next   *item
	copies []*item // those that wait for this one's end
	claim  *item   // the copy whose end this one waits for

	wakeAt  int32 // index in the timers, -1: none
	groupAt int32 // index in group.waiting, -1: none
	size    int32 // of the body
	rpcCode int32

	origin   uint16 // index into loop.origins
	attempts uint16 // requests written
	tries    uint16 // sends, unreachable ones included
	status   uint16

	method   order.Method
	kind     order.Kind
	priority order.Priority
	state    state
	outcome  ledger.Outcome

	// left is how many more requests may be written once one was lost.
	left uint8
	defaulted, repeat, ambiguous,
	claims bool // holds the claim on its id and key
}

// lostSends is how many requests may follow one that was written and never answered.
const lostSends = 2

func newItem(d order.Delivery, origin uint16) *item {
	o := d.Order
	return &item{
		accept: o.Accept, id: o.ID, key: o.Key, hash: o.Hash, signer: o.Signer,
		replacement: o.Replacement, nonce: o.Nonce, defaulted: o.NonceDefaulted,
		method: o.Method, kind: o.Kind, priority: o.Priority, origin: origin,
		sequence: d.Sequence, target: o.TargetBlock, storedAt: toMicros(d.StoredAt), deadline: toMicros(o.Deadline),
		size:  int32(min(max(d.Size, len(o.Body)), 1<<30)),
		state: stateParked, wakeAt: -1, groupAt: -1,
	}
}

// entry is the terminal record of an item that ended.
func (it *item) entry(origins []string) ledger.Entry {
	return ledger.Entry{
		Accept: it.accept, ID: it.id, Key: it.key, Hash: it.hash, Signer: it.signer,
		Replacement: it.replacement, Nonce: it.nonce, NonceDefaulted: it.defaulted,
		Method: it.method, Kind: it.kind, Priority: it.priority, Origin: origins[it.origin],
		Outcome: it.outcome, Of: it.of, Ambiguous: it.ambiguous, Repeat: it.repeat,
		Sequence: it.sequence, Attempts: it.attempts, Status: it.status, RPCCode: it.rpcCode,
		StoredAt: it.storedAt.time(), SentAt: it.sentAt.time(), DoneAt: it.doneAt.time(),
		Text: it.text,
	}
}

// wake is when the item needs the loop's attention: its retry time or its deadline.
func (it *item) wake() micros {
	if it.state == stateBackoff && it.retryAt < it.deadline {
		return it.retryAt
	}
	return it.deadline
}

// queue is a class's ready items, oldest first; when the target comes back from an outage it is
// taken from the other end.
type queue struct {
	first, last *item
	len         int
}

func (q *queue) pushLast(it *item) {
	it.prev, it.next = q.last, nil
	if q.last == nil {
		q.first = it
	} else {
		q.last.next = it
	}
	q.last = it
	q.len++
}

func (q *queue) pushFirst(it *item) {
	it.prev, it.next = nil, q.first
	if q.first == nil {
		q.last = it
	} else {
		q.first.prev = it
	}
	q.first = it
	q.len++
}

func (q *queue) remove(it *item) {
	if it.prev == nil {
		q.first = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		q.last = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.prev, it.next = nil, nil
	q.len--
}

// insertReach is how far insert looks for the place of an item that returns.
const insertReach = 64

// insert puts it where its sequence belongs, near enough: a new item is the last, one that returns
// was near one of the ends.
func (q *queue) insert(it *item) {
	at := q.last
	for range insertReach {
		if at == nil || at.sequence <= it.sequence {
			break
		}
		at = at.prev
	}
	if at == nil || at.sequence > it.sequence {
		q.pushFirst(it)
		return
	}
	if at == q.last {
		q.pushLast(it)
		return
	}
	it.prev, it.next = at, at.next
	at.next.prev = it
	at.next = it
	q.len++
}

func (m micros) duration() time.Duration { return time.Duration(m) * time.Microsecond }
