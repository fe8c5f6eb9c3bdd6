package engine

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

func TestI8AfterRandomTrafficAndOutagesTheHeadIsTheLastForkchoicesWithinThirtySeconds(t *testing.T) {
	for seed := range uint64(24) {
		inBubble(t, func(b *bench) {
			t := b.t
			rng := rand.New(rand.NewPCG(seed, 8))
			b.attributes = seed%2 == 0
			k := newKit(b, eltest.Config{OnKill: []eltest.Kill{eltest.KillKeeps, eltest.KillLoses, eltest.KillBares}[seed/2%3]})
			if seed%3 == 0 {
				k.target.Mode = ModeShadowBuild
			}
			k.start()
			defer k.stop()
			for range 100 {
				randomSlot(rng, b)
				randomTrouble(rng, k)
				k.after(time.Duration(rng.IntN(20)) * time.Second)
			}
			k.client.setDown(false)
			k.client.f.Recover()
			k.caughtUp(30 * time.Second)
			if seed%3 != 0 {
				judgeBodies(t, k)
			}
			require.False(t, k.client.overlap, "two calls at once")
		})
	}
}

// randomTrouble makes the client or the replayer fail, or ends that.
func randomTrouble(rng *rand.Rand, k *kit) {
	switch rng.IntN(14) {
	case 0:
		k.client.setDown(true)
	case 1, 2:
		k.client.setDown(false)
	case 3:
		k.client.f.Fail(eltest.Fault{Methods: []string{"engine_newPayloadV4"}, Times: 2, Status: http.StatusBadGateway})
	case 4:
		k.client.f.Fail(eltest.Fault{Methods: []string{"engine_forkchoiceUpdatedV3"}, Times: 1, Lost: true})
	case 5:
		k.client.f.Stop() // its memory of bad blocks and headers is gone
	case 6:
		k.client.f.Kill()
	case 7:
		k.client.f.Fail(eltest.Fault{Hang: true})
	case 8, 9:
		k.client.f.Recover() // what hung is executed now
	case 10:
		k.stop()
		k.start()
	case 11:
		k.client.f.Fail(eltest.Fault{Times: 1, Garble: true, Body: "<html>"})
	}
}

// randomSlot makes a slot of a busy network.
func randomSlot(rng *rand.Rand, b *bench) {
	switch rng.IntN(10) {
	case 0: // a reorganisation
		at := b.head
		for range rng.IntN(3) + 1 {
			for _, p := range b.tree {
				if p.Hash == at.Parent {
					at = p
					break
				}
			}
		}
		block := b.child(at)
		b.payload(block)
		b.choose(block)
	case 1: // an orphan
		b.payload(b.child(b.head))
		b.slots(1)
	case 2: // repeats
		block := b.child(b.head)
		b.payload(block)
		b.payload(block)
		b.choose(block)
		b.choose(block)
	case 3: // missed
	default:
		b.slots(1)
	}
}

// judgeBodies checks what holds over any number of sessions: no attributes, no getPayload.
func judgeBodies(t *testing.T, k *kit) {
	t.Helper()
	for _, s := range k.client.f.CallsOf(engineapi.ClassForkchoice, engineapi.ClassPayload) {
		f, err := s.Call.Forkchoice()
		require.NoError(t, err)
		require.False(t, f.Attributes)
	}
}

func TestI12AnOpenBreakerLetsOneProbeThroughInAWhileAndNothingIsDropped(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(3)
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		k.client.setDown(true)
		b.slots(1)
		k.after(time.Minute)
		before := len(k.client.attempts())
		for range 50 {
			b.slots(1)
			k.after(12 * time.Second)
		}
		dials := k.client.attempts()[before:]
		require.NotEmpty(t, dials)
		for i := 1; i < len(dials); i++ {
			require.GreaterOrEqual(t, dials[i].Sub(dials[i-1]), k.cfg.ProbeEvery)
		}
		s := k.r.Status()
		require.True(t, s.BreakerOpen)
		require.Equal(t, uint64(51), s.LagBlocks)
		require.GreaterOrEqual(t, s.Oldest, 10*time.Minute)
		k.client.setDown(false)
		k.caughtUp(30 * time.Second)
	})
}

