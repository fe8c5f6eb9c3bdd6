package main

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"millrace/internal/ledger"
	"millrace/internal/ledger/index"
	"millrace/internal/order"
)

// The orders of one answer of the trace page.
const (
	traceLimit    = 20
	maxTraceLimit = 1000
)

// traceAnswer is the trace page.
type traceAnswer struct {
	Orders []tracedOrder `json:"orders"` // newest first
	More   bool          `json:"more"`   // there are older ones beyond the limit
	// Current: everything stored before the question was searched.
	Current bool `json:"current"`
}

// tracedOrder is the timeline of one acceptance. Times that are missing are not known, or not yet.
type tracedOrder struct {
	identity
	Transactions int `json:"transactions,omitempty"`

	ReceivedAt time.Time   `json:"received_at"`
	Deadline   time.Time   `json:"deadline,omitzero"`
	In         tracedPlace `json:"in"`
	DecidedAt  time.Time   `json:"decided_at,omitzero"`
	Validated  bool        `json:"validated"`
	Tries      int         `json:"tries,omitempty"` // deliveries to a worker
	OK         tracedPlace `json:"ok"`
	Ends       []tracedEnd `json:"ends"`
}

// tracedPlace is where and when a stream stored it.
type tracedPlace struct {
	Sequence uint64    `json:"sequence,omitempty"`
	StoredAt time.Time `json:"stored_at,omitzero"`
}

// tracedEnd is a terminal record.
type tracedEnd struct {
	Target     string    `json:"target"`
	Outcome    string    `json:"outcome"`
	Code       string    `json:"code,omitempty"`
	Of         string    `json:"of,omitempty"`
	Ambiguous  bool      `json:"ambiguous,omitempty"`
	Repeat     bool      `json:"repeat,omitempty"`
	Attempts   uint16    `json:"attempts"`
	Status     uint16    `json:"http_status,omitempty"`
	RPCCode    int32     `json:"rpc_code,omitempty"`
	SentAt     time.Time `json:"sent_at,omitzero"`
	DoneAt     time.Time `json:"done_at,omitzero"`
	RecordedAt time.Time `json:"recorded_at,omitzero"`
	Text       string    `json:"text,omitempty"`
}

func newTracedOrder(t *index.Timeline) tracedOrder {
	o := tracedOrder{
		identity: identityOf(&ledger.Entry{
			Accept: t.Accept, ID: t.ID, Hash: t.Hash, Signer: t.Signer, Method: t.Method, Kind: t.Kind, Priority: t.Priority,
			Origin: t.Origin, Replacement: t.Replacement, Nonce: t.Nonce,
		}),
		Transactions: t.Transactions,
		ReceivedAt:   t.ReceivedAt.UTC(), Deadline: utc(t.Deadline), In: tracedPlace{t.InSequence, utc(t.InStoredAt)},
		DecidedAt: utc(t.DecidedAt), Validated: t.Validated, Tries: t.Attempts, OK: tracedPlace{t.OKSequence, utc(t.OKStoredAt)},
		Ends: []tracedEnd{},
	}
	for i := range t.Ends {
		o.Ends = append(o.Ends, newTracedEnd(&t.Ends[i]))
	}
	return o
}

func newTracedEnd(e *index.End) tracedEnd {
	x := tracedEnd{
		Target: e.Target, Outcome: e.Outcome.String(), Ambiguous: e.Ambiguous, Repeat: e.Repeat, Attempts: e.Attempts,
		Status: e.Status, RPCCode: e.RPCCode, SentAt: utc(e.SentAt), DoneAt: utc(e.DoneAt), RecordedAt: utc(e.RecordedAt), Text: e.Text,
	}
	if e.Code != 0 {
		x.Code = e.Code.String()
	}
	if e.Of != (order.AcceptID{}) {
		x.Of = e.Of.String()
	}
	return x
}

// tracePage answers ?hash= (a hash, an order's id, an accept id or a replacement UUID) with the
// orders that it names, at most ?limit= of them. None is 404, no index here or any more 503.
func tracePage(t tracer, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := queryOf(r)
		limit := q.limit(traceLimit, maxTraceLimit)
		name, err := index.ParseQuery(q.text("hash"))
		if err == nil {
			err = q.err
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a, err := t.Lookup(r.Context(), name, limit, nil)
		switch {
		case errors.Is(err, index.ErrClosed):
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		case err != nil:
			log.LogAttrs(r.Context(), slog.LevelWarn, "order can't be traced", slog.Any("error", err))
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		case len(a.Orders) == 0:
			http.Error(w, unknownOrder(a.Current), http.StatusNotFound)
			return
		}
		answer := traceAnswer{More: a.More, Current: a.Current}
		for i := range a.Orders {
			answer.Orders = append(answer.Orders, newTracedOrder(&a.Orders[i]))
		}
		writeJSON(w, answer)
	})
}

func unknownOrder(current bool) string {
	if !current {
		return "no such order in the index, which is behind: ask again"
	}
	return "no such order in the index: it was never accepted, waits for a worker, or is older than trace.max_age"
}

func (p *process) tracePage() http.Handler {
	if p.index == nil {
		return noTracePage()
	}
	return tracePage(p.index, p.part("admin"))
}

// noTracePage answers in processes without an index.
func noTracePage() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "this process has no trace index: ask a node or an egress process with trace.enabled", http.StatusServiceUnavailable)
	})
}
