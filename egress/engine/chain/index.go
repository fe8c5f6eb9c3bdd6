package chain

import (
	"iter"
	"math"
	"slices"
	"sort"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

// DefaultLimit is how many calls an index holds unless told otherwise: a day of mainnet has about
// 30,000.
const DefaultLimit = 1 << 16

// Index is the recorded calls as a tree of blocks. It is not safe for concurrent use.
type Index struct {
	// Also, if set, keeps calls of further methods for Next.
	Also func(method string) bool

	limit       int
	calls       []*Call // by At
	byID        map[record.ID]*Call
	blocks      map[common.Hash][]*Call // newPayload calls by block
	heads       map[common.Hash][]*Call // forkchoice calls by head, by ID
	forkchoices []*Call                 // by ID
	epoch       uint64                  // the newest door's
	newest      record.ID
	gone        uint64 // position of the newest call that left
}

// New is an empty index of at most limit calls; zero means DefaultLimit.
func New(limit int) *Index {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &Index{
		limit: limit, byID: map[record.ID]*Call{},
		blocks: map[common.Hash][]*Call{}, heads: map[common.Hash][]*Call{},
	}
}

// Add takes the log's next entry. A call that was stored twice counts once, where it was first; what
// no replay can use (reads, calls that could not be read) is passed over.
func (x *Index) Add(e record.Entry) {
	x.epoch = max(x.epoch, e.ID().Epoch)
	switch {
	case e.Outcome != nil:
		if c := x.byID[e.Outcome.ID]; c != nil && c.Answer == nil {
			c.Answer = e.Outcome
		}
	case e.Request != nil:
		x.request(e.Stream, e.Request)
	}
}

func (x *Index) request(at uint64, r *record.Request) {
	if r.ID.Compare(x.newest) > 0 {
		x.newest = r.ID
	}
	useful := r.Class == engineapi.ClassPayload || r.Class == engineapi.ClassLatest ||
		r.Class == engineapi.ClassReplay && r.Payload != nil ||
		r.Class == engineapi.ClassForkchoice && r.Forkchoice != nil ||
		r.Class == engineapi.ClassRead && x.Also != nil && x.Also(r.Method)
	if !useful || x.byID[r.ID] != nil || len(r.Raw) == 0 {
		return
	}
	c := &Call{
		At: at, ID: r.ID, Class: r.Class, Method: r.Method, Received: r.Received, Verified: r.Verified,
	}
	x.byID[r.ID] = c
	x.calls = append(x.calls, c)
	switch {
	case r.Payload != nil:
		c.Payload = *r.Payload
		x.blocks[c.Payload.Hash] = append(x.blocks[c.Payload.Hash], c)
	case r.Forkchoice != nil:
		c.Forkchoice = *r.Forkchoice
		x.heads[c.Forkchoice.Head] = insert(x.heads[c.Forkchoice.Head], c)
		x.forkchoices = insert(x.forkchoices, c)
	}
	if len(x.calls) > x.limit {
		x.drop(len(x.calls) - x.limit)
	}
}

// insert keeps a list in the order of dispatch; nearly always c is the last.
func insert(list []*Call, c *Call) []*Call {
	i := len(list)
	for i > 0 && list[i-1].ID.Compare(c.ID) > 0 {
		i--
	}
	return slices.Insert(list, i, c)
}

// Trim forgets the calls before position first: their bodies left the log.
func (x *Index) Trim(first uint64) {
	x.drop(sort.Search(len(x.calls), func(i int) bool { return x.calls[i].At >= first }))
}

func (x *Index) drop(n int) {
	if n == 0 {
		return
	}
	for _, c := range x.calls[:n] {
		x.gone = c.At
		x.unlink(c)
	}
	x.calls = slices.Delete(x.calls, 0, n)
}

// Forget leaves out the call at a position, whose body the log lost.
func (x *Index) Forget(at uint64) {
	i := x.behind(at) - 1
	if i < 0 || x.calls[i].At != at {
		return
	}
	x.unlink(x.calls[i])
	x.calls = slices.Delete(x.calls, i, i+1)
}

func (x *Index) unlink(c *Call) {
	delete(x.byID, c.ID)
	switch c.Class {
	case engineapi.ClassReplay:
		remove(x.blocks, c.Payload.Hash, c)
	case engineapi.ClassForkchoice:
		remove(x.heads, c.Forkchoice.Head, c)
		i := slices.Index(x.forkchoices, c)
		x.forkchoices = slices.Delete(x.forkchoices, i, i+1)
	default:
	}
}

func remove(m map[common.Hash][]*Call, key common.Hash, c *Call) {
	rest := slices.DeleteFunc(m[key], func(o *Call) bool { return o == c })
	if len(rest) == 0 {
		delete(m, key)
		return
	}
	m[key] = rest
}

// Len is the number of calls.
func (x *Index) Len() int { return len(x.calls) }

// Newest is the id of the call that was dispatched last.
func (x *Index) Newest() record.ID { return x.newest }

// Gone is the position of the newest call that left the index; zero: none did.
func (x *Index) Gone() uint64 { return x.gone }

// Block is the first eligible newPayload call with the block.
func (x *Index) Block(h common.Hash, t Time) (Call, bool) {
	for _, c := range x.blocks[h] {
		if c.standing(t, x.epoch) == Eligible {
			return *c, true
		}
	}
	return Call{}, false
}

// Known says whether the record has the block, eligible or not.
func (x *Index) Known(h common.Hash) bool { return len(x.blocks[h]) > 0 }

// Target is the last eligible forkchoice that the primary did not refuse: where every client has to
// get to.
func (x *Index) Target(t Time) (Call, bool) {
	for _, c := range slices.Backward(x.forkchoices) {
		if c.standing(t, x.epoch) == Eligible && !c.refusedByPrimary() {
			return *c, true
		}
	}
	return Call{}, false
}

// Next is the first call behind position at, and its standing; ok is false at the end.
func (x *Index) Next(at uint64, t Time) (c Call, s Standing, ok bool) {
	i := x.behind(at)
	if i == len(x.calls) {
		return Call{}, 0, false
	}
	return *x.calls[i], x.calls[i].standing(t, x.epoch), true
}

// Call is the call of an id.
func (x *Index) Call(id record.ID) (Call, bool) {
	if c := x.byID[id]; c != nil {
		return *c, true
	}
	return Call{}, false
}

// Number is a block's number, if the record has the block.
func (x *Index) Number(h common.Hash) (uint64, bool) {
	if b := x.blocks[h]; len(b) > 0 {
		return b[0].Payload.Number, true
	}
	return 0, false
}

// recent is how many calls say which methods are in use.
const recent = 64

// Methods are the methods of the last payloads and forkchoices, as they are replayed.
func (x *Index) Methods(t Time) (methods []string) {
	for _, c := range x.calls[max(len(x.calls)-recent, 0):] {
		replayed := c.Class == engineapi.ClassReplay || c.Class == engineapi.ClassForkchoice
		method := engineapi.Plain(c.Method)
		if replayed && c.standing(t, x.epoch) == Eligible && !c.rejectedByPrimary() && !slices.Contains(methods, method) {
			methods = append(methods, method)
		}
	}
	return methods
}

// Underway says whether the primary may still be at work on the forkchoice c or on a later call.
func (x *Index) Underway(c Call, t Time) bool {
	for _, o := range slices.Backward(x.calls) {
		busy := o.Class == engineapi.ClassReplay || o.Class == engineapi.ClassForkchoice
		if busy && o.Answer == nil && o.ID.Compare(c.ID) >= 0 && o.ID.Epoch == x.epoch && t.Now.Sub(o.Received) < t.Unknown {
			return true
		}
	}
	return false
}

// Capabilities is the last eligible exchange of capabilities.
func (x *Index) Capabilities(t Time) (Call, bool) {
	for _, c := range slices.Backward(x.calls) {
		if c.Class == engineapi.ClassLatest && c.Method == engineapi.MethodExchangeCapabilities &&
			c.standing(t, x.epoch) == Eligible {
			return *c, true
		}
	}
	return Call{}, false
}

// Behind counts the payloads between position at and the target, which a plan may leave out; and is
// the first call behind at.
func (x *Index) Behind(at uint64, t Time) (payloads int, oldest Call, ok bool) {
	target, found := x.Target(t)
	for c := range x.Between(at, math.MaxUint64) {
		if !ok {
			oldest, ok = *c, true
		}
		if !found || c.At > target.At {
			break
		}
		if c.Class == engineapi.ClassReplay {
			payloads++
		}
	}
	return payloads, oldest, ok
}

// Between is the payloads and forkchoices behind position after, up to position to.
func (x *Index) Between(after, to uint64) iter.Seq[*Call] {
	return func(yield func(*Call) bool) {
		for _, c := range x.calls[x.behind(after):] {
			if c.At > to {
				return
			}
			if (c.Class == engineapi.ClassReplay || c.Class == engineapi.ClassForkchoice) && !yield(c) {
				return
			}
		}
	}
}

func (x *Index) behind(at uint64) int {
	return sort.Search(len(x.calls), func(i int) bool { return x.calls[i].At > at })
}

// superseded says whether another eligible forkchoice follows c with no newPayload between them.
func (x *Index) superseded(c *Call, t Time) bool {
	for _, next := range x.calls[x.behind(c.At):] {
		switch next.Class {
		case engineapi.ClassForkchoice:
			return next.ID.Compare(c.ID) > 0 && next.standing(t, x.epoch) == Eligible && !next.refusedByPrimary()
		case engineapi.ClassReplay:
			return false
		default:
		}
	}
	return false
}

// naming is the last eligible forkchoice for the head that was dispatched after low and before high.
func (x *Index) naming(head common.Hash, low, high record.ID, t Time) (Call, bool) {
	for _, c := range slices.Backward(x.heads[head]) {
		if c.ID.Compare(high) < 0 && c.ID.Compare(low) > 0 && c.standing(t, x.epoch) == Eligible {
			return *c, true
		}
	}
	return Call{}, false
}
