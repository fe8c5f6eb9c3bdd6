package rpc

import (
	"context"

	"millrace/internal/rpcapi"
)

// errand is a call on its way to a node, unless the cache has the answer.
type errand struct {
	door    *Door
	message *message
	call    rpcapi.Call
	fetch   func(context.Context) (*rpcapi.Answer, error) // ask
	waits   func()                                        // of message
}

func newErrand(d *Door) *errand {
	e := &errand{door: d}
	e.fetch = e.ask
	e.waits = func() { e.message.wait() }
	return e
}

// errand is one of m's calls; what it asks is still to be said. end ends it.
func (d *Door) errand(m *message) *errand {
	e := d.errands.Get().(*errand) //nolint:forcetypeassert // holds nothing else
	e.message = m
	e.call = rpcapi.Call{
		Class: m.client.Class, Client: m.client.id(), Received: m.received, RequestID: m.client.RequestID,
		Waits: e.waits,
	}
	return e
}

// ask has a node answer.
func (e *errand) ask(ctx context.Context) (*rpcapi.Answer, error) {
	e.message.wait()
	return e.door.call(ctx, &e.call)
}

// end lets another call use e. Nobody knows it any more: the ports have returned.
func (e *errand) end() {
	e.message, e.call = nil, rpcapi.Call{}
	e.door.errands.Put(e)
}
