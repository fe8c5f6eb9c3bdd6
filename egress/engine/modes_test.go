package engine

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

// choices is a Modes that a test sets.
type choices struct {
	mu   sync.Mutex
	tell func(string)
}

func (c *choices) Watch(ctx context.Context, _ string, f func(string)) error {
	c.mu.Lock()
	c.tell = f
	c.mu.Unlock()
	f("")
	<-ctx.Done()
	return ctx.Err()
}

func (c *choices) choose(mode string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(mode)
}

func TestModesAreSwitchedAtRunTime(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		modes := &choices{}
		k.ports.Modes = modes
		k.target.Mode = ModeOff
		k.start()
		defer k.stop()
		b.slots(3)
		k.after(10 * time.Minute)
		require.Empty(t, k.client.attempts(), "off")
		require.Equal(t, Off, k.r.Status().State)

		modes.choose("observe")
		k.after(time.Minute)
		require.NotEmpty(t, k.client.attempts())
		require.Empty(t, k.client.f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice), "observe")
		s := k.r.Status()
		require.Equal(t, Observing, s.State)
		require.Equal(t, uint64(3), s.LagBlocks)

		modes.choose("follow")
		k.caughtUp(time.Minute)
		modes.choose("nonsense")
		b.slots(1)
		k.caughtUp(time.Minute)
		modes.choose("off")
		b.slots(3)
		k.after(time.Minute)
		require.Equal(t, uint64(4), k.client.f.Head().Number)
		modes.choose("follow")
		k.caughtUp(time.Minute)
	})
}

func TestAShadowBuilderGetsAttributesAndItsOwnPayloadIDs(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.target.Mode = ModeShadowBuild
		k.start()
		defer k.stop()
		b.attributes = true
		b.slots(5) // these are caught up without attributes, or live with
		k.caughtUp(10 * time.Second)
		k.client.f.Forget()
		for range 5 {
			block := b.child(b.head)
			b.payload(block)
			b.head = block
			b.call(forkchoice(block.Hash, common.Hash{}, common.Hash{}, "null"))
			id := b.call(forkchoice(block.Hash, common.Hash{}, common.Hash{}, attributesFor(block))).PayloadID
			k.after(4 * time.Second)
			b.call([]byte(`{"jsonrpc":"2.0","id":3,"method":"engine_getPayloadV4","params":["` + id + `"]}`))
			k.after(8 * time.Second)
		}
		sent := k.client.f.CallsOf(engineapi.ClassPayload)
		require.Len(t, sent, 5)
		given := map[string]bool{}
		for _, s := range k.client.f.CallsOf(engineapi.ClassForkchoice) {
			if id := engineapi.ParseResult(s.HTTPStatus, s.Answer).PayloadID; id != "" {
				given[id] = true
			}
		}
		for _, s := range sent {
			require.True(t, given[s.Call.PayloadID()], "an id of the client's own")
			require.True(t, engineapi.ParseResult(s.HTTPStatus, s.Answer).OK())
		}
		require.InDelta(t, 5, testutil.ToFloat64(k.r.met.m.compares.WithLabelValues("second", "engine_getPayloadV4", "ok")), 0)
		require.Equal(t, 1, testutil.CollectAndCount(k.r.met.m.builtValue))
	})
}

func TestAttributesThatOnlyThePrimaryRefusesAreADifferenceOfAShadowBuilder(t *testing.T) {
	for mode, events := range map[Mode]int{ModeFollow: 0, ModeShadowBuild: 1} {
		inBubble(t, func(b *bench) {
			t := b.t
			k := newKit(b, eltest.Config{})
			k.target.Mode = mode
			k.start()
			defer k.stop()
			b.slots(3)
			k.caughtUp(10 * time.Second)
			b.attributes = true
			b.primary.f.Fail(eltest.Fault{Methods: []string{"engine_forkchoiceUpdatedV3"}, Times: 1, Status: 200, Body: answerError(-38003)})
			b.slots(1)
			k.after(5 * time.Second)
			require.Len(t, k.events.list(), events, mode)
		})
	}
}

func TestFurtherMethodsAreSentOnlyToWhoAsksForThem(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		for _, also := range [][]string{nil, {"eth_sendRaw*"}} {
			k := newKit(b, eltest.Config{})
			k.target.Also = also
			k.start()
			b.slots(2)
			k.caughtUp(10 * time.Second)
			b.call([]byte(`{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x02"]}`))
			b.call([]byte(`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{}]}`))
			b.slots(1)
			k.caughtUp(10 * time.Second)
			n := 0
			for _, s := range k.client.f.Calls() {
				require.NotEqual(t, "eth_call", s.Call.Method)
				if s.Call.Method == "eth_sendRawTransaction" {
					n++
				}
			}
			require.Equal(t, len(also), n)
			k.stop()
		}
	})
}

func TestMetricsSayWhatIsSentComparedAndLeftOutAndEndWithTheReplayer(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.slots(100)
		k := newKit(b, eltest.Config{})
		k.start()
		k.caughtUp(10 * time.Second)
		m := k.r.met.m
		collapsed := testutil.ToFloat64(m.skips.WithLabelValues("second", "collapsed"))
		require.Greater(t, collapsed, 90.0, "forkchoices that the plan left out")
		require.InDelta(t, collapsed, testutil.ToFloat64(m.compares.WithLabelValues("second", "engine_forkchoiceUpdatedV3", "not_compared")), 0)
		b.slots(1)
		k.caughtUp(10 * time.Second)
		require.InDelta(t, 101, testutil.ToFloat64(m.compares.WithLabelValues("second", "engine_newPayloadV4", "ok")), 0)
		require.InDelta(t, 1, testutil.ToFloat64(m.states.WithLabelValues("second", "live")), 0)
		require.InDelta(t, 0, testutil.ToFloat64(m.lagBlocks.WithLabelValues("second")), 0)
		k.stop()
		k.r.Status()
		families, err := k.reg.Gather()
		require.NoError(t, err)
		require.Empty(t, families, "a replayer that ended has no series")
	})
}
