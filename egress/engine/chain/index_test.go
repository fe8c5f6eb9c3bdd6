package chain

import (
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

func TestTheTargetIsTheLastForkchoiceThatThePrimaryDidNotRefuse(t *testing.T) {
	f := newForest()
	f.make(f.child(f.head))
	want := f.head.hash
	bad := f.child(f.head)
	f.payload(bad, &engineapi.Result{HTTPStatus: 200, Status: engineapi.StatusInvalid})
	f.choose(bad.hash, &engineapi.Result{HTTPStatus: 200, Status: engineapi.StatusInvalid})
	f.choose(want, &engineapi.Result{HTTPStatus: 200, Code: engineapi.CodeTooDeepReorg})
	target, ok := f.x.Target(later())
	require.True(t, ok)
	require.Equal(t, want, target.Forkchoice.Head)
	require.Equal(t, uint64(2), target.ID.Sequence)

	// Faulty attributes beside a forkchoice don't count: the forkchoice does.
	f.add(&record.Request{
		Method: "engine_forkchoiceUpdatedV3", Class: engineapi.ClassForkchoice, Verified: true,
		Forkchoice: &engineapi.Forkchoice{Head: want, Attributes: true, Arity: 2},
	}, &engineapi.Result{HTTPStatus: 200, Code: engineapi.CodeInvalidAttributes})
	target, _ = f.x.Target(later())
	require.Equal(t, uint64(6), target.ID.Sequence)
}

func TestStandingsFollowRule22(t *testing.T) {
	ok, denied := &record.Outcome{HTTPStatus: 200}, &record.Outcome{HTTPStatus: 401}
	for name, c := range map[string]struct {
		verified bool
		answer   *record.Outcome
		age      time.Duration
		newest   uint64
		want     Standing
	}{
		"answered":                        {false, ok, 0, 1, Eligible},
		"refused by the primary":          {false, denied, 0, 1, Refused},
		"verified, refused":               {true, denied, 0, 1, Eligible},
		"young":                           {false, nil, 59 * time.Second, 1, Undecided},
		"unknown":                         {false, nil, 60 * time.Second, 1, Refused},
		"of an older door":                {false, nil, 0, 2, Refused},
		"verified, just come":             {true, nil, time.Second, 1, Undecided},
		"verified, waited for":            {true, nil, 2 * time.Second, 1, Eligible},
		"verified, of an older door":      {true, nil, 0, 2, Eligible},
		"verified, unknown":               {true, nil, time.Hour, 1, Eligible},
		"unreachable primary, forwarding": {false, &record.Outcome{Unknown: "refused"}, 0, 1, Refused},
		"unreachable primary, verified":   {true, &record.Outcome{Unknown: "refused"}, 0, 1, Eligible},
	} {
		call := Call{ID: record.ID{Epoch: 1}, Verified: c.verified, Answer: c.answer, Received: start()}
		now := Time{Now: start().Add(c.age), Unknown: time.Minute, Vouched: 2 * time.Second}
		require.Equal(t, c.want, call.standing(now, c.newest), name)
	}
}

func TestBlocksThatLieAboutTheirNumbersAreAGapAndNoCircle(t *testing.T) {
	f := newTape(0)
	a, b := common.Hash{2}, common.Hash{3}
	f.payload(block{hash: a, parent: b, number: 5}, valid())
	f.payload(block{hash: b, parent: a, number: 6}, valid())
	f.payload(block{hash: common.Hash{4}, parent: common.Hash{4}, number: 7}, valid())
	f.choose(a, valid())
	s := NewSession(genesis().hash, 0, record.ID{})
	target, _ := f.x.Target(later())
	_, err := f.x.Plan(s, target, 32, later())
	gap := (*Gap)(nil)
	require.ErrorAs(t, err, &gap)
	require.Equal(t, Gap{From: 1, To: 4, Parent: b}, *gap)
	require.ErrorContains(t, err, "blocks 1 to 4")
	f.choose(common.Hash{4}, valid())
	target, _ = f.x.Target(later())
	_, err = f.x.Plan(s, target, 32, later())
	require.Error(t, err)
	s = NewSession(b, 1<<63, record.ID{})
	s.Adopt(f.x, later())
	require.False(t, f.x.Below(genesis().hash, s, later()))
}

func TestAFullIndexForgetsTheOldestAndItsTraces(t *testing.T) {
	f := newForest()
	f.x = New(10)
	for range 50 {
		f.make(f.child(f.head))
	}
	require.Equal(t, 10, f.x.Len())
	require.Len(t, f.x.blocks, 5)
	require.Len(t, f.x.heads, 5)
	require.Len(t, f.x.forkchoices, 5)
	require.Len(t, f.x.byID, 10)
	require.NotZero(t, f.x.Gone())
	_, ok := f.x.Block(f.blocks[1].hash, later())
	require.False(t, ok)
	f.x.Trim(1 << 40)
	require.Zero(t, f.x.Len())
	require.Empty(t, f.x.blocks)
	require.Empty(t, f.x.forkchoices)
	_, ok = f.x.Target(later())
	require.False(t, ok)
}

func TestACallThatWasStoredTwiceCountsOnce(t *testing.T) {
	f := newForest()
	b := f.child(f.head)
	r := &record.Request{
		ID: record.ID{Epoch: 1, Sequence: 9}, Method: "engine_newPayloadV4", Class: engineapi.ClassReplay, Verified: true,
		Payload: &engineapi.Payload{Hash: b.hash, Parent: b.parent, Number: b.number},
	}
	first := f.add(r, valid())
	f.add(r, valid())
	require.Equal(t, 1, f.x.Len())
	c, ok := f.x.Block(b.hash, later())
	require.True(t, ok)
	require.Equal(t, first, c.At)
}

func TestReasonsOfLeavingOutACall(t *testing.T) {
	f := newForest()
	for range 3 {
		f.make(f.child(f.head))
	}
	s := NewSession(f.head.hash, f.head.number, record.ID{Epoch: 1, Sequence: 6})
	s.Adopt(f.x, later())
	reason := func(at uint64) Reason {
		call, _, ok := f.x.Next(at-1, later())
		require.True(t, ok)
		steps, r, err := f.x.Live(s, call, 32, later())
		require.NoError(t, err)
		require.True(t, r == 0 || len(steps) == 0)
		return r
	}
	require.Equal(t, Duplicate, reason(f.payload(f.head, valid())))
	orphan := f.child(f.child(f.head))
	require.Equal(t, Unconnected, reason(f.payload(orphan, valid())))
	stale := f.choose(f.blocks[1].hash, valid())
	last := f.choose(f.head.hash, valid())
	require.Equal(t, Superseded, reason(stale))
	require.Equal(t, Reason(0), reason(last))
	next := f.child(f.head)
	f.payload(next, valid())
	f.choose(next.hash, valid())
	require.Equal(t, Reason(0), reason(last))
	old := f.choose(f.blocks[1].hash, valid())
	f.payload(f.child(next), valid())
	f.choose(next.hash, valid())
	require.Equal(t, Stale, reason(old), "the consensus client went on since")
	s.Sent(record.ID{Epoch: 1, Sequence: 1000})
	require.Equal(t, Stale, reason(last))
	bad := f.child(f.head)
	s.Invalid(bad.hash)
	require.Equal(t, Rejected, reason(f.payload(bad, valid())))
	require.Equal(t, Rejected, reason(f.payload(f.child(bad), valid())))
	require.Equal(t, Ignored, reason(f.add(&record.Request{Method: "engine_getPayloadV4", Class: engineapi.ClassPayload}, valid())))
	for _, r := range Reasons() {
		require.NotContains(t, r.String(), "unknown")
	}
	require.Equal(t, "unknown_77", Reason(77).String())
	require.Equal(t, "unknown_77", Kind(77).String())
}
