package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"millrace/subjects"
)

const (
	// statusTimeout is how long a question what became of an order is waited for and worked on: an index that
	// is behind takes most of a second to say so.
	statusTimeout = 2 * time.Second
	// statusAtOnce bounds the questions that a process works on; one more is told so at once. Those that wait
	// in the client to be told are at most maxWaitingStatus.
	statusAtOnce     = 4
	maxWaitingStatus = 64

	statusVersion = 1
	statusSize    = 1 + 8 + common.AddressLength + common.HashLength
)

// The first byte of an answer.
const (
	statusKnown  = 1 // what follows is the answer; nothing: there is no such order
	statusFailed = 2 // it can't be told now; what follows says why
)

// ErrNoStatus is returned when nobody can tell what became of an order now.
var ErrNoStatus = errors.New("nobody tells what became of orders")

var (
	errStatus     = errors.New("bad question for an order's status")
	errStatusBusy = errors.New("too many questions at a time")
)

// AskStatus asks a process that knows what became of the orders of signer that hash names. The answer is
// what its AnswerStatus gave, nil if it knows of none. ErrNoStatus when there is no answer.
func (b *Bus) AskStatus(ctx context.Context, signer common.Address, hash common.Hash) ([]byte, error) {
	l, err := b.links.link(lane{use: useStatus})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoStatus, err)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	m, err := l.nc.RequestWithContext(ctx, subjects.Status, encodeQuestion(b.Now().Add(statusTimeout), signer, hash))
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("%w: no process with a trace index is there", ErrNoStatus)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoStatus, err)
	}
	return decodeAnswer(m.Data)
}

// AnswerStatus answers the questions of other processes by f until ctx ends; of all who do so one gets each
// question. f is called from a few goroutines at a time.
func (b *Bus) AnswerStatus(ctx context.Context, f func(ctx context.Context, signer common.Address, hash common.Hash) ([]byte, error)) error {
	l, err := b.links.link(lane{use: useStatus})
	if err != nil {
		return fmt.Errorf("answer for orders: %w", err)
	}
	var working errgroup.Group
	working.SetLimit(statusAtOnce)
	sub, err := l.nc.QueueSubscribe(subjects.Status, subjects.StatusQueue, func(m *nats.Msg) {
		begun := working.TryGo(func() error {
			b.reply(ctx, m, f)
			return nil
		})
		if !begun {
			respond(m, nil, errStatusBusy)
		}
	})
	if err != nil {
		return fmt.Errorf("answer for orders: %w", err)
	}
	gone := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(gone) })
	if err := sub.SetPendingLimits(maxWaitingStatus, maxWaitingStatus*statusSize); err != nil {
		return fmt.Errorf("answer for orders: %w", err)
	}
	<-ctx.Done()
	if sub.Unsubscribe() == nil {
		<-gone // nothing is begun any more
	}
	return working.Wait()
}

// reply works on one question, unless who asked has given up.
func (b *Bus) reply(ctx context.Context, m *nats.Msg, f func(context.Context, common.Address, common.Hash) ([]byte, error)) {
	until, signer, hash, err := decodeQuestion(m.Data)
	left := min(until.Sub(b.Now()), statusTimeout)
	if err != nil || left <= 0 {
		b.log.LogAttrs(ctx, slog.LevelDebug, "question for an order is not answered", slog.Duration("left", left), slog.Any("error", err))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	answer, err := f(ctx, signer, hash)
	respond(m, answer, err)
}

// respond sends an answer; who asked hears nothing if it can't be sent, and waits no longer than for that.
func respond(m *nats.Msg, answer []byte, err error) {
	data := append([]byte{statusKnown}, answer...)
	if err != nil {
		data = append([]byte{statusFailed}, err.Error()...)
	}
	_ = m.Respond(data)
}

func decodeAnswer(a []byte) ([]byte, error) {
	switch {
	case len(a) == 0 || a[0] != statusKnown && a[0] != statusFailed:
		return nil, fmt.Errorf("%w: an answer of %d bytes", ErrNoStatus, len(a))
	case a[0] == statusFailed:
		return nil, fmt.Errorf("%w: %q", ErrNoStatus, a[1:])
	case len(a) == 1:
		return nil, nil
	}
	return a[1:], nil
}

func encodeQuestion(until time.Time, signer common.Address, hash common.Hash) []byte {
	q := append(make([]byte, 0, statusSize), statusVersion)
	q = binary.BigEndian.AppendUint64(q, uint64(until.UnixMicro()))
	return append(append(q, signer[:]...), hash[:]...)
}

func decodeQuestion(q []byte) (until time.Time, signer common.Address, hash common.Hash, err error) {
	if len(q) != statusSize || q[0] != statusVersion {
		return until, signer, hash, fmt.Errorf("%w: %d bytes", errStatus, len(q))
	}
	until = time.UnixMicro(int64(binary.BigEndian.Uint64(q[1:]))) //nolint:gosec // the bits of encodeQuestion
	q = q[9:]
	return until, common.Address(q[:common.AddressLength]), common.Hash(q[common.AddressLength:]), nil
}
