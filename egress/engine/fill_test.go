package engine

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"

	"millrace/egress/engine/chain"
	"millrace/internal/eltest"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

// gapped is a kit whose record lost its first 25 of 50 blocks.
func gapped(b *bench, cfg eltest.Config) *kit {
	b.slots(50)
	b.log.expire(101)
	k := newKit(b, cfg)
	k.ports.Primary = b.primary
	return k
}

func TestAGapIsFilledFromThePrimary(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := gapped(b, eltest.Config{})
		k.cfg.Checkpoint = 4
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		b.slots(2)
		k.caughtUp(10 * time.Second)
		require.Nil(t, k.r.Status().Gap)
		// I4, I6: each on its parent, and never many without a forkchoice.
		since, at := 0, eltest.GenesisBlock.Hash
		for _, s := range k.client.f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice) {
			if s.Call.Class() == engineapi.ClassForkchoice {
				since = 0
				continue
			}
			p, err := s.Call.Payload()
			require.NoError(t, err)
			require.Equal(t, at, p.Parent)
			at = p.Hash
			since++
			require.LessOrEqual(t, since, 4)
		}
		require.Empty(t, k.events.list())
	})
}

func TestAClientOnAnotherBranchIsFilledFromWhereItLeft(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := gapped(b, eltest.Config{})
		side := eltest.Child(b.tree[10], 1_000_000)
		for _, block := range append(append([]eltest.Block{}, b.tree[1:11]...), side) {
			k.client.f.Add(block)
		}
		k.client.f.SetHead(side.Hash)
		k.start()
		defer k.stop()
		k.caughtUp(10 * time.Second)
		p, err := k.client.f.CallsOf(engineapi.ClassReplay)[0].Call.Payload()
		require.NoError(t, err)
		require.Equal(t, uint64(11), p.Number, "what it has is not sent")
	})
}

func TestABlockWithExecutionRequestsCanNotBeFilled(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.primary.f = eltest.NewFake(eltest.Config{Name: "PR", RequestsAt: 9})
		k := gapped(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.after(10 * time.Second)
		s := k.r.Status()
		require.Equal(t, Follow, s.State)
		require.NotNil(t, s.Gap)
		require.Contains(t, s.Reason, "execution requests")
		require.LessOrEqual(t, len(k.client.f.CallsOf(engineapi.ClassReplay)), 1, "it is not brought half of the way")
	})
}

func TestAPrimaryThatDoesNotAnswerIsAskedForTheGapAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		k := gapped(b, eltest.Config{})
		ports := k.ports
		ports.Chain.Identity(t.Context()) // known before
		b.primary.setDown(true)
		k.start()
		defer k.stop()
		k.after(10 * time.Second)
		require.Equal(t, Follow, k.r.Status().State)
		require.Contains(t, k.r.Status().Reason, "not filled")
		b.primary.setDown(false)
		k.caughtUp(2 * time.Minute)
	})
}

// Geth's own payloads, taken apart into what the primary would answer and put together again.
func TestAPayloadIsRebuiltAsItWas(t *testing.T) {
	f, err := os.Open("../../internal/eltest/testdata/sample.jsonl")
	require.NoError(t, err)
	defer f.Close()
	versions := map[int]bool{}
	for p, err := range record.ReadPairs(f) {
		require.NoError(t, err)
		if engineapi.Classify(p.Method) != engineapi.ClassReplay {
			continue
		}
		var call struct {
			Params []json.RawMessage `json:"params"`
		}
		require.NoError(t, json.Unmarshal(p.Request, &call))
		h, b := takenApart(t, call.Params)
		step, body, err := rebuild(7, h, b)
		if h.lacksRequests() {
			require.ErrorIs(t, err, errRequests)
			continue
		}
		require.NoError(t, err)
		versions[h.version()] = true
		require.Equal(t, p.Method, step.Call.Method)
		calls, _, err := engineapi.ParseCalls(body)
		require.NoError(t, err)
		require.Equal(t, len(call.Params), calls[0].Arity())
		call.Params[0] = withoutNulls(t, call.Params[0]) // the capture's client writes what a fork does not have
		for i, want := range call.Params {
			require.JSONEq(t, string(want), string(calls[0].Param(i)), p.Method)
		}
		payload, err := calls[0].Payload()
		require.NoError(t, err)
		require.Equal(t, step.Call.Payload, payload)
		require.Equal(t, chain.Payload, step.Kind)
	}
	require.Len(t, versions, 5, "%v", versions)
}

