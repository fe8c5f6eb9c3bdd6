package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

// The consensus client asks the primary for witnesses; the secondary has never heard of them.
func TestCallsThatAskForAWitnessAreReplayedWithoutIt(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := newKit(b, eltest.Config{Capabilities: []string{"engine_newPayloadV4", "engine_forkchoiceUpdatedV3"}})
		asking := func(body []byte) []byte {
			return []byte(strings.NewReplacer("engine_newPayloadV", "engine_newPayloadWithWitnessV", "UpdatedV", "UpdatedWithWitnessV").Replace(string(body)))
		}
		slots := func(n int) {
			for range n {
				block := b.child(b.head)
				require.Equal(t, engineapi.StatusValid, b.call(asking(newPayload(block))).Status)
				b.head = block
				b.call(asking(forkchoice(block.Hash, common.Hash{}, common.Hash{}, attributesFor(block))))
			}
		}
		slots(50)
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		slots(5)
		k.caughtUp(10 * time.Second)
		require.Equal(t, b.head.Hash, k.client.f.Head().Hash)
		methods := map[string]bool{}
		for _, s := range k.client.f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice) {
			methods[s.Call.Method] = true
			if s.Call.Class() == engineapi.ClassForkchoice {
				f, err := s.Call.Forkchoice()
				require.NoError(t, err)
				require.False(t, f.Attributes)
			}
		}
		require.Equal(t, map[string]bool{"engine_newPayloadV4": true, "engine_forkchoiceUpdatedV3": true}, methods)
		require.Empty(t, k.events.list())
	})
}