func TestAClientThatHangsIsGivenItsTimeAndCaughtUpLater(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(3)
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		k.client.f.Fail(eltest.Fault{Hang: true})
		b.slots(1)
		k.after(29 * time.Second)
		require.Equal(t, uint64(3), k.client.f.Head().Number)
		for range 10 {
			b.slots(1)
			k.after(12 * time.Second)
		}
		require.True(t, k.r.Status().BreakerOpen)
		k.client.f.Recover()
		k.caughtUp(60 * time.Second)
		require.False(t, k.client.overlap)
	})
}

func TestAClientThatLostItsStateIsBroughtBackFromItsOwnHead(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.slots(60)
		k := newKit(b, eltest.Config{OnKill: eltest.KillLoses})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		k.client.f.Kill() // every block it answered VALID for is gone
		k.caughtUp(30 * time.Second)
	})
}

func TestAnUnknownSafeBlockIsLeftOutAndSentAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(10)
		k.caughtUp(10 * time.Second)
		k.client.f.Forget()
		k.client.f.Fail(eltest.Fault{Methods: []string{"engine_forkchoiceUpdatedV3"}, Times: 1, Status: 200, Body: answerError(-38002)})
		block := b.child(b.head)
		b.payload(block)
		b.head = block
		b.call(forkchoice(block.Hash, b.tree[8].Hash, b.tree[4].Hash, "null"))
		k.caughtUp(10 * time.Second)
		safe, final := k.client.f.Anchors()
		require.Equal(t, []common.Hash{b.tree[8].Hash, b.tree[4].Hash}, []common.Hash{safe, final})
		require.Len(t, k.client.f.CallsOf(engineapi.ClassForkchoice), 3)
	})
}

func TestATooDeepReorganisationIsPassedOver(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(60)
		k.caughtUp(10 * time.Second)
		// The primary takes it, the client does not.
		b.primary.f.SetHead(b.tree[20].Hash)
		b.choose(b.tree[10])
		k.after(10 * time.Second)
		require.Equal(t, Live, k.r.Status().State)
		block := b.child(b.tree[10])
		b.payload(block)
		b.choose(block)
		k.caughtUp(10 * time.Second)
	})
}

func TestAGoalThatIsRefusedAfterCatchingUpIsNamed(t *testing.T) {
	for _, code := range []int{-38006, -38005} {
		inBubble(t, func(b *bench) {
			t := b.t
			b.slots(10)
			k := newKit(b, eltest.Config{})
			k.client.f.Fail(eltest.Fault{Methods: []string{"engine_forkchoiceUpdatedV3"}, Times: 1, Status: 200, Body: answerError(code)})
			k.start()
			defer k.stop()
			for range 60 {
				k.after(time.Second)
				require.Equal(t, Follow, k.r.Status().State)
				require.Equal(t, "forkchoice_refused", k.r.Status().Reason)
			}
			require.Len(t, k.client.f.CallsOf(engineapi.ClassForkchoice), 1)
			b.slots(3)
			k.caughtUp(10 * time.Second)
		})
	}
}

func TestI3AForkchoiceThatWasGivenUpCountsAsSent(t *testing.T) {
	inBubble(t, func(b *bench) {
		k := newKit(b, eltest.Config{})
		b.slots(5)
		k.start()
		k.caughtUp(10 * time.Second)
		k.client.f.Fail(eltest.Fault{Methods: []string{"engine_forkchoiceUpdatedV3"}, Hang: true})
		b.slots(1)
		k.after(time.Second)
		k.stop()
		require.Equal(b.t, record.ID{Epoch: b.epoch, Sequence: b.seq.Load()}, k.r.floor)
	})
}

