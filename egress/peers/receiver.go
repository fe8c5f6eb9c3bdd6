package peers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/order"
)

// graceAfterDeadline is how long past an order's deadline an attempt to store it may take that was begun in time.
const graceAfterDeadline = 2 * time.Second

// spliceRoom is what our members add to a body that did not have them.
const spliceRoom = 256

// Receiver makes orders of ours of what peers send. Safe for concurrent use.
type Receiver struct {
	cfg     ReceiverConfig
	ports   Ports
	log     *slog.Logger
	metrics *receiverMetrics

	mu    sync.Mutex
	peers map[string]*peer
}

// NewReceiver returns a receiver. A nil log is silent; reg may hold one.
func NewReceiver(cfg ReceiverConfig, ports Ports, log *slog.Logger, reg prometheus.Registerer) (*Receiver, error) {
	if err := cfg.validate(&ports); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Receiver{cfg: cfg, ports: ports, log: log, metrics: newReceiverMetrics(reg), peers: map[string]*peer{}}, nil
}

// Receive takes one order in. It returns nil when the order is stored. A *order.Reason means that it was dropped for
// good, counted and all: the message is to be acknowledged. Any other error means that it is not known to be stored:
// the same message, with the same key and time of arrival, has to be received again. in.Body is not kept.
func (r *Receiver) Receive(ctx context.Context, in order.Incoming) error {
	p := r.peer(in.Peer)
	p.metrics.bytes.Add(float64(len(in.Body)))
	o, d, err := r.accept(p, &in)
	if err == nil {
		d, err = r.store(ctx, p, o)
	}
	if d != 0 {
		r.drop(ctx, p, &in, d, err)
		return err
	}
	if err != nil {
		return fmt.Errorf("receive from %s: %w", in.Peer, err)
	}
	p.passed(&in)
	return nil
}

// accept makes in an order of ours, or says why it is dropped; then the error is a *order.Reason.
func (r *Receiver) accept(p *peer, in *order.Incoming) (*order.Order, Drop, error) {
	if int64(len(in.Body)) > r.cfg.MaxBody+formRoom {
		return nil, DropOversized, order.Refuse(order.CodeOversized, "body is too large")
	}
	sub, err := read(in.Body, r.cfg.Limits)
	if err != nil {
		return nil, DropMalformed, err
	}
	if sub.Kind == order.KindSubsidy && in.Rights != order.RightsAll {
		return nil, DropForbidden, order.Refuse(order.CodeMalformed, "subsidy can only be called by Flashbots")
	}
	now := r.ports.Clock.Now()
	offset := p.heard(in)
	o := r.identify(p, in, sub)
	if d, err := r.lifetime(o, in, sub, offset, now); err != nil {
		return nil, d, err
	}
	if err := r.revalidate(o, sub, now); err != nil {
		return nil, DropInvalid, err
	}
	// Of an honest peer these are the bytes that came. They are written anew all the same: the caller may reuse his.
	if o.Body, err = sub.AppendBuilderBody(make([]byte, 0, len(in.Body)+spliceRoom), o); err != nil {
		return nil, DropMalformed, order.Refuse(order.CodeMalformed, err.Error())
	}
	if !p.afford(now, len(o.Body)) {
		return nil, DropOverBudget, order.Refuse(order.CodeOversized, "too many bytes of orders in a short time")
	}
	return o, 0, nil
}

// identify names the order, by its body and by nothing else but what the package documentation says.
func (r *Receiver) identify(p *peer, in *order.Incoming, sub *order.Submission) *order.Order {
	o := &order.Order{
		Accept: acceptID(in), Origin: in.Peer, Signer: sub.Relayed.Signer, Method: sub.Method, Kind: sub.Kind,
		Priority: order.Classify(0, sub, len(in.Body)), TargetBlock: sub.TargetBlock, Replacement: sub.Replacement,
	}
	o.ReceivedAt = o.Accept.Received()
	if c := in.Order; c != nil {
		if c.Priority.Valid() {
			o.Priority = max(o.Priority, c.Priority) // the less urgent one
		}
		if sub.Kind == order.KindTransaction && o.Signer == ([20]byte{}) {
			o.Signer = c.Signer
		}
	}
	o.Nonce, o.NonceDefaulted = p.nonce(in, sub, o)
	o.ID, o.Key = sub.Identify(o.Signer, o.Nonce, o.NonceDefaulted)
	o.Hash, _ = sub.PublicHash(o.Nonce) // always nil
	return o
}

