package engine

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/egress/engine/compare"
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
			k := newKit(b, eltest.Config{OnKill: []eltest.Kill{eltest.KillKeeps, eltest.KillLoses}[seed/2%2]})
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

func TestI13ARetentionGapIsANamedStateAndANeverEndingSyncTooEnds(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(100)
		b.log.expire(101) // 25 blocks and their forkchoices are gone
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.after(10 * time.Second)
		s := k.r.Status()
		require.Equal(t, Follow, s.State)
		require.NotNil(t, s.Gap)
		require.Equal(t, uint64(1), s.Gap.From)
		require.Equal(t, uint64(25), s.Gap.To)
		require.Contains(t, s.Reason, "gap")
		b.slots(2)
		k.after(time.Minute)
		require.Equal(t, Follow, k.r.Status().State)
		require.LessOrEqual(t, len(k.client.f.CallsOf(engineapi.ClassReplay)), 3, "only the newest each time it looked")
		// Its peers bring it the missing blocks.
		for _, block := range b.tree[:60] {
			k.client.f.Add(block)
		}
		k.client.f.SetHead(b.tree[59].Hash)
		k.caughtUp(time.Minute)
		require.Nil(t, k.r.Status().Gap)
	})
}

func TestAnIndexThatIsFullNamesTheGapAsTheLogDoes(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(100)
		k := newKit(b, eltest.Config{})
		k.cfg.MaxCalls = 50
		k.start()
		defer k.stop()
		k.after(10 * time.Second)
		s := k.r.Status()
		require.Equal(t, Follow, s.State)
		require.Equal(t, uint64(75), s.Gap.To)
	})
}

func TestASyncingThatNeverEndsIsNamedAndAWipeHelps(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(40)
		k := newKit(b, eltest.Config{Snap: true})
		k.start()
		defer k.stop()
		k.after(5 * time.Minute)
		s := k.r.Status()
		require.Equal(t, NeedsResync, s.State)
		require.Equal(t, "syncing", s.Reason)
		probes := len(k.client.attempts())
		k.after(10 * time.Minute)
		require.Less(t, len(k.client.attempts())-probes, 30, "it is left alone")
		require.Equal(t, NeedsResync, k.r.Status().State)
		k.client.setDown(true) // the operator sets it up again
		k.after(time.Minute)
		k.client.f.Wipe()
		k.client.f.SetSnap(eltest.SnapOff)
		k.client.setDown(false)
		k.caughtUp(2 * time.Minute)
	})
}

func TestASyncingClientWithPeersIsFed(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(40)
		k := newKit(b, eltest.Config{Snap: true, Peers: 3})
		k.start()
		defer k.stop()
		k.after(5 * time.Minute)
		require.Equal(t, Follow, k.r.Status().State)
		k.client.f.SetSnap(eltest.SnapOff)
		for _, block := range b.tree {
			k.client.f.Add(block)
		}
		k.client.f.SetHead(b.tree[38].Hash)
		k.caughtUp(time.Minute)
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

func TestAClientThatSaysValidAndDoesNotApplyNeedsAResync(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(60)
		k := newKit(b, eltest.Config{OnKill: eltest.KillWrecks})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		k.client.f.Kill()
		k.after(time.Minute)
		s := k.r.Status()
		require.Equal(t, NeedsResync, s.State)
		require.Equal(t, "head_not_applied", s.Reason)
		require.False(t, s.ForeignWriter)
		k.client.f.Wipe()
		k.r.SetMode(ModeFollow) // how an operator says that it is well again
		k.caughtUp(30 * time.Second)
	})
}

func TestAForeignWriterIsNamedAndSetRight(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(10)
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		alien := eltest.Child(b.tree[8], 4711)
		k.client.f.Add(alien)
		k.client.f.SetHead(alien.Hash)
		flagged := false
		k.client.hook(func(engineapi.Call) error {
			flagged = flagged || k.r.Status().ForeignWriter
			return nil
		}, nil)
		k.after(15 * time.Second)
		k.caughtUp(10 * time.Second)
		require.True(t, flagged)
	})
}

func TestAClientOnAnotherChainGetsNothing(t *testing.T) {
	for name, cfg := range map[string]eltest.Config{
		"chain id": {ChainID: 1},
		"genesis":  {Genesis: eltest.Block{Hash: common.Hash{9}}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				t := b.t
				b.slots(10)
				k := newKit(b, cfg)
				k.start()
				defer k.stop()
				k.after(5 * time.Minute)
				s := k.r.Status()
				require.Equal(t, Halted, s.State)
				require.Equal(t, "wrong_chain", s.Reason)
				require.Empty(t, k.client.f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice))
			})
		})
	}
}

func TestAClientThatLacksAVersionIsHaltedUntilItIsUpgraded(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(3)
		k := newKit(b, eltest.Config{Capabilities: []string{"engine_newPayloadV3", "engine_forkchoiceUpdatedV3"}})
		k.start()
		defer k.stop()
		k.after(10 * time.Second)
		s := k.r.Status()
		require.Equal(t, Halted, s.State)
		require.Equal(t, "unsupported: engine_newPayloadV4", s.Reason)
	})
}