func withoutNulls(t *testing.T, object json.RawMessage) json.RawMessage {
	t.Helper()
	var all map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(object, &all))
	for k, v := range all {
		if string(v) == "null" {
			delete(all, k)
		}
	}
	b, err := json.Marshal(all)
	require.NoError(t, err)
	return b
}

// takenApart is a newPayload call's block as eth_getBlockByHash and engine_getPayloadBodiesByHash show it.
func takenApart(t *testing.T, params []json.RawMessage) (*header, *blockBody) {
	t.Helper()
	var payload, shown map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(params[0], &payload))
	shown = map[string]json.RawMessage{}
	for of, in := range map[string]string{
		"parentHash": "parentHash", "feeRecipient": "miner", "stateRoot": "stateRoot", "receiptsRoot": "receiptsRoot", "logsBloom": "logsBloom",
		"prevRandao": "mixHash", "blockNumber": "number", "gasLimit": "gasLimit", "gasUsed": "gasUsed", "timestamp": "timestamp",
		"extraData": "extraData", "baseFeePerGas": "baseFeePerGas", "blockHash": "hash", "blobGasUsed": "blobGasUsed",
		"excessBlobGas": "excessBlobGas", "slotNumber": "slotNumber",
	} {
		if v, ok := payload[of]; ok {
			shown[in] = v
		}
	}
	root := json.RawMessage(strconv.Quote(common.Hash{1}.Hex()))
	if v := payload["withdrawals"]; v != nil && string(v) != "null" {
		shown["withdrawalsRoot"] = root
	}
	if len(params) > 2 {
		shown["parentBeaconBlockRoot"] = params[2]
	}
	if len(params) > 3 {
		shown["requestsHash"] = root
		if string(params[3]) == "[]" {
			shown["requestsHash"] = json.RawMessage(strconv.Quote(types.EmptyRequestsHash.Hex()))
		}
	}
	if _, ok := payload["blockAccessList"]; ok {
		shown["blockAccessListHash"] = root
	}
	text, err := json.Marshal(shown)
	require.NoError(t, err)
	h, err := readHeader(text)
	require.NoError(t, err)
	text, err = json.Marshal([]any{map[string]json.RawMessage{
		"transactions": payload["transactions"], "withdrawals": payload["withdrawals"], "blockAccessList": payload["blockAccessList"],
	}})
	require.NoError(t, err)
	bodies, err := readBodies(text, 1)
	require.NoError(t, err)
	return h, bodies[0]
}

func FuzzReadBlock(f *testing.F) {
	f.Add([]byte(`{"hash":"0xacaf5d479ced4385602960a10abe658ffe5ad080ecf9a871f6db77ee03a6d9b7","number":"0x1"}`), []byte(`[{"transactions":["0x03"],"withdrawals":[]}]`))
	f.Add([]byte(`null`), []byte(`[null]`))
	f.Fuzz(func(t *testing.T, head, bodies []byte) {
		h, err := readHeader(head)
		if err != nil {
			require.Nil(t, h)
			return
		}
		all, err := readBodies(bodies, 1)
		if err != nil {
			require.Nil(t, all)
			return
		}
		if step, body, err := rebuild(1, h, all[0]); err == nil {
			calls, _, err := engineapi.ParseCalls(body)
			require.NoError(t, err)
			p, err := calls[0].Payload()
			require.NoError(t, err)
			require.Equal(t, step.Call.Payload, p)
		}
	})
}
