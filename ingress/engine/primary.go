package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/internal/engineapi"
)

// settleWait is how long a change of the primary waits for state-moving calls in flight.
const settleWait = time.Second

// SetPrimary makes target the primary for all calls that follow. It reads target's files and dials
// nothing. Calls in flight keep their client, and so does each payload id: getPayload goes to the
// client that issued it. Where tokens are forwarded, a target with a secret that is known to be another than
// the consensus client's is refused with ErrOtherSecret.
func (d *Door) SetPrimary(ctx context.Context, target Target) error {
	return d.change(ctx, target, false, func(context.Context, Generation) error { return nil })
}

// Promote is SetPrimary after a check during which no state-moving call is dispatched: those that
// come wait, so check must be quick and ctx bounds it. Calls in flight are waited for first, at most
// a second: those of a dead primary have no end. check gets the last generation; its error is
// returned and nothing changes. Where tokens are forwarded, a target with a secret is refused with
// ErrOtherSecret unless that is known to be the consensus client's.
func (d *Door) Promote(ctx context.Context, target Target, check func(context.Context, Generation) error) error {
	return d.change(ctx, target, true, check)
}

func (d *Door) change(ctx context.Context, target Target, proof bool, check func(context.Context, Generation) error) error {
	next, err := newTarget(target)
	if err != nil {
		return err
	}
	if d.cfg.Auth == AuthVerify && next.secret.IsZero() {
		next.secret = d.secret
	}
	if !d.takesCaller(next, proof) {
		return fmt.Errorf("%w: %s", ErrOtherSecret, target.Name)
	}
	held, err := d.order.hold(ctx)
	if err != nil {
		return err
	}
	defer held.release()
	settle, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	d.order.quiet(settle)
	if err := check(ctx, d.Generation()); err != nil {
		return err
	}
	from := d.order.lead(next)
	d.health.forget()
	d.log.LogAttrs(ctx, slog.LevelInfo, "primary changed", slog.String("from", from.Name), slog.String("to", next.Name))
	return nil
}

// takesCaller says whether t takes the consensus client's calls. Forwarded tokens are signed with a secret that
// the door need not have, and minting others in their place would vouch for callers that nobody has
// verified. So t's secret must be the primary's, which judges those tokens, or have signed one that the primary
// took. Where the primary's is not known and no token came, proof decides.
func (d *Door) takesCaller(t *target, proof bool) bool {
	if d.cfg.Auth != AuthForward || t.secret.IsZero() {
		return true // a token of our own is taken; without a secret nothing is known, and the caller's is all there is
	}
	d.order.mu.Lock()
	known := d.order.primary.secret
	d.order.mu.Unlock()
	if known == t.secret {
		return true
	}
	if live, ok := d.token.current(); ok && t.secret.Verify(live, time.Now()) == nil {
		return true
	}
	return known.IsZero() && !proof
}

// lead makes t the primary, or the same target of before with its connections, and returns who was.
// A replayed forkchoice in flight to another is cut off: nobody waits for it any more.
func (d *dispatcher) lead(t *target) (from *target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	from = d.primary
	i := slices.IndexFunc(d.targets, func(o *target) bool { return o.Target == t.Target && o.secret == t.secret })
	if i < 0 {
		d.targets = append(d.targets, t)
		i = len(d.targets) - 1
	}
	if d.targets[i] == from {
		return from
	}
	d.primary = d.targets[i]
	d.term++
	if d.replay != nil {
		d.replay.cancel()
		d.replay = nil
	}
	return from
}

// Primary is the client that calls go to now.
func (d *Door) Primary() Target {
	d.order.mu.Lock()
	defer d.order.mu.Unlock()
	return d.order.primary.Target
}

// route is the client for an exchange: the issuer of the payloads that it fetches, else the primary.
// The caller holds the dispatcher's lock.
func (d *Door) route(x *exchange) *target {
	var issuer *target
	for _, c := range x.calls {
		if c.Class() != engineapi.ClassPayload {
			return d.order.primary
		}
		t := d.issuers.of(c.PayloadID())
		if t == nil || issuer != nil && t != issuer {
			return d.order.primary
		}
		issuer = t
	}
	if issuer == nil {
		return d.order.primary
	}
	return issuer
}

// maxIssued is how many payload ids are remembered; the oldest is forgotten first. A consensus
// client asks for a payload within a slot.
const maxIssued = 256

// issuers remembers which client issued a payload id.
type issuers struct {
	mu    sync.Mutex
	byID  map[string]*target
	queue [maxIssued]string
	next  int
}

func (s *issuers) set(id string, t *target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = make(map[string]*target, maxIssued)
	}
	if _, ok := s.byID[id]; !ok {
		delete(s.byID, s.queue[s.next])
		s.queue[s.next] = id
		s.next = (s.next + 1) % maxIssued
	}
	s.byID[id] = t
}

func (s *issuers) of(id string) *target {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id]
}

// health is what live calls tell about the primary. It logs changes only.
type health struct {
	log     *slog.Logger
	down    atomic.Int64 // Unix nanoseconds of the first failure since the last answer, 0: none
	refused atomic.Bool  // it did not take the door's token
}

func (h *health) failed(ctx context.Context, t *target, err error) {
	if errors.Is(context.Cause(ctx), errStopped) {
		return
	}
	if h.down.CompareAndSwap(0, time.Now().UnixNano()) {
		h.log.LogAttrs(ctx, slog.LevelWarn, "primary does not answer", slog.String("target", t.Name), slog.Any("error", err))
	}
}

func (h *health) answered(ctx context.Context, t *target, status int) {
	if gateway(status) {
		h.failed(ctx, t, errGateway)
		return
	}
	h.reached(ctx, t)
	refused := status == http.StatusUnauthorized || status == http.StatusForbidden
	if h.refused.Load() != refused && h.refused.Swap(refused) != refused && refused {
		h.log.LogAttrs(ctx, slog.LevelWarn, "primary refuses the token", slog.String("target", t.Name), slog.Int("status", status))
	}
}

func (h *health) reached(ctx context.Context, t *target) {
	if h.down.Load() != 0 && h.down.Swap(0) != 0 {
		h.log.LogAttrs(ctx, slog.LevelInfo, "primary answers again", slog.String("target", t.Name))
	}
}

func (h *health) forget() {
	h.down.Store(0)
	h.refused.Store(false)
}

// probe asks for what every execution client answers from its memory.
const probe = `{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest",false]}`

// Probe asks the primary for its head and is nil when it answers, with whatever: so do live calls
// judge. An answer ends PrimaryDown. Without a token it asks all the same, and is refused by one that
// is there.
func (d *Door) Probe(ctx context.Context) error {
	m, err := d.own([]byte(probe))
	if errors.Is(err, ErrNoToken) {
		m, err = unsigned([]byte(probe)), nil
	}
	if err != nil {
		return err
	}
	d.order.mu.Lock()
	t := d.order.primary
	d.order.mu.Unlock()
	status, _, _, err := exchangeWith(ctx, t, m, func() {})
	if err == nil && gateway(status) {
		err = errGateway
	}
	if err == nil && d.order.leads(t) {
		d.health.reached(ctx, t)
	}
	return err
}

// PrimaryDown is since when every live call to the primary failed; false when the last one did not. It
// may have been one call, so ask (Probe) before much is made of it.
func (d *Door) PrimaryDown() (since time.Time, down bool) {
	ns := d.health.down.Load()
	return time.Unix(0, ns), ns != 0
}
