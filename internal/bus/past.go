package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
)

const (
	// maxPast bounds the acceptances that a past remembers, 40 MB or so. When that is not enough for
	// a question, the stream is read for this question alone.
	maxPast = 1 << 20
	// pastIdle is how long nobody asks until a past is forgotten.
	pastIdle = time.Minute
	// batchMessages and batchBytes bound one read: the server takes no writes meanwhile.
	batchMessages = 256
	batchBytes    = 256 << 10
)

var (
	errPastFull = errors.New("too many acceptances to remember")
	errBehind   = errors.New("replica is behind")
)

// past knows which acceptances a stream has had. It reads the stream when it is asked, from a little
// before the order in question was received, and on from where it stopped at the next question, so that
// the thousand orders that come back together cost one pass. Questions wait in line; one that came
// before another's pass began is answered by that.
type past struct {
	bus    *Bus
	stream string
	ids    func(m *nats.Msg, subject string) ([]order.AcceptID, error)
	limit  int

	asked   atomic.Uint64
	turn    chan struct{} // holds a token while somebody reads; what is below belongs to him
	forget  *time.Timer
	since   time.Time // what was received before is not remembered
	next    uint64    // sequence to go on from; zero: nothing read
	told    uint64    // how many questions the last whole pass answers
	through time.Time // everything stored by then is read
	seen    map[order.AcceptID]struct{}
}

func newPast(b *Bus, stream string, ids func(*nats.Msg, string) ([]order.AcceptID, error)) *past {
	return &past{bus: b, stream: stream, ids: ids, limit: maxPast, turn: make(chan struct{}, 1)}
}

// has reports whether the stream has, or had since somebody last asked, the acceptance. With until
// only what was stored by then matters.
func (p *past) has(ctx context.Context, a order.AcceptID, until time.Time) (bool, error) {
	ticket := p.asked.Add(1)
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return false, fmt.Errorf("look for %s in %s: %w", a, p.stream, ctx.Err())
	}
	floor := a.Received().Add(-clockMargin)
	if p.next == 0 || floor.Before(p.since) {
		p.restart(floor)
	}
	p.stay()
	if _, ok := p.seen[a]; ok || p.told >= ticket || !until.IsZero() && !until.After(p.through) {
		return ok, nil
	}
	covers := p.asked.Load()
	err := p.pass(ctx, until, p.add)
	if errors.Is(err, errPastFull) && floor.After(p.since) { // what only older orders asked for can go
		p.restart(floor)
		err = p.pass(ctx, until, p.add)
	}
	if errors.Is(err, errPastFull) {
		return p.search(ctx, a, floor, until)
	}
	if err != nil {
		return false, fmt.Errorf("look for %s in %s: %w", a, p.stream, err)
	}
	if until.IsZero() {
		p.told = covers
	}
	_, ok := p.seen[a]
	return ok, nil
}

func (p *past) restart(since time.Time) {
	p.since, p.next, p.told, p.through, p.seen = since, 0, 0, time.Time{}, make(map[order.AcceptID]struct{})
}

// stay puts off forgetting.
func (p *past) stay() {
	if p.forget != nil {
		p.forget.Reset(pastIdle)
		return
	}
	p.forget = time.AfterFunc(pastIdle, func() {
		select {
		case p.turn <- struct{}{}:
			p.restart(time.Time{})
			<-p.turn
		default: // in use
		}
	})
}

func (p *past) add(a order.AcceptID) error {
	if a.Received().Before(p.since) {
		return nil
	}
	if _, ok := p.seen[a]; !ok && len(p.seen) >= p.limit {
		return errPastFull
	}
	p.seen[a] = struct{}{}
	return nil
}

// search reads the stream for one question and remembers nothing.
func (p *past) search(ctx context.Context, a order.AcceptID, floor, until time.Time) (found bool, err error) {
	p.restart(floor)
	err = p.pass(ctx, until, func(other order.AcceptID) error {
		found = found || other == a
		return nil
	})
	p.restart(time.Time{})
	return found, err
}

// open returns the stream, as its leader knows it at the first call.
func (p *past) open(ctx context.Context) (jetstream.Stream, error) {
	l, err := p.bus.links.link(lane{use: useScan})
	if err != nil {
		return nil, err
	}
	return l.js.Stream(ctx, p.stream)
}

// pass reads on to the stream's present end, or to what was stored after until. Where it stops by an
// error the next one goes on.
func (p *past) pass(ctx context.Context, until time.Time, add func(order.AcceptID) error) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	state := s.CachedInfo().State // the leader's; messages may be read from a replica that is late
	if state.LastSeq+1 < p.next {
		p.restart(p.since) // another stream by that name
	}
	for p.next <= state.LastSeq {
		if state.Msgs == 0 || p.next == 0 && state.LastTime.Before(p.since) {
			p.next = state.LastSeq + 1
			return nil
		}
		before := p.next
		beyond, err := p.batch(ctx, until, add)
		if err != nil || beyond {
			return err
		}
		if p.next == before {
			return errBehind
		}
	}
	return nil
}

// getRequest asks for messages from a sequence or a time on.
type getRequest struct {
	Sequence uint64     `json:"seq,omitempty"`
	Since    *time.Time `json:"start_time,omitempty"`
	Subject  string     `json:"next_by_subj"`
	Batch    int        `json:"batch"`
	MaxBytes int        `json:"max_bytes"`
}

// What the server adds to a message that it was asked for, and the status of what is no message.
const (
	headerSequence  = "Nats-Sequence"
	headerSubject   = "Nats-Subject"
	headerTimestamp = "Nats-Time-Stamp"

	statusHeader   = "Status"
	statusEnd      = "204"
	statusNotFound = "404"
)

// batch reads some messages; beyond: one that was stored after until is among them.
func (p *past) batch(ctx context.Context, until time.Time, add func(order.AcceptID) error) (beyond bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	l, err := p.bus.links.link(lane{use: useScan})
	if err != nil {
		return false, err
	}
	ask := getRequest{Sequence: p.next, Subject: ">", Batch: batchMessages, MaxBytes: batchBytes}
	if p.next == 0 {
		ask.Since = &p.since
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return false, err
	}
	inbox := l.nc.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return false, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := l.nc.PublishRequest("$JS.API.DIRECT.GET."+p.stream, inbox, body); err != nil {
		return false, err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return false, err
		}
		switch status := m.Header.Get(statusHeader); status {
		case "":
		case statusEnd, statusNotFound:
			return false, nil
		default:
			return false, fmt.Errorf("%w: status %s", errBadAck, status)
		}
		if beyond, err = p.take(m, until, add); beyond || err != nil {
			return beyond, err
		}
	}
}

// take reads one message of a batch.
func (p *past) take(m *nats.Msg, until time.Time, add func(order.AcceptID) error) (beyond bool, err error) {
	seq, err := strconv.ParseUint(m.Header.Get(headerSequence), 10, 64)
	if err != nil {
		return false, fmt.Errorf("%w: sequence", errBadAck)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(headerTimestamp))
	if err != nil {
		return false, fmt.Errorf("%w: time", errBadAck)
	}
	if !until.IsZero() && at.After(until) {
		p.through = at.Add(-1)
		return true, nil
	}
	ids, err := p.ids(m, m.Header.Get(headerSubject))
	if err != nil { // it names nobody, and will not next time
		p.bus.log.Error("message can't be read and is passed over",
			slog.String("stream", p.stream), slog.Uint64("sequence", seq), slog.Any("error", err))
	}
	for _, a := range ids {
		if err := add(a); err != nil {
			return false, err
		}
	}
	p.next = seq + 1
	return false, nil
}
