package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/ledger"
	"millrace/internal/ledger/index"
	"millrace/internal/lifecycle"
	"millrace/internal/order"
)

// tracer looks orders up.
type tracer interface {
	Lookup(ctx context.Context, q index.Query, limit int, want func(*index.Timeline) bool) (index.Answer, error)
}

// drainTrace is what writing the last entries of the trace index may take.
const drainTrace = 10 * time.Second

// buildTrace makes the trace index, beside the delivery, which writes most of what is in it.
func (p *process) buildTrace() error {
	if !p.cfg.Trace.Enabled || !p.roles.has(roleEgress) {
		return nil
	}
	cfg := p.cfg.Trace
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(p.cfg.dataDir(), "trace")
	}
	var err error
	p.index, err = index.New(cfg, index.Ports{
		Log: func(l order.Log) index.Log { return p.bus.Follow(l) },
		Now: p.bus.Now,
		Full: func() bool {
			_, closed := p.bus.DoorClosed()
			return closed
		},
	}, p.part("trace"), p.reg)
	if err != nil {
		return usage(err)
	}
	return nil
}

// traceComponents are the index, which outlives what it follows, and what answers from it.
func (p *process) traceComponents() []lifecycle.Component {
	if p.index == nil {
		return nil
	}
	return []lifecycle.Component{
		{Name: "trace", Run: p.index.Run, Drain: drainTrace},
		{Name: "status", Run: func(ctx context.Context) error { return p.bus.AnswerStatus(ctx, known{p.index}.answer) }},
	}
}

// statusLimit bounds the orders of one answer to a sender.
const statusLimit = 10

// sentOrder is an order as its sender sees it: what became of it, but nothing of whom it went to.
type sentOrder struct {
	ID           string       `json:"id"`
	Hash         common.Hash  `json:"hash"`
	Method       string       `json:"method"`
	Replacement  string       `json:"replacementUuid,omitempty"`
	Nonce        uint64       `json:"replacementNonce,omitempty"`
	Status       string       `json:"status"` // pending, or an outcome
	Reason       string       `json:"reason,omitempty"`
	ReceivedAt   time.Time    `json:"receivedAt"`
	StoredAt     time.Time    `json:"storedAt,omitzero"`
	ValidatedAt  time.Time    `json:"validatedAt,omitzero"`
	Deadline     time.Time    `json:"deadline,omitzero"`
	Destinations []sentResult `json:"destinations,omitempty"`
}

// sentResult is how an order ended at one builder.
type sentResult struct {
	Outcome  string    `json:"outcome"`
	RPCCode  int32     `json:"rpcCode,omitempty"`
	Attempts uint16    `json:"attempts"`
	SentAt   time.Time `json:"sentAt,omitzero"`
	DoneAt   time.Time `json:"doneAt,omitzero"`
}

func newSentOrder(t *index.Timeline) sentOrder {
	o := sentOrder{
		ID: "0x" + t.ID.String(), Hash: t.Hash, Method: t.Method.String(), Status: "pending", ReceivedAt: t.ReceivedAt.UTC(),
		StoredAt: utc(t.InStoredAt), ValidatedAt: utc(t.DecidedAt), Deadline: utc(t.Deadline),
	}
	if !t.Replacement.IsZero() {
		o.Replacement, o.Nonce = t.Replacement.String(), t.Nonce
	}
	for i := range t.Ends {
		e := &t.Ends[i]
		if o.Status == "pending" || e.Outcome == ledger.Delivered {
			o.Status = e.Outcome.String()
		}
		if e.Target == ledger.AnyTarget {
			o.Reason = e.Text
			continue
		}
		o.Destinations = append(o.Destinations, sentResult{
			Outcome: e.Outcome.String(), RPCCode: e.RPCCode, Attempts: e.Attempts, SentAt: utc(e.SentAt), DoneAt: utc(e.DoneAt),
		})
	}
	return o
}