func TestARecordThatCanNotBeReadStopsNothingForGood(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(3)
		b.log.broken = errors.New("bus away")
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.after(10 * time.Second)
		require.Equal(t, "record_unavailable", k.r.Status().Reason)
		b.log.mu.Lock()
		b.log.broken = nil
		b.log.mu.Unlock()
		k.caughtUp(10 * time.Second)
	})
}

func TestALogThatBeganAnewIsReadAnew(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.slots(30)
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		b.log.mu.Lock()
		b.log.entries = nil
		b.log.broken = errors.New("restarted")
		b.log.mu.Unlock()
		k.client.setDown(true)
		k.after(10 * time.Second)
		b.log.mu.Lock()
		b.log.broken = nil
		b.log.mu.Unlock()
		b.epoch++
		b.slots(3)
		k.client.setDown(false)
		k.after(time.Minute)
		b.slots(1)
		k.caughtUp(time.Minute)
	})
}

func TestACursorOfAnEarlierLogMakesNobodyDeaf(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.ports.Cursors = &cursors{at: map[string]uint64{k.target.Name: 1 << 40}}
		b.slots(5)
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		for range 5 {
			b.slots(1)
			k.after(100 * time.Millisecond)
			require.Equal(t, b.head, k.client.f.Head())
		}
		last, err := b.log.Last(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, k.r.Status().Cursor, last)
	})
}

func TestAForkchoiceThatThePrimaryTurnsOutToRefuseIsUnsaidWithoutAnOldCall(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(5)
		k.caughtUp(10 * time.Second)
		want := b.head
		// Verified, and without an outcome for so long that the secondary gets it.
		block := b.child(b.head)
		b.payload(block)
		request, _ := b.dispatch(forkchoice(block.Hash, common.Hash{}, common.Hash{}, "null"))
		b.log.append(request, nil)
		k.after(5 * time.Second)
		require.Equal(t, block.Hash, k.client.f.Head().Hash)
		b.log.append(nil, &record.Outcome{
			ID: request.ID, HTTPStatus: 200, Result: engineapi.Result{HTTPStatus: 200, Code: engineapi.CodeInvalidForkchoice},
		})
		b.primary.f.SetHead(want.Hash)
		k.client.setDown(true)
		k.after(20 * time.Second)
		k.client.setDown(false)
		k.caughtUp(time.Minute)
		judgeCalls(t, b, k.client.f.Calls(), eltest.GenesisBlock.Hash)
	})
}

func TestAnAcceptedPayloadIsForcedByAForkchoice(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(3)
		k := newKit(b, eltest.Config{})
		k.client.f.Fail(eltest.Fault{
			Methods: []string{"engine_newPayloadV4"}, Times: 1, Status: 200,
			Body: `{"jsonrpc":"2.0","id":1,"result":{"status":"ACCEPTED","latestValidHash":null,"validationError":null}}`,
		})
		k.start()
		defer k.stop()
		k.caughtUp(30 * time.Second)
		calls := k.client.f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice)
		p, err := calls[0].Call.Payload()
		require.NoError(t, err)
		f, err := calls[1].Call.Forkchoice()
		require.NoError(t, err)
		require.Equal(t, p.Hash, f.Head)
	})
}

func TestAStormOfForkchoicesCostsASlowSecondaryTwoCalls(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(3)
		k.caughtUp(10 * time.Second)
		k.client.f.Forget()
		k.client.f.Fail(eltest.Fault{Latency: time.Second})
		block := b.child(b.head)
		b.payload(block)
		for range 1000 {
			b.choose(block)
		}
		k.after(10 * time.Second)
		require.LessOrEqual(t, len(k.client.f.CallsOf(engineapi.ClassForkchoice)), 2)
		k.client.f.Recover()
		k.caughtUp(10 * time.Second)
	})
}