func TestFaultsThatAnOperatorHasToMendHaltTheClient(t *testing.T) {
	for name, c := range map[string]struct {
		fault  eltest.Fault
		reason string
	}{
		"401 at once":    {eltest.Fault{Status: http.StatusUnauthorized, Body: "stale token"}, "auth: "},
		"403 at once":    {eltest.Fault{Status: http.StatusForbidden, Body: "invalid host specified"}, "auth: "},
		"401 later":      {eltest.Fault{Methods: []string{"engine_newPayloadV4"}, Status: http.StatusUnauthorized, Body: "stale token"}, "auth: "},
		"413":            {eltest.Fault{Methods: []string{"engine_newPayloadV4"}, Status: http.StatusRequestEntityTooLarge}, "config: "},
		"415":            {eltest.Fault{Methods: []string{"engine_newPayloadV4"}, Status: http.StatusUnsupportedMediaType}, "config: "},
		"unknown method": {eltest.Fault{Methods: []string{"engine_newPayloadV4"}, Status: 200, Body: answerError(-32601)}, "unsupported"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				t := b.t
				b.slots(3)
				k := newKit(b, eltest.Config{})
				k.client.f.Fail(c.fault)
				k.start()
				defer k.stop()
				k.after(time.Second)
				s := k.r.Status()
				require.Equal(t, Halted, s.State)
				require.True(t, strings.HasPrefix(s.Reason, c.reason), s.Reason)
				calls := len(k.client.attempts())
				k.after(25 * time.Second)
				require.Len(t, k.client.attempts(), calls, "nothing is sent while it is halted")
				k.client.f.Recover()
				k.caughtUp(time.Minute)
			})
		})
	}
}

func answerError(code int) string {
	return `{"jsonrpc":"2.0","id":1,"error":{"code":` + strconv.Itoa(code) + `,"message":"no"}}`
}

func TestATokenThatIsRefusedOnceIsMintedAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.slots(3)
		k := newKit(b, eltest.Config{})
		k.client.f.Fail(eltest.Fault{Methods: []string{"engine_newPayloadV4"}, Times: 1, Status: http.StatusUnauthorized})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
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

func TestABlockThatOnlyTheSecondaryRefusesIsOneEventWithItsRoot(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(5)
		k.caughtUp(10 * time.Second)
		fork := b.head
		bad := b.child(b.head)
		k.client.f.Reject(bad.Hash)
		b.payload(bad)
		b.choose(bad)
		k.after(10 * time.Second)
		for range 5 {
			b.slots(1)
			k.after(12 * time.Second)
		}
		require.Equal(t, Diverged, k.r.Status().State)
		events := k.events.list()
		require.Len(t, events, 1, "descendants count under the root")
		e := events[0]
		require.Equal(t, compare.Critical, e.Class)
		require.Equal(t, bad.Hash, e.Root)
		require.Equal(t, "engine_newPayloadV4", e.Method)
		require.True(t, e.Confirmed)
		require.Contains(t, e.SecondaryAnswer, "INVALID")
		require.Contains(t, string(e.PrimaryAnswer), `"VALID"`)
		require.Contains(t, string(e.PrimaryVersion), `"PR"`)
		require.Contains(t, string(e.SecondaryVersion), `"SE"`)
		require.Regexp(t, `^millrace replay engine --mode verbatim --seq \d+ --to http://second:8551 --jwt-secret FILE$`, e.Reproduce)
		// The network leaves the branch.
		b.head = fork
		b.slots(2)
		k.caughtUp(30 * time.Second)
		require.Len(t, k.events.list(), 1)
		// Another build of the client takes the block that the old one refused.
		k.client.f.Reject(b.child(b.head).Hash)
		b.payload(b.tree[len(b.tree)-1])
		b.choose(b.tree[len(b.tree)-1])
		k.after(20 * time.Second)
		require.Equal(t, Diverged, k.r.Status().State)
		k.client.f.Accept(b.head.Hash)
		k.client.f.Stop()
		b.slots(1)
		k.caughtUp(time.Minute)
	})
}

func TestARefusalThatIsTakenBackIsNoDivergence(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(3)
		k := newKit(b, eltest.Config{})
		k.client.f.Fail(eltest.Fault{
			Methods: []string{"engine_newPayloadV4"}, Times: 1, Status: 200,
			Body: `{"jsonrpc":"2.0","id":1,"result":{"status":"INVALID","latestValidHash":null,"validationError":"bad"}}`,
		})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		require.Empty(t, k.events.list())
	})
}

func TestABlockThatBothRefuseIsNoDivergence(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(3)
		bad := b.child(b.head)
		b.primary.f.Reject(bad.Hash)
		k.client.f.Reject(bad.Hash)
		good := b.head
		b.payload(bad)
		b.choose(bad)
		b.payload(b.child(bad))
		b.head = good
		b.slots(3)
		k.caughtUp(10 * time.Second)
		require.Empty(t, k.events.list())
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
