package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"

	"millrace/internal/order"
	"millrace/subjects"
)

const (
	verdictVersion = 1
	verdictSize    = 1 + 16 + 32 + 20 + 1 // then the reason's text
	maxVerdictText = 1 << 10

	// Verdicts and signer batches that nobody takes wait in the client, at most this many; more
	// are dropped and counted: a lost one costs time, nothing else.
	maxWaitingCore      = 1 << 14
	maxWaitingCoreBytes = 16 << 20
)

var errVerdict = errors.New("bad verdict")

// ears are the doors of this process: what they wait for does not go through the server.
type ears struct {
	mu  sync.RWMutex
	ofs map[string]*ear // by ingress
}

// ear is who listens for one door's verdicts.
type ear struct {
	mu    sync.Mutex // f hears one at a time
	f     func(order.Verdict)
	ended bool
}

func (e *ear) hear(v order.Verdict) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended {
		e.f(v)
	}
}

func (es *ears) of(ingress string) *ear {
	es.mu.RLock()
	defer es.mu.RUnlock()
	return es.ofs[ingress]
}

// open makes f the ear of ingress; f is not called after shut returned.
func (es *ears) open(ingress string, f func(order.Verdict)) (e *ear, shut func()) {
	e = &ear{f: f}
	es.mu.Lock()
	defer es.mu.Unlock()
	if es.ofs == nil {
		es.ofs = make(map[string]*ear)
	}
	es.ofs[ingress] = e
	return e, func() {
		es.mu.Lock()
		if es.ofs[ingress] == e {
			delete(es.ofs, ingress)
		}
		es.mu.Unlock()
		e.mu.Lock()
		defer e.mu.Unlock()
		e.ended = true
	}
}

// SendVerdict tells an ingress process what became of an order, at once if it is this one. It does not
// wait: a verdict that is lost costs that order's answer its detail.
func (b *Bus) SendVerdict(_ context.Context, ingress string, v order.Verdict) error {
	if !subjects.ValidName(ingress) { // it came in a message header
		return fmt.Errorf("send verdict: %w: ingress name", errVerdict)
	}
	if e := b.ears.of(ingress); e != nil {
		e.hear(v)
		return nil
	}
	l, err := b.links.link(lane{use: useSay})
	if err != nil {
		return fmt.Errorf("send verdict: %w", err)
	}
	if err := l.nc.Publish(subjects.Verdicts(ingress), encodeVerdict(v)); err != nil {
		return fmt.Errorf("send verdict: %w", err)
	}
	return nil
}

// Verdicts calls f with every verdict for the ingress process, one at a time, until ctx ends.
func (b *Bus) Verdicts(ctx context.Context, ingress string, f func(order.Verdict)) error {
	e, shut := b.ears.open(ingress, f)
	defer shut()
	return b.listen(ctx, useVerdicts, subjects.Verdicts(ingress), func(data []byte) {
		v, err := decodeVerdict(data)
		if err != nil {
			b.m.badVerdicts.Inc()
			b.log.LogAttrs(ctx, slog.LevelDebug, "verdict can't be read", slog.Any("error", err))
			return
		}
		e.hear(v)
	})
}

// BroadcastSigners sends a signer-cache batch to every other worker process; it does not wait.
func (b *Bus) BroadcastSigners(_ context.Context, batch []byte) error {
	l, err := b.links.link(lane{use: useSigners})
	if err != nil {
		return fmt.Errorf("broadcast signers: %w", err)
	}
	if err := l.nc.Publish(subjects.Signers, batch); err != nil {
		return fmt.Errorf("broadcast signers: %w", err)
	}
	return nil
}

// SignerBatches calls f with every batch of other processes, one at a time, until ctx ends; this
// process's own are not echoed. f must not keep the batch.
func (b *Bus) SignerBatches(ctx context.Context, f func(batch []byte)) error {
	return b.listen(ctx, useSigners, subjects.Signers, f)
}

// listen feeds f from a core subject. The subscription outlives reconnects by itself.
func (b *Bus) listen(ctx context.Context, u use, subject string, f func(data []byte)) error {
	l, err := b.links.link(lane{use: u})
	if err != nil {
		return fmt.Errorf("listen on %s: %w", subject, err)
	}
	sub, err := l.nc.Subscribe(subject, func(m *nats.Msg) { f(m.Data) })
	if err != nil {
		return fmt.Errorf("listen on %s: %w", subject, err)
	}
	gone := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(gone) })
	if err := sub.SetPendingLimits(maxWaitingCore, maxWaitingCoreBytes); err != nil {
		return fmt.Errorf("listen on %s: %w", subject, err)
	}
	<-ctx.Done()
	if sub.Unsubscribe() == nil {
		<-gone // f is not called after listen returned
	}
	return nil
}

func encodeVerdict(v order.Verdict) []byte {
	b := append(make([]byte, 0, verdictSize), verdictVersion)
	b = append(b, v.Accept[:]...)
	b = append(b, v.ID[:]...)
	b = append(b, v.Signer[:]...)
	return appendReason(b, v.Reason)
}

func decodeVerdict(b []byte) (order.Verdict, error) {
	var v order.Verdict
	if len(b) < verdictSize || b[0] != verdictVersion {
		return v, fmt.Errorf("%w: %d bytes", errVerdict, len(b))
	}
	b = b[1:]
	b = b[copy(v.Accept[:], b):]
	b = b[copy(v.ID[:], b):]
	b = b[copy(v.Signer[:], b):]
	var err error
	v.Reason, err = decodeReason(b)
	return v, err
}

// appendReason appends a refusal as its code and its text; no refusal is code zero.
func appendReason(b []byte, r *order.Reason) []byte {
	if r == nil {
		return append(b, 0)
	}
	b = append(b, byte(r.Code))
	return append(b, r.Text[:min(len(r.Text), maxVerdictText)]...)
}

func decodeReason(b []byte) (*order.Reason, error) {
	switch {
	case len(b) == 0, len(b) > 1+maxVerdictText, b[0] == 0 && len(b) > 1:
		return nil, fmt.Errorf("%w: reason of %d bytes", errVerdict, len(b))
	case b[0] == 0:
		return nil, nil //nolint:nilnil // valid: no refusal
	}
	return order.Refuse(order.Code(b[0]), string(b[1:])), nil
}
