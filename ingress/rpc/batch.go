package rpc

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/jsonrpc"
	"millrace/internal/rpcapi"
)

// errNoJSON is an answer of a node that would spoil those beside it.
var errNoJSON = &refusal{reason: rpcapi.ReasonNodeError, code: jsonrpc.CodeInternal, text: textInternal, status: http.StatusBadGateway}

// batch has all calls of a batch answered and joins the answers in the order of the calls.
func (d *Door) batch(ctx context.Context, m *message) []byte {
	m.outcomes = append(m.outcomes, make([]outcome, len(m.calls))...)
	m.wait()
	d.runAll(ctx, m)
	out := append(m.out, '[')
	for i := range m.calls {
		c, o := &m.calls[i], &m.outcomes[i]
		m.merge(o)
		if o.err == nil && c.Request.ID != nil && !jsontext.Value(o.body).IsValid(jsontext.AllowDuplicateNames(true)) {
			o.err = errNoJSON
		}
		f := m.note(o.err)
		if c.Request.ID == nil && c.Err == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		if o.err != nil {
			out = appendFailure(out, c.Request.ID, &f, o.err)
		} else {
			out = append(out, bytes.TrimSpace(o.body)...)
		}
	}
	m.out = out
	if len(out) == 1 {
		return nil
	}
	m.out = append(m.out, ']')
	return m.out
}

// runAll has at most BatchParallel calls under way, begun in their order.
func (d *Door) runAll(ctx context.Context, m *message) {
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(m.calls) {
				return
			}
			m.outcomes[i] = d.one(ctx, m, &m.calls[i], m.calls[i].Request.Raw)
		}
	}
	var wg sync.WaitGroup
	for range min(m.policy.BatchParallel, len(m.calls)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// merge keeps of all answers the most tries and the lowest height.
func (m *message) merge(o *outcome) {
	if a := o.answer; a != nil {
		m.tries = max(m.tries, a.Tries)
		if m.height == 0 || a.Height != 0 && a.Height < m.height {
			m.height = a.Height
		}
	}
}
