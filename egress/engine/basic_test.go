package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

func TestAFreshSecondaryThatComesLateCatchesUpFromTheRecordAlone(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.attributes = true
		b.slots(150)
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		s := k.caughtUp(10 * time.Second)
		require.Zero(t, s.LagBlocks)
		ok, why := s.InSync()
		require.True(t, ok, why)
		b.slots(20)
		k.caughtUp(10 * time.Second)
		judgeCalls(t, b, k.client.f.Calls(), eltest.GenesisBlock.Hash)
		require.False(t, k.client.overlap, "two calls at once")
	})
}

func TestI2NeitherAttributesNorGetPayloadReachAFollowerAndArityStays(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		for range 40 {
			block := b.child(b.head)
			b.payload(block)
			b.head = block
			id := b.call(forkchoice(block.Hash, common.Hash{}, common.Hash{}, attributesFor(block))).PayloadID
			require.NotEmpty(t, id)
			b.call([]byte(`{"jsonrpc":"2.0","id":3,"method":"engine_getPayloadV4","params":["` + id + `"]}`))
			k.after(time.Second)
		}
		columns := strings.Replace(strings.Replace(string(forkchoice(b.head.Hash, common.Hash{}, common.Hash{}, attributesFor(b.head))),
			"UpdatedV3", "UpdatedV4", 1), `]}`, `,"0x000000000000000000000000000000ff"]}`, 1)
		columns = strings.Replace(columns, `"withdrawals":[,"0x000000000000000000000000000000ff"]}`, `"withdrawals":[]}`, 1)
		b.call([]byte(columns))
		k.caughtUp(time.Minute)
		sent := k.client.f.CallsOf(engineapi.ClassPayload, engineapi.ClassForkchoice)
		require.NotEmpty(t, sent)
		for _, s := range sent {
			require.Equal(t, engineapi.ClassForkchoice, s.Call.Class(), "getPayload")
			f, err := s.Call.Forkchoice()
			require.NoError(t, err)
			require.False(t, f.Attributes)
			if s.Call.Method == "engine_forkchoiceUpdatedV4" {
				require.Equal(t, 3, f.Arity)
				require.Equal(t, `"0x000000000000000000000000000000ff"`, string(s.Call.Param(2)))
			} else {
				require.Equal(t, 2, f.Arity)
			}
		}
		require.Equal(t, "engine_forkchoiceUpdatedV4", sent[len(sent)-1].Call.Method)
	})
}

func TestI3ForkchoicesKeepTheirOrderWhenTheChainGoesAndComesBack(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(3)
		fork := b.head
		x, y := b.child(fork), b.child(fork)
		b.payload(x)
		b.payload(y)
		var want []common.Hash
		for range 5 { // A, B, A: the second A is no repeat of the first
			for _, block := range []eltest.Block{x, y} {
				k.after(time.Second)
				b.choose(block)
				want = append(want, block.Hash)
			}
		}
		k.caughtUp(10 * time.Second)
		var got []common.Hash
		for _, s := range k.client.f.CallsOf(engineapi.ClassForkchoice) {
			f, err := s.Call.Forkchoice()
			require.NoError(t, err)
			if f.Head == x.Hash || f.Head == y.Hash {
				got = append(got, f.Head)
			}
		}
		require.Equal(t, want, got)
		judgeCalls(t, b, k.client.f.Calls(), eltest.GenesisBlock.Hash)
	})
}

func TestI3AForkchoiceThatAnOlderDoorStoredLateRewindsNobody(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(5)
		old := b.head
		b.slots(5)
		k.caughtUp(10 * time.Second)
		request, outcome := b.dispatch(forkchoice(old.Hash, common.Hash{}, common.Hash{}, "null"))
		b.primary.f.SetHead(b.head.Hash) // it was dispatched long before, under another epoch
		request.Epoch, outcome.Epoch = 0, 0
		b.log.append(request, nil)
		b.log.append(nil, outcome)
		k.after(time.Minute)
		k.caughtUp(time.Second)
		judgeCalls(t, b, k.client.f.Calls(), eltest.GenesisBlock.Hash)
	})
}

func TestI4I5I6APayloadAlwaysFollowsItsParentAndAHeadItsPayload(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		// The consensus client syncs by ranges: payloads without a forkchoice, far beyond what a client
		// holds above its head.
		parent := b.head
		for range 140 {
			parent = b.child(parent)
			b.payload(parent)
		}
		orphan := b.child(b.child(parent)) // its parent was never sent
		b.payload(orphan)
		k.start()
		defer k.stop()
		k.after(10 * time.Second)
		b.primary.f.SetHead(b.tree[100].Hash)
		b.choose(b.tree[120])
		k.after(10 * time.Second)
		require.Equal(t, b.primary.f.Head(), k.client.f.Head())
		require.Equal(t, Live, k.r.Status().State)
		judgeCalls(t, b, k.client.f.Calls(), eltest.GenesisBlock.Hash)
	})
}

