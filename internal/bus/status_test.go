package bus

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/subjects"
)

// knowing answers for one signer, and counts the questions.
func knowing(t *testing.T, b *Bus, signer common.Address) *atomic.Int64 {
	t.Helper()
	asked := &atomic.Int64{}
	background(t, func(ctx context.Context) error {
		return b.AnswerStatus(ctx, func(_ context.Context, s common.Address, h common.Hash) ([]byte, error) {
			asked.Add(1)
			switch {
			case h == common.Hash{0xff}:
				return nil, errors.New("the index is closed")
			case s != signer:
				return nil, nil
			}
			return []byte{'k', h[0]}, nil
		})
	})
	return asked
}

// heard waits until somebody answers.
func heard(t *testing.T, door *Bus) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := door.AskStatus(t.Context(), common.Address{}, common.Hash{})
		return err == nil
	}, soon, tick)
}

func TestStatusIsAnsweredByOneOfThoseWhoKnow(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	door, signer := testBus(t, s), common.Address{1}
	_, err := door.AskStatus(t.Context(), signer, common.Hash{})
	require.ErrorIs(t, err, ErrNoStatus, "nobody is there")
	require.ErrorContains(t, err, "no process with a trace index")

	first, second := knowing(t, testBus(t, s), signer), knowing(t, testBus(t, s), signer)
	heard(t, door)
	before := first.Load() + second.Load()
	got, err := door.AskStatus(t.Context(), signer, common.Hash{'h'})
	require.NoError(t, err)
	require.Equal(t, "kh", string(got))
	require.Equal(t, before+1, first.Load()+second.Load(), "one of them was asked")
	got, err = door.AskStatus(t.Context(), common.Address{2}, common.Hash{'h'})
	require.NoError(t, err)
	require.Nil(t, got)
	_, err = door.AskStatus(t.Context(), signer, common.Hash{0xff})
	require.ErrorIs(t, err, ErrNoStatus)
	require.ErrorContains(t, err, "the index is closed")

	s.Restart(t)
	heard(t, door)
}

func TestStatusIsNotWaitedForLongerThanItsTime(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	door, egress := testBus(t, s), testBus(t, s)
	var working, most atomic.Int64
	background(t, func(ctx context.Context) error {
		return egress.AnswerStatus(ctx, func(ctx context.Context, _ common.Address, h common.Hash) ([]byte, error) {
			if h == (common.Hash{}) {
				return nil, nil
			}
			most.Store(max(most.Load(), working.Add(1)))
			defer working.Add(-1)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	heard(t, door)
	asked := make(chan error, statusAtOnce+4)
	for range cap(asked) {
		go func() {
			_, err := door.AskStatus(t.Context(), common.Address{}, common.Hash{1})
			asked <- err
		}()
	}
	busy := 0
	for range cap(asked) {
		err := <-asked
		require.ErrorIs(t, err, ErrNoStatus)
		if strings.Contains(err.Error(), errStatusBusy.Error()) {
			busy++
		}
	}
	require.Positive(t, busy, "told at once")
	require.LessOrEqual(t, most.Load(), int64(statusAtOnce))
}

func TestQuestionOfWhoGaveUpIsNotWorkedOn(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	door, egress := testBus(t, s), testBus(t, s)
	asked := knowing(t, egress, common.Address{1})
	heard(t, door)
	before := asked.Load()
	l, err := door.links.link(lane{use: useStatus})
	require.NoError(t, err)
	for _, q := range [][]byte{nil, {statusVersion}, encodeQuestion(door.Now().Add(-time.Second), common.Address{1}, common.Hash{})} {
		require.NoError(t, l.nc.Publish(subjects.Status, q))
	}
	heard(t, door) // comes behind them
	require.Equal(t, before+1, asked.Load())
}

func TestAnswersThatAreNoneAreErrors(t *testing.T) {
	for _, a := range []string{"", "\x00", "\x03known", "\x02why"} {
		got, err := decodeAnswer([]byte(a))
		require.ErrorIs(t, err, ErrNoStatus, "%q", a)
		require.Nil(t, got)
	}
}

func FuzzDecodeQuestion(f *testing.F) {
	f.Add(encodeQuestion(time.UnixMicro(1), common.Address{1}, common.Hash{2}))
	f.Add([]byte{statusVersion})
	f.Fuzz(func(t *testing.T, q []byte) {
		until, signer, hash, err := decodeQuestion(q)
		if err == nil {
			require.Equal(t, q, encodeQuestion(until, signer, hash))
		}
	})
}