// lifetime sets the deadline, or says that it has passed. offset is what our clock is ahead of the peer's.
func (r *Receiver) lifetime(o *order.Order, in *order.Incoming, sub *order.Submission, offset time.Duration, now time.Time) (Drop, error) {
	life, age := r.cfg.MaxAge, time.Duration(0)
	if c := in.Order; c != nil && !c.ReceivedAt.IsZero() {
		age = max(in.ArrivedAt.Sub(c.ReceivedAt)-offset, 0)
		if !c.Deadline.IsZero() {
			life = min(life, c.Deadline.Sub(c.ReceivedAt))
		}
	} else if !in.SentAt.IsZero() {
		age = max(in.ArrivedAt.Sub(in.SentAt)-offset, 0)
	}
	o.Deadline = o.ReceivedAt.Add(life - age)
	if o.Expired(now) {
		return DropTooOld, order.Refuse(order.CodeExpired, "order is too old")
	}
	if t := sub.MaxTimestamp; t != 0 && t < uint64(o.Deadline.Unix()) { //nolint:gosec // after 1970
		if o.Deadline = time.Unix(int64(t), 0); o.Expired(now) { //nolint:gosec // before the deadline
			return DropExpired, order.Refuse(order.CodeExpired, "maxTimestamp has passed")
		}
	}
	return 0, nil
}

// revalidate checks the transactions, if that is wanted, and leaves their names for the trace index.
func (r *Receiver) revalidate(o *order.Order, sub *order.Submission, now time.Time) error {
	if !r.cfg.Revalidate {
		return nil
	}
	t := &order.Trail{InStoredAt: o.ReceivedAt, Attempts: 1}
	for i, raw := range sub.Txs {
		info, err := r.ports.Rules.Check(raw, sub.Kind, now)
		if err != nil {
			if reason := order.AsReason(err); reason != nil {
				return order.Refuse(reason.Code, fmt.Sprintf("tx %d: %s", i, reason.Text))
			}
			return order.Refuse(order.CodeMalformed, fmt.Sprintf("tx %d: %v", i, err))
		}
		if sub.Kind != order.KindTransaction {
			t.Mark(info.Hash)
		}
	}
	t.DecidedAt = r.ports.Clock.Now()
	o.Trail = t
	return nil
}

// store stores o while it has time. A drop says that its time is over.
func (r *Receiver) store(ctx context.Context, p *peer, o *order.Order) (Drop, error) {
	left := o.Deadline.Sub(r.ports.Clock.Now())
	pctx, cancel := context.WithTimeout(ctx, left+graceAfterDeadline)
	defer cancel()
	receipt, err := r.ports.Publisher.PublishOK(pctx, o)
	switch {
	case err == nil && receipt.Duplicate:
		p.metrics.repeats.Inc()
		return 0, nil
	case err == nil:
		p.metrics.received[o.Priority].Inc()
		return 0, nil
	case ctx.Err() == nil && o.Expired(r.ports.Clock.Now()):
		return DropTooOld, order.Refuse(order.CodeExpired, "order expired before it was stored")
	}
	return 0, err
}

// drop counts what is dropped, and says so now and then.
func (r *Receiver) drop(ctx context.Context, p *peer, in *order.Incoming, d Drop, err error) {
	p.metrics.dropped[d].Inc()
	p.missed(in, d, r.ports.Clock.Now())
	p.complain.Do(func() {
		r.log.LogAttrs(ctx, slog.LevelWarn, "orders of a peer are dropped", slog.String("peer", in.Peer),
			slog.String("reason", d.String()), slog.String("key", in.Key), slog.Int("bytes", len(in.Body)), slog.Any("error", err))
	})
}

// Know makes the metrics of a peer, so that they are there before its first order.
func (r *Receiver) Know(name string) { r.peer(name) }

// Forget lets go of what is known of a peer that is gone, its metrics included.
func (r *Receiver) Forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.peers, name)
	r.metrics.forget(name)
}

// peer returns the state of a peer. Names come out of our own configuration, so their number is bounded.
func (r *Receiver) peer(name string) *peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[name]
	if p == nil {
		p = newPeer(name, r.metrics.of(name), &r.cfg)
		r.peers[name] = p
	}
	return p
}

// Missed returns what was dropped of every peer, as ranges, by peer and then by when they began.
func (r *Receiver) Missed() []Range {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Range
	for _, p := range r.peers {
		all = append(all, p.ranges.list()...)
	}
	sortRanges(all)
	return all
}
