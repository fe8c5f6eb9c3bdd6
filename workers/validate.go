package workers

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

// bodyRoom is what the builder-ready form usually adds to the sender's bytes.
const bodyRoom = 512

// textIdentity is the reason for an order whose header does not fit its bytes, a bug of a door.
const textIdentity = "stored identity does not match the order"

// validate decides about o: the order as it goes to OK, or a *order.Reason. check is called for each
// transaction, between between two of them.
func (w *Worker) validate(ctx context.Context, o *order.Order, check checkFunc, between func()) (*order.Order, error) {
	sub := o.Reading // this process's own
	if sub == nil {
		var err error
		if sub, err = w.decode(ctx, o); err != nil {
			return nil, err
		}
	}
	w.metrics.txs.Observe(float64(len(sub.Txs)))
	for i, raw := range sub.Txs {
		if i > 0 {
			between()
		}
		hash, err := check(raw, sub.Kind)
		mark(o.Trail, sub, raw, hash, err)
		if err != nil {
			return nil, inTx(err, sub, i)
		}
	}
	if o.Reading == nil {
		if reason := w.identify(ctx, o, sub); reason != nil {
			return nil, reason
		}
	}
	body, err := sub.AppendBuilderBody(make([]byte, 0, len(o.Body)+bodyRoom), o)
	if err != nil {
		return nil, fmt.Errorf("builder body of %s: %w", o.ID, err)
	}
	valid := *o
	valid.Body, valid.Reading = body, nil
	return &valid, nil
}

// mark names a bundle's transaction on the order's trail, the one that is refused as well.
func mark(t *order.Trail, sub *order.Submission, raw []byte, hash common.Hash, refused error) {
	if t == nil || sub.Kind == order.KindTransaction {
		return
	}
	if t.Marks == nil {
		t.Marks = make([]byte, 0, len(sub.Txs)*order.MarkSize)
	}
	if refused != nil {
		hash = order.TransactionHash(raw)
	}
	t.Mark(hash)
}

// decode reads the stored request, which is a single one: of a batch only the element is stored.
func (w *Worker) decode(ctx context.Context, o *order.Order) (*order.Submission, error) {
	calls, batch, rpcErr := jsonrpc.Parse(o.Body, 1)
	if rpcErr != nil {
		return nil, order.Refuse(order.CodeMalformed, rpcErr.Message)
	}
	if batch || len(calls) != 1 {
		return nil, order.Refuse(order.CodeMalformed, "stored body is not a single request")
	}
	call := &calls[0]
	if call.Err != nil {
		return nil, order.Refuse(order.CodeMalformed, call.Err.Message)
	}
	m, ok := order.ParseMethod(call.Request.Method)
	if !ok || m != o.Method {
		return nil, w.mismatched(ctx, o, "method")
	}
	return order.Decode(m, call.Request.Params, w.cfg.Limits)
}

// identify recomputes what the door wrote beside the bytes: deduplication, replacement and the
// public id all rest on it.
func (w *Worker) identify(ctx context.Context, o *order.Order, sub *order.Submission) *order.Reason {
	if id, key := sub.Identify(o.Signer, o.Nonce, o.NonceDefaulted); id != o.ID || key != o.Key {
		return w.mismatched(ctx, o, "id")
	}
	if hash, err := sub.PublicHash(o.Nonce); err != nil || hash != o.Hash {
		return w.mismatched(ctx, o, "hash")
	}
	if sub.Kind != o.Kind || sub.Replacement != o.Replacement {
		return w.mismatched(ctx, o, "kind")
	}
	return nil
}

func (w *Worker) mismatched(ctx context.Context, o *order.Order, what string) *order.Reason {
	w.metrics.mismatches.Inc()
	w.mismatch.Do(func() {
		w.log.LogAttrs(ctx, slog.LevelError, "stored identity does not match the order",
			slog.String("field", what), slog.String("order_id", o.ID.String()),
			slog.String("accept_id", o.Accept.String()), slog.String("signature", o.Signature))
	})
	return order.Refuse(order.CodeMalformed, textIdentity)
}

// inTx names the transaction that a refusal is about.
func inTx(err error, sub *order.Submission, i int) error {
	r := order.AsReason(err)
	if r == nil || len(sub.Txs) == 1 {
		return err
	}
	return order.Refuse(r.Code, fmt.Sprintf("tx %d: %s", i, r.Text))
}

// stopwatch measures work without the pauses in it.
type stopwatch struct {
	started time.Time
	paused  time.Duration
}

func (s *stopwatch) pause(f func()) {
	t := time.Now()
	f()
	s.paused += time.Since(t)
}

func (s *stopwatch) elapsed() time.Duration { return time.Since(s.started) - s.paused }
