package engine

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

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

func TestAClientWithoutASecretGetsLiveCallsOnly(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(40)
		k := newKit(b, eltest.Config{})
		var fresh atomic.Bool
		k.target.LiveOnly = true
		k.client.hook(func(engineapi.Call) error {
			if !fresh.Load() {
				return ErrNoToken
			}
			return nil
		}, nil)
		k.start()
		defer k.stop()
		k.after(time.Minute)
		require.Equal(t, "no_token", k.r.Status().Reason)
		require.False(t, k.r.Status().BreakerOpen, "it is not the client's fault")
		fresh.Store(true)
		k.after(10 * time.Second)
		s := k.r.Status()
		require.Equal(t, LiveOnly, s.State)
		require.Equal(t, "no_secret", s.Reason)
		require.LessOrEqual(t, len(k.client.f.CallsOf(engineapi.ClassReplay)), 1)
		// Its peers bring it near, the live calls do the rest.
		for _, block := range b.tree[:39] {
			k.client.f.Add(block)
		}
		k.client.f.SetHead(b.tree[38].Hash)
		b.slots(1)
		k.after(30 * time.Second)
		require.Equal(t, b.head, k.client.f.Head())
		require.Equal(t, LiveOnly, k.r.Status().State)
		b.slots(3)
		k.after(10 * time.Second)
		require.Equal(t, b.head, k.client.f.Head())
		ok, _ := k.r.Status().InSync()
		require.False(t, ok, "it can't be promoted: nobody could mint for it")
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
		for range 200 {
			k.after(700 * time.Millisecond)
			require.Equal(t, Follow, k.r.Status().State, "it stays there while its head does")
		}
		k.client.f.SetSnap(eltest.SnapOff)
		for _, block := range b.tree {
			k.client.f.Add(block)
		}
		k.client.f.SetHead(b.tree[38].Hash)
		k.caughtUp(time.Minute)
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

// geth under the path scheme, killed: it knows blocks without their state, says VALID to forkchoices that it
// does not apply, SYNCING to what follows, and that it is syncing.
func TestASyncingClientWhoseHeadStaysIsNamedAndNotTriedAgain(t *testing.T) {
	for peers, state := range map[int]State{0: NeedsResync, 3: Follow} {
		inBubble(t, func(b *bench) {
			t := b.t
			b.slots(60)
			k := newKit(b, eltest.Config{OnKill: eltest.KillWrecks, Peers: peers})
			k.start()
			defer k.stop()
			k.caughtUp(10 * time.Second)
			k.client.f.Kill()
			for _, block := range b.tree[:10] { // what it had written down
				k.client.f.Add(block)
			}
			k.client.f.SetHead(b.tree[9].Hash)
			k.client.f.SetSnap(eltest.SnapOn)
			b.slots(10)
			k.after(k.cfg.StallTime + 2*k.cfg.RetryMax)
			for range 200 {
				s := k.r.Status()
				require.Equal(t, state, s.State, "it stays there while its head does")
				require.Equal(t, "syncing", s.Reason)
				k.after(700 * time.Millisecond)
			}
		})
	}
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

func TestAClientIsNotFedBeforeThePrimarysChainIsKnown(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(20)
		last, err := b.log.Last(t.Context())
		require.NoError(t, err)
		b.log.expire(last - 5)
		b.primary.setDown(true)
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.after(time.Minute)
		require.Equal(t, Follow, k.r.Status().State)
		require.Empty(t, k.client.f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice))
		b.primary.setDown(false)
		k.after(30 * time.Second)
		require.Equal(t, Follow, k.r.Status().State)
		require.Len(t, k.client.f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice), 2)
	})
}

func TestACallThatTheLogLostIsForgotten(t *testing.T) {
	for range 10 { // one time in fifty the replayer still has the call when the log loses it
		if lostFromTheLog(t) {
			return
		}
	}
	require.Fail(t, "the call was never lost")
}

// lostFromTheLog reports whether there was a gap to be named.
func lostFromTheLog(t *testing.T) (gap bool) {
	t.Helper()
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.cfg.MaxBodies = 1
		b.slots(5)
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		k.client.setDown(true)
		b.slots(10)
		k.after(time.Second)
		b.log.mu.Lock()
		b.log.entries = slices.DeleteFunc(b.log.entries, func(e record.Entry) bool {
			return e.Request != nil && e.Request.Payload != nil && e.Request.Payload.Number == 10
		})
		b.log.mu.Unlock()
		k.client.setDown(false)
		k.after(5 * time.Minute)
		if k.r.Status().State == Live {
			return
		}
		gap = true
		require.Equal(t, Follow, k.r.Status().State)
		require.Equal(t, uint64(10), k.r.Status().Gap.To)
		require.Less(t, len(k.client.f.CallsOf(engineapi.ClassReplay)), 30)
		b.payload(b.tree[10])
		b.slots(1)
		k.client.setDown(true) // away, so that it is asked where it is
		k.after(time.Minute)
		k.client.setDown(false)
		k.caughtUp(time.Minute)
	})
	return gap
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
