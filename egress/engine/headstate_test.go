package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/egress/engine/compare"
	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

// sampled is a kit at the head whose head state is compared each second.
func sampled(b *bench) *kit {
	k := newKit(b, eltest.Config{})
	k.cfg.HeadStateEvery = time.Second
	k.ports.Primary = b.primary
	k.start()
	b.slots(8)
	k.anchored()
	k.caughtUp(10 * time.Second)
	return k
}

// anchored adds a slot whose forkchoice names a safe block.
func (k *kit) anchored() {
	block := k.child(k.head)
	k.payload(block)
	k.head = block
	k.call(forkchoice(block.Hash, k.tree[1].Hash, common.Hash{}, "null"))
}

// heads is how many samples were of a class.
func (k *kit) heads(c compare.Class) int {
	return int(testutil.ToFloat64(k.r.met.m.heads.WithLabelValues("second", c.String())))
}

// behindOurBack sends the client a forkchoice to its own head with another safe block.
func (k *kit) behindOurBack(safe common.Hash) {
	k.t.Helper()
	status, answer, err := k.client.serve(k.t.Context(), forkchoice(k.head.Hash, safe, common.Hash{}, "null"))
	require.NoError(k.t, err)
	require.Equal(k.t, engineapi.Valid, engineapi.ParseResult(status, answer).Verdict())
}

func TestTheHeadStateOfAHealthyClientIsThePrimarys(t *testing.T) {
	inBubble(t, func(b *bench) {
		k := sampled(b)
		defer k.stop()
		for range 10 {
			b.slots(1)
			k.after(2 * time.Second)
		}
		require.Greater(t, k.heads(compare.OK), 9)
		require.Zero(t, k.heads(compare.Warn)+k.heads(compare.Critical))
		require.Empty(t, k.events.list())
		require.False(t, k.client.overlap, "one call in flight")
	})
}

func TestTheHeadStateIsNotComparedUnlessItIsAskedFor(t *testing.T) {
	inBubble(t, func(b *bench) {
		k := newKit(b, eltest.Config{})
		k.ports.Primary = b.primary
		k.start()
		defer k.stop()
		b.slots(3)
		k.caughtUp(10 * time.Second)
		k.after(time.Hour)
		for _, c := range compare.Classes() {
			require.Zero(t, k.heads(c))
		}
	})
}

func TestAnotherStateRootIsACriticalEvent(t *testing.T) {
	inBubble(t, func(b *bench) {
		k := sampled(b)
		defer k.stop()
		k.client.f.SetStateRoot(b.head.Hash, common.Hash{66})
		k.after(time.Minute)
		events := k.events.list()
		require.Len(t, events, 1, "one as long as it lasts")
		e := events[0]
		require.Equal(t, compare.Critical, e.Class)
		require.Equal(t, "the same head with another stateRoot", e.Why)
		require.Equal(t, headStateMethod, e.Method)
		require.True(t, e.Confirmed)
		require.Equal(t, b.head.Hash, e.Block)
		require.Equal(t, b.head.Number, e.Number)
		require.Contains(t, string(e.PrimaryAnswer), b.head.Hash.Hex())
		require.Contains(t, e.SecondaryAnswer, common.Hash{66}.Hex())
		require.Contains(t, string(e.SecondaryVersion), `"SE"`)
		require.Regexp(t, `--seq [1-9]\d* --to http://second:8551`, e.Reproduce)
		require.Equal(t, 1, k.heads(compare.Transient), "the first one had to be confirmed")
		require.Greater(t, k.heads(compare.Critical), 10)
		require.Equal(t, Live, k.r.Status().State, "it is told, not acted on")
	})
}

func TestAnotherSafeBlockIsAWarningAgainOnceItWasRight(t *testing.T) {
	inBubble(t, func(b *bench) {
		k := sampled(b)
		defer k.stop()
		for n := range 2 {
			k.behindOurBack(b.tree[3].Hash)
			k.after(10 * time.Second)
			events := k.events.list()
			require.Len(t, events, n+1)
			require.Equal(t, compare.Warn, events[n].Class)
			require.True(t, strings.HasSuffix(events[n].Why, " safe"), events[n].Why)
			k.anchored() // the next forkchoice sets it right
			k.caughtUp(10 * time.Second)
			k.after(5 * time.Second)
		}
	})
}

func TestADifferenceThatPassesIsNoEvent(t *testing.T) {
	inBubble(t, func(b *bench) {
		k := sampled(b)
		defer k.stop()
		before := k.heads(compare.Transient)
		k.behindOurBack(b.tree[3].Hash)
		for k.heads(compare.Transient) == before {
			k.after(10 * time.Millisecond)
		}
		k.anchored()
		k.after(10 * time.Second)
		require.Empty(t, k.events.list())
		require.Equal(t, before+1, k.heads(compare.Transient))
	})
}

func TestAPrimaryThatHangsDoesNotHoldUpAClientThatIsCompared(t *testing.T) {
	inBubble(t, func(b *bench) {
		k := sampled(b)
		defer k.stop()
		b.primary.f.Fail(eltest.Fault{Methods: []string{"eth_getBlockByNumber"}, Hang: true})
		defer b.primary.f.Recover()
		for range 20 {
			k.after(700 * time.Millisecond)
			b.slots(1)
			k.after(10 * time.Millisecond)
			require.Equal(t, b.head.Number, k.client.f.Head().Number)
		}
	})
}

func TestAnAnswerThatIsNotWholeIsNoDifference(t *testing.T) {
	inBubble(t, func(b *bench) {
		k := sampled(b)
		defer k.stop()
		text := `{"jsonrpc":"2.0","id":1,"result":{"number":"0x8","hash":"` + b.head.Hash.Hex() + `"}}`
		k.client.f.Fail(eltest.Fault{Methods: []string{"eth_getBlockByNumber"}, Status: 200, Body: text})
		k.after(30 * time.Second)
		require.Empty(t, k.events.list())
		require.Greater(t, k.heads(compare.Transient), 10)
		require.Zero(t, k.heads(compare.Critical))
	})
}
