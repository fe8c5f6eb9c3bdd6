package cache

import (
	"math"
	"time"

	"millrace/internal/rpcapi"
)

const (
	// overhead is what an entry weighs besides its bytes, about.
	overhead = 320
	// shareOfOne is the part of the room that one answer may take, as a divisor.
	shareOfOne = 16
)

// entry is an answer that is kept. Nobody changes it.
type entry struct {
	body   []byte // without its id
	idAt   int
	status int
	node   *rpcapi.Node
	height uint64
	// With a zero era it is true for ever, otherwise in that era and until then.
	era   era
	until time.Time
}

// era is what the chain says now: answers that depend on the head belong to one.
type era struct {
	head      [32]byte
	finalized uint64
}

func eraOf(h *rpcapi.Head) era { return era{head: h.Hash, finalized: h.Finalized} }

// known says that there is a head.
func (e era) known() bool { return e.head != [32]byte{} }

func (e *entry) trueIn(now era) bool {
	return !e.era.known() || (e.era == now && time.Now().Before(e.until))
}

func (e *entry) weight() uint32 { return uint32(min(len(e.body)+overhead, math.MaxUint32)) }

// newEntry copies an answer whose members are said.
func newEntry(a *rpcapi.Answer, said *rpcapi.Said) *entry {
	return &entry{
		body: said.WithID(a.Body, nil), idAt: said.IDAt, status: a.Status, node: a.Node, height: a.Height,
	}
}

// answer is the entry under an id.
func (e *entry) answer(id []byte) *rpcapi.Answer {
	return &rpcapi.Answer{Status: e.status, Body: e.under(id), Node: e.node, Height: e.height}
}

func (e *entry) under(id []byte) []byte {
	body := make([]byte, 0, len(e.body)+len(id))
	body = append(body, e.body[:e.idAt]...)
	body = append(body, id...)
	return append(body, e.body[e.idAt:]...)
}
