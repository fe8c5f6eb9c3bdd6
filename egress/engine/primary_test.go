package engine

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

// lock is the primary's Caller as the front door is: a live call that came since Decide overtakes.
type lock struct {
	*wire
	b *bench

	mu       sync.Mutex
	decided  uint64
	overtook int
	// live, if set, makes a live call before the n-th step is let through.
	live func()
}

func (l *lock) Decide() record.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decided = l.b.seq.Load()
	return record.ID{Epoch: l.b.epoch, Sequence: l.decided}
}

func (l *lock) Call(ctx context.Context, body []byte) (int, []byte, time.Time, error) {
	calls, _, err := engineapi.ParseCalls(body)
	if err != nil {
		return 0, nil, time.Time{}, err
	}
	class := calls[0].Class()
	require.True(l.b.t, class == engineapi.ClassReplay || class == engineapi.ClassForkchoice, "a question: %s", calls[0].Method)
	l.mu.Lock()
	live := l.live
	l.mu.Unlock()
	if live != nil {
		live()
	}
	l.mu.Lock()
	overtaken := l.decided != l.b.seq.Load()
	if overtaken {
		l.overtook++
	}
	l.mu.Unlock()
	if overtaken {
		return 0, nil, time.Time{}, ErrOvertaken
	}
	return l.wire.Call(ctx, body)
}

// Ask passes by the order of the calls.
func (l *lock) Ask(ctx context.Context, body []byte) (int, []byte, time.Time, error) {
	return l.wire.Call(ctx, body)
}

// jealous is a lock through which questions go as steps do.
type jealous struct{ l *lock }

func (j *jealous) Decide() record.ID { return j.l.Decide() }

func (j *jealous) Call(ctx context.Context, body []byte) (int, []byte, time.Time, error) {
	j.l.mu.Lock()
	overtaken := j.l.decided != j.l.b.seq.Load()
	j.l.mu.Unlock()
	if overtaken {
		return 0, nil, time.Time{}, ErrOvertaken
	}
	return j.l.wire.Call(ctx, body)
}

func TestQuestionsToThePrimaryMayBeOvertakenToo(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k, l := newPrimaryKit(b)
		k.target.Caller = &jealous{l}
		b.slots(5)
		k.start()
		defer k.stop()
		for range 20 {
			k.after(5 * time.Second)
			b.slots(1)
		}
		k.after(20 * time.Second)
		require.Equal(t, Live, k.r.Status().State)
		b.primary.setDown(true)
		b.slots(30)
		b.primary.setDown(false)
		k.after(5 * time.Second)
		require.Equal(t, b.head, b.primary.f.Head())
	})
}

// newPrimaryKit makes a replayer of the bench's own primary. The blocks come from a network that the
// primary is no part of, as its consensus client sees it.
func newPrimaryKit(b *bench) (*kit, *lock) {
	k := newKit(b, eltest.Config{})
	l := &lock{wire: b.primary, b: b}
	k.client = b.primary
	k.target = Target{Name: "first", Role: Primary, Address: "http://first:8551", Caller: l}
	return k, l
}

func TestThePrimaryIsSentNothingWhileItAnswers(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k, l := newPrimaryKit(b)
		b.slots(5)
		k.start()
		defer k.stop()
		for range 20 {
			k.after(12 * time.Second)
			b.slots(1)
		}
		k.after(time.Minute)
		require.Equal(t, Live, k.r.Status().State)
		require.Equal(t, uint64(25), b.primary.f.Head().Number)
		require.Len(t, b.primary.f.CallsOf(engineapi.ClassReplay), 25)
		require.Len(t, b.primary.f.CallsOf(engineapi.ClassForkchoice), 25)
		require.Zero(t, l.overtook)
	})
}

func TestAPrimaryThatWasDownForFiftySlotsIsAtTheHeadBeforeTheNextSlotEnds(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k, _ := newPrimaryKit(b)
		b.slots(5)
		k.start()
		defer k.stop()
		k.after(time.Second)
		b.primary.setDown(true)
		for range 50 {
			b.slots(1) // unanswered, and recorded
			k.after(12 * time.Second)
		}
		require.Equal(t, uint64(5), b.primary.f.Head().Number)
		b.primary.setDown(false)
		k.after(6 * time.Second)
		require.Equal(t, b.head, b.primary.f.Head())
		require.Equal(t, Live, k.r.Status().State)
		b.slots(3)
		k.after(time.Minute)
		require.Equal(t, uint64(58), b.primary.f.Head().Number)
	})
}

func TestAPrimaryThatLostItsStateWhileNobodyCalledIsCaughtUp(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k, _ := newPrimaryKit(b)
		b.slots(40)
		k.start()
		defer k.stop()
		k.after(time.Second)
		b.primary.f.Wipe()
		k.after(15 * time.Second)
		require.Equal(t, b.head, b.primary.f.Head())
	})
}

func TestAPrimaryAheadOfARecordThatLacksItsHeadIsNotTakenBack(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k, _ := newPrimaryKit(b)
		b.slots(20)
		block := b.head
		for range 5 { // the record lost these
			block = b.child(block)
			b.primary.f.Add(block)
		}
		b.primary.f.SetHead(block.Hash)
		b.primary.f.Forget()
		k.start()
		defer k.stop()
		for range 60 {
			k.after(time.Second)
			require.Equal(t, block, b.primary.f.Head())
			require.Equal(t, []any{Live, "ahead_of_record"}, []any{k.r.Status().State, k.r.Status().Reason})
		}
		require.Empty(t, b.primary.f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice))
		next := b.child(block)
		b.payload(next)
		b.choose(next)
		k.after(30 * time.Second)
		require.Equal(t, next, b.primary.f.Head())
		require.Equal(t, []any{Live, ""}, []any{k.r.Status().State, k.r.Status().Reason})
	})
}