func TestI7TheHeadNeverGoesBackWhileCatchingUpOnOneBranch(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		b.slots(50)
		for i := 10; i < 50; i += 7 { // repeats of old heads, as a client that goes back and forth
			b.choose(b.tree[i])
			b.choose(b.tree[50])
		}
		b.slots(60)
		highest := uint64(0)
		k.client.hook(nil, func(engineapi.Call) error {
			n := k.client.f.Head().Number
			require.GreaterOrEqual(t, n, highest)
			highest = n
			return nil
		})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
	})
}

func TestI7TheConsensusClientMayTakeTheHeadBackItself(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(20)
		k := newKit(b, eltest.Config{})
		k.start()
		k.caughtUp(10 * time.Second)
		k.stop()
		b.choose(b.tree[15])
		k.start()
		defer k.stop()
		s := k.caughtUp(10 * time.Second)
		require.Equal(t, uint64(15), s.Number)
	})
}

func TestI11CallsThatNobodyVouchedForReachNoSecondary(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(3)
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		b.verified = false
		for _, status := range []int{401, 403, 0} {
			block := b.child(b.head)
			request, _ := b.dispatch(newPayload(block))
			b.log.append(request, nil)
			if status != 0 { // zero: no outcome is ever recorded
				b.log.append(nil, &record.Outcome{ID: request.ID, HTTPStatus: status})
			}
		}
		k.after(30 * time.Second)
		b.slots(1) // behind a call that is not decided yet
		k.after(time.Second)
		require.NotEqual(t, b.head.Number, k.client.f.Head().Number)
		k.after(time.Minute)
		k.caughtUp(time.Second)
		require.Len(t, k.client.f.CallsOf(engineapi.ClassReplay), 4)
	})
}

func TestRule22ACallWithoutAnOutcomeIsReplayedOnlyIfItsTokenWasVerified(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(3)
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		block := b.child(b.head)
		for _, body := range [][]byte{newPayload(block), forkchoice(block.Hash, common.Hash{}, common.Hash{}, "null")} {
			request, _ := b.dispatch(body)
			b.log.append(request, nil)
		}
		k.after(time.Second)
		require.NotEqual(t, block.Hash, k.client.f.Head().Hash)
		k.after(10 * time.Second)
		require.Equal(t, block.Hash, k.client.f.Head().Hash)
	})
}

func TestI9KilledAtAnyPointAReplayerEndsAtTheSameHead(t *testing.T) {
	for _, point := range []string{"before a call", "behind an answer", "at the cursor"} {
		t.Run(point, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				t := b.t
				b.slots(70)
				k := newKit(b, eltest.Config{})
				killed := errors.New("killed")
				n, kills := 0, 0
				die := func(engineapi.Call) error {
					if n++; n%13 == 0 {
						return killed
					}
					return nil
				}
				switch point {
				case "before a call":
					k.client.hook(die, nil)
				case "behind an answer":
					k.client.hook(nil, die)
				default:
					k.ports.Cursors = &cursors{save: func() error { return die(engineapi.Call{}) }}
				}
				for range 30 {
					k.start()
					k.after(300 * time.Millisecond)
					k.stop() // whatever is under way is lost with the process
					kills++
					b.slots(2)
				}
				k.client.hook(nil, nil)
				k.start()
				defer k.stop()
				k.caughtUp(time.Minute)
				judgeRestarts(t, b, k)
			})
		})
	}
}

// judgeRestarts is judgeCalls for a client that several processes drove: each starts from the head that
// it finds, so only order and I2 hold across them.
func judgeRestarts(t *testing.T, b *bench, k *kit) {
	t.Helper()
	last := uint64(0)
	for _, s := range k.client.f.CallsOf(engineapi.ClassForkchoice) {
		f, err := s.Call.Forkchoice()
		require.NoError(t, err)
		require.False(t, f.Attributes)
		i := slices.IndexFunc(b.tree, func(block eltest.Block) bool { return block.Hash == f.Head })
		require.GreaterOrEqual(t, b.tree[i].Number, last, "a stale forkchoice")
		if engineapi.ParseResult(s.HTTPStatus, s.Answer).Verdict() == engineapi.Valid {
			last = b.tree[i].Number
		}
	}
}
