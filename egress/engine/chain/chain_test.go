package chain

import (
	"fmt"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

func start() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

// later is when every call without an outcome is decided.
func later() Time {
	return Time{Now: start().Add(time.Hour), Unknown: time.Minute, Vouched: 2 * time.Second}
}

type block struct {
	hash, parent common.Hash
	number       uint64
}

func genesis() block { return block{hash: common.Hash{1}} }

// tape is a record under construction.
type tape struct {
	x  *Index
	at uint64
	n  uint64
}

func newTape(limit int) *tape { return &tape{x: New(limit)} }

// add records a call; a nil result leaves it without an outcome.
func (t *tape) add(r *record.Request, result *engineapi.Result) uint64 {
	t.n++
	if r.ID == (record.ID{}) {
		r.ID = record.ID{Epoch: 1, Sequence: t.n}
	}
	r.Received, r.Raw = start(), []byte("{}")
	t.at++
	at := t.at
	t.x.Add(record.Entry{Stream: at, Request: r})
	if result != nil {
		t.at++
		t.x.Add(record.Entry{Stream: t.at, Outcome: &record.Outcome{ID: r.ID, HTTPStatus: 200, Result: *result}})
	}
	return at
}

func valid() *engineapi.Result {
	return &engineapi.Result{HTTPStatus: 200, Status: engineapi.StatusValid}
}

func (t *tape) payload(b block, result *engineapi.Result) uint64 {
	return t.add(&record.Request{
		Method: "engine_newPayloadV4", Class: engineapi.ClassReplay, Verified: true,
		Payload: &engineapi.Payload{Hash: b.hash, Parent: b.parent, Number: b.number},
	}, result)
}

func (t *tape) choose(h common.Hash, result *engineapi.Result) uint64 {
	return t.add(&record.Request{
		Method: "engine_forkchoiceUpdatedV3", Class: engineapi.ClassForkchoice, Verified: true,
		Forkchoice: &engineapi.Forkchoice{Head: h, Arity: 2},
	}, result)
}

// forest is a random tree of blocks and what a consensus client called about it.
type forest struct {
	*tape
	blocks []block
	by     map[common.Hash]block
	head   block
	salt   uint64
}

func newForest() *forest {
	f := &forest{tape: newTape(0), blocks: []block{genesis()}, head: genesis()}
	f.by = map[common.Hash]block{genesis().hash: genesis()}
	return f
}

func (f *forest) child(parent block) block {
	f.salt++
	b := block{parent: parent.hash, number: parent.number + 1}
	copy(b.hash[:], fmt.Sprintf("block %d", f.salt))
	f.blocks, f.by[b.hash] = append(f.blocks, b), b
	return b
}

// slot makes one slot of a network: a block, a reorganisation, an orphan, a repeat, or payloads
// without a forkchoice, as when the consensus client catches up itself.
func (f *forest) slot(t *rapid.T) {
	switch rapid.IntRange(0, 9).Draw(t, "slot") {
	case 0:
		parent := f.head
		for range rapid.IntRange(1, 4).Draw(t, "depth") {
			if p, ok := f.by[parent.parent]; ok {
				parent = p
			}
		}
		f.make(f.child(parent))
	case 1:
		f.payload(f.child(f.head), valid())
	case 2:
		f.payload(f.head, valid())
		f.choose(f.head.hash, valid())
	case 3:
		for range rapid.IntRange(30, 70).Draw(t, "payloads") {
			f.head = f.child(f.head)
			f.payload(f.head, valid())
		}
		f.choose(f.head.hash, valid())
	default:
		f.make(f.child(f.head))
	}
}

func (f *forest) make(b block) {
	f.head = b
	f.payload(b, valid())
	f.choose(b.hash, valid())
}

// client keeps to what was observed of geth, and checks what it is sent.
type client struct {
	t     *rapid.T
	f     *forest
	s     *Session
	has   map[common.Hash]bool
	head  block
	last  record.ID
	above map[common.Hash]int
}

func newClient(t *rapid.T, f *forest) *client {
	c := &client{t: t, f: f, has: map[common.Hash]bool{genesis().hash: true}, head: genesis()}
	c.probe()
	return c
}

// probe begins a session, as after an outage.
func (c *client) probe() {
	c.s = NewSession(c.head.hash, c.head.number, c.last)
	c.s.Adopt(c.f.x, later())
	c.above = map[common.Hash]int{}
}

// take executes steps until stop of them are done; negative is all.
func (c *client) take(steps []Step, stop int) {
	for i, step := range steps {
		if i == stop {
			return
		}
		if step.Kind == Payload {
			p := step.Call.Payload
			require.True(c.t, c.has[p.Parent], "I4: payload %d before its parent", p.Number)
			c.above[p.Hash] = c.above[p.Parent] + 1
			require.LessOrEqual(c.t, c.above[p.Hash], DefaultCheckpoint, "I6")
			c.has[p.Hash] = true
			c.s.Took(p)
			continue
		}
		require.True(c.t, c.has[step.Head], "I5: forkchoice before its payload")
		require.True(c.t, c.s.Holds(step.Head), "I5: in this session")
		id := c.s.Floor
		if !step.Own() {
			id = step.Call.ID
			require.GreaterOrEqual(c.t, id.Compare(c.last), 0, "I3: forkchoice out of order")
			c.last = id
		}
		c.head = c.f.by[step.Head]
		require.Equal(c.t, c.head.number, step.Number)
		clear(c.above)
		c.s.Moved(step.Head, step.Number, id)
	}
}

// ancestor says whether a is b or below it.
func (f *forest) ancestor(a, b block) bool {
	for b.number > a.number {
		b = f.by[b.parent]
	}
	return a == b
}

func TestI3I4I5I6I7PlansOverRandomTreesKeepTheirRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newForest()
		c := newClient(t, f)
		for range rapid.IntRange(1, 12).Draw(t, "outages") {
			for range rapid.IntRange(1, 30).Draw(t, "slots") {
				f.slot(t)
			}
			c.probe()
			target, ok := f.x.Target(later())
			if !ok {
				continue
			}
			steps, err := f.x.Plan(c.s, target, DefaultCheckpoint, later())
			require.NoError(t, err)
			require.LessOrEqual(t, len(steps), f.x.Len()+len(steps)/DefaultCheckpoint+1)
			before := c.head
			stop := -1
			if rapid.Bool().Draw(t, "cut") {
				stop = rapid.IntRange(0, len(steps)).Draw(t, "stop")
			}
			c.take(steps, stop)
			if f.ancestor(before, f.head) {
				require.GreaterOrEqual(t, c.head.number, before.number, "I7")
			}
			if stop < 0 {
				require.Equal(t, f.head, c.head)
			}
		}
	})
}