func TestASecondaryThatHoldsTheGoalBelowAnUnknownHeadGetsTheGoalAlone(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(20)
		k := newKit(b, eltest.Config{})
		for _, block := range b.tree {
			k.client.f.Add(block)
		}
		unknown := b.child(b.head)
		k.client.f.Add(unknown)
		k.client.f.SetHead(unknown.Hash)
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		require.Len(t, k.client.f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice), 1)
	})
}

func TestALiveCallOvertakesEachStepOfThePrimary(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k, l := newPrimaryKit(b)
		b.slots(5)
		k.start()
		defer k.stop()
		k.after(time.Second)
		b.primary.setDown(true)
		b.slots(60)
		b.primary.setDown(false)
		b.primary.f.Forget()
		n, last := 0, common.Hash{}
		l.mu.Lock()
		l.live = func() { // every tenth step meets a live call
			if n++; n%10 == 0 && n < 200 {
				b.slots(1)
				last = b.head.Hash
			}
		}
		l.mu.Unlock()
		k.after(30 * time.Second)
		require.NotZero(t, l.overtook)
		require.Equal(t, b.head, b.primary.f.Head())
		require.NotEqual(t, common.Hash{}, last)
		require.Equal(t, Live, k.r.Status().State)
		// Behind the first live forkchoice no older head came.
		seen := map[common.Hash]uint64{}
		for _, block := range b.tree {
			seen[block.Hash] = block.Number
		}
		highest := uint64(0)
		for _, s := range b.primary.f.CallsOf(engineapi.ClassForkchoice) {
			f, err := s.Call.Forkchoice()
			require.NoError(t, err)
			if engineapi.ParseResult(s.HTTPStatus, s.Answer).Verdict() != engineapi.Valid {
				continue
			}
			require.GreaterOrEqual(t, seen[f.Head], highest)
			highest = seen[f.Head]
		}
	})
}

func TestNothingIsDecidedOnARecordThatLacksALiveCall(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k, _ := newPrimaryKit(b)
		b.slots(5)
		k.start()
		defer k.stop()
		k.after(time.Second)
		// The bus is away: a call went out and moved the primary back, its record waits in the spool.
		request, outcome := b.dispatch(forkchoice(b.tree[3].Hash, common.Hash{}, common.Hash{}, "null"))
		require.Equal(t, uint64(3), b.primary.f.Head().Number)
		k.after(time.Minute)
		require.Equal(t, uint64(3), b.primary.f.Head().Number, "the live call is the newest word")
		b.log.append(request, nil)
		b.log.append(nil, outcome)
		k.after(time.Minute)
		require.Equal(t, uint64(3), b.primary.f.Head().Number)
		require.Equal(t, Live, k.r.Status().State)
	})
}

func TestThePrimaryIsNeverTakenBackNorFedAttributes(t *testing.T) {
	for seed := range uint64(16) {
		inBubble(t, func(b *bench) {
			t := b.t
			rng := rand.New(rand.NewPCG(seed, 3))
			k, _ := newPrimaryKit(b)
			b.attributes = true
			k.start()
			defer k.stop()
			for range 80 {
				randomSlot(rng, b)
				switch rng.IntN(8) {
				case 0:
					b.primary.setDown(true)
				case 1, 2:
					b.primary.setDown(false)
				case 3:
					b.primary.f.Fail(eltest.Fault{Times: 2, Lost: true})
				case 4:
					b.primary.f.Wipe()
				}
				k.after(time.Duration(rng.IntN(12)) * time.Second)
			}
			b.primary.setDown(false)
			b.primary.f.Recover()
			k.after(14 * time.Second)
			require.Equal(t, b.head, b.primary.f.Head())
			require.Equal(t, Live, k.r.Status().State)
		})
	}
}

func TestAnUnverifiedCallIsNotReplayedToAPrimaryThatDidNotAnswer(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k, _ := newPrimaryKit(b)
		b.slots(5)
		k.start()
		defer k.stop()
		k.after(time.Second)
		b.verified = false
		b.primary.setDown(true)
		b.slots(1)
		b.primary.setDown(false)
		k.after(2 * time.Minute)
		require.Equal(t, uint64(5), b.primary.f.Head().Number)
	})
}

func TestIdentityOfAPrimaryThatIsDownIsAskedAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		c := NewPrimaryChain(DefaultConfig(), b.primary)
		b.primary.setDown(true)
		_, ok := c.Identity(t.Context())
		require.False(t, ok)
		n := len(b.primary.attempts())
		_, ok = c.Identity(t.Context())
		require.False(t, ok)
		require.Len(t, b.primary.attempts(), n, "not at once")
		b.primary.setDown(false)
		time.Sleep(2 * time.Second)
		id, ok := c.Identity(t.Context())
		require.True(t, ok)
		require.Equal(t, uint64(eltest.DefaultChainID), id.ChainID)
		require.Equal(t, eltest.GenesisBlock.Hash, id.Genesis)
		asked, err := Ask(t.Context(), DefaultConfig(), b.primary)
		require.NoError(t, err)
		require.Equal(t, id, asked)
		b.primary.setDown(true)
		_, err = Ask(t.Context(), DefaultConfig(), b.primary)
		require.ErrorIs(t, err, errUnreachable)
		require.NotErrorIs(t, err, errUnauthorized)
	})
}
