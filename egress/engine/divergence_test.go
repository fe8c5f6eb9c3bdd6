package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/egress/engine/compare"
	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

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

func TestABlockRefusedFarBelowTheTipIsNotTriedOverAndOver(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		b.slots(5)
		bad := b.child(b.head)
		b.payload(bad)
		b.choose(bad)
		b.slots(5)
		k.client.f.Reject(bad.Hash)
		k.start()
		defer k.stop()
		k.after(10 * time.Second)
		require.Equal(t, Diverged, k.r.Status().State)
		for range 5 {
			k.client.f.Forget()
			b.slots(3)
			for range 12 {
				require.Equal(t, Diverged, k.r.Status().State)
				k.after(time.Second)
			}
			require.LessOrEqual(t, len(k.client.f.CallsOf(engineapi.ClassReplay)), 4)
		}
		require.Len(t, k.events.list(), 1)
		k.client.f.Accept(bad.Hash)
		b.slots(3)
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

func TestTheEvidenceHasTheAnswerOfAClientThatSaysValidToAnotherBlock(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(3)
		k.caughtUp(10 * time.Second)
		answer := `{"jsonrpc":"2.0","id":1,"result":{"status":"VALID","latestValidHash":"` + b.head.Hash.Hex() + `","validationError":null}}`
		k.client.f.Fail(eltest.Fault{Methods: []string{"engine_newPayloadV4"}, Times: 1, Status: 200, Body: answer})
		b.payload(b.child(b.head))
		k.after(time.Second)
		events := k.events.list()
		require.Len(t, events, 1)
		require.Equal(t, compare.Critical, events[0].Class)
		require.Equal(t, answer, events[0].SecondaryAnswer)
		require.False(t, events[0].Confirmed)
	})
}

func TestARefusalIsConfirmedOnlyByARefusal(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(3)
		k.caughtUp(10 * time.Second)
		bad := b.child(b.head)
		k.client.f.Reject(bad.Hash)
		times := 0
		k.client.hook(func(c engineapi.Call) error {
			if c.Class() == engineapi.ClassReplay {
				if times++; times > 1 {
					return errDown
				}
			}
			return nil
		}, nil)
		b.payload(bad)
		k.after(10 * time.Minute)
		events := k.events.list()
		require.Len(t, events, 1)
		require.Equal(t, compare.Critical, events[0].Class)
		require.False(t, events[0].Confirmed)
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

func TestAnErrorThatOnlyTheSecondaryAnswersIsAnEventAndStopsNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(3)
		k.caughtUp(10 * time.Second)
		k.client.f.Fail(eltest.Fault{Methods: []string{"engine_forkchoiceUpdatedV3"}, Times: 1, Status: 200, Body: answerError(-32602)})
		b.slots(1)
		k.after(time.Second)
		b.slots(1)
		k.caughtUp(10 * time.Second)
		events := k.events.list()
		require.Len(t, events, 1)
		require.Equal(t, compare.Config, events[0].Class)
		require.Equal(t, "engine_forkchoiceUpdatedV3", events[0].Method)
		require.False(t, events[0].Confirmed)
	})
}

func TestAnOutcomeThatComesLateIsStillCompared(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		b.slots(3)
		k.caughtUp(10 * time.Second)
		block := b.child(b.head)
		request, outcome := b.dispatch(newPayload(block))
		k.client.f.Reject(block.Hash)
		b.log.append(request, nil)
		k.after(10 * time.Second)
		require.Empty(t, k.events.list(), "what the primary says is not known yet")
		b.log.append(nil, outcome)
		k.after(time.Second)
		events := k.events.list()
		require.Len(t, events, 1)
		require.Equal(t, compare.Critical, events[0].Class)
		require.True(t, events[0].Confirmed)
	})
}