func TestI3I4I5I6LiveStepsOverRandomTreesKeepTheirRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newForest()
		c := newClient(t, f)
		pos := uint64(0)
		for range rapid.IntRange(1, 40).Draw(t, "slots") {
			for range rapid.IntRange(1, 3).Draw(t, "burst") {
				f.slot(t)
			}
			for {
				call, standing, ok := f.x.Next(pos, later())
				if !ok {
					break
				}
				require.Equal(t, Eligible, standing)
				steps, _, err := f.x.Live(c.s, call, DefaultCheckpoint, later())
				require.NoError(t, err)
				c.take(steps, -1)
				pos = call.At
			}
		}
		if _, ok := f.x.Target(later()); ok {
			target, _ := f.x.Target(later())
			require.Equal(t, target.Forkchoice.Head, c.head.hash)
		}
	})
}

func TestAForkchoiceBehindARefusedBlockIsBlocked(t *testing.T) {
	f := newForest()
	f.make(f.child(f.head))
	s := NewSession(genesis().hash, 0, record.ID{})
	s.Invalid(f.head.hash)
	f.make(f.child(f.head))
	target, _ := f.x.Target(later())
	_, err := f.x.Plan(s, target, 32, later())
	blocked := (*BlockedError)(nil)
	require.ErrorAs(t, err, &blocked)
	require.ErrorContains(t, err, "refused block")
	_, refused := f.x.Blocked(s, f.head.hash, later())
	require.True(t, refused)
}

func TestMethodsInUseAndCapabilities(t *testing.T) {
	f := newForest()
	f.make(f.child(f.head))
	at := f.add(&record.Request{
		Method: engineapi.MethodExchangeCapabilities, Class: engineapi.ClassLatest, Verified: true,
	}, valid())
	require.Equal(t, []string{"engine_newPayloadV4", "engine_forkchoiceUpdatedV3"}, f.x.Methods(later()))
	c, ok := f.x.Capabilities(later())
	require.True(t, ok)
	require.Equal(t, at, c.At)
	for version, method := range map[int]string{0: "1", 1: "1", 2: "2", 3: "3", 4: "3", 5: "4", 6: "5"} {
		require.Equal(t, "engine_forkchoiceUpdatedV"+method, formMethod(version))
	}
	require.True(t, f.x.Known(f.head.hash))
	n, ok := f.x.Number(f.head.hash)
	require.True(t, ok)
	require.Equal(t, uint64(1), n)
}

func TestASessionForgetsItsOldestBlocks(t *testing.T) {
	s := NewSession(common.Hash{}, 0, record.ID{})
	for i := range maxKnown + 10 {
		var h common.Hash
		copy(h[:], fmt.Sprint("x", i))
		s.Valid(h)
	}
	require.LessOrEqual(t, len(s.known), maxKnown)
	require.Len(t, s.order, len(s.known))
}
