package engineapi

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyAVersionMayFollowAStem(t *testing.T) {
	for method, want := range map[string]Class{
		"engine_newPayloadV1":                       ClassReplay,
		"engine_newPayloadV17":                      ClassReplay,
		"engine_newPayload":                         ClassRead,
		"engine_newPayloadV":                        ClassRead,
		"engine_newPayloadV4x":                      ClassRead,
		"engine_newPayloadv4":                       ClassRead,
		"engine_newPayloadWithWitnessV4":            ClassReplay,
		"engine_newPayloadWithWitness":              ClassRead,
		"engine_newPayloadWithWitnessV4x":           ClassRead,
		"engine_newPayloadWithWitnessWithWitnessV4": ClassRead,
		"engine_getPayloadWithWitnessV4":            ClassRead,
		"engine_forkchoiceUpdatedV5":                ClassForkchoice,
		"engine_forkchoiceUpdatedWithWitnessV4":     ClassForkchoice,
		"engine_getPayloadV6":                       ClassPayload,
		"engine_getPayloadBodiesByHashV1":           ClassRead,
		"engine_getPayloadBodiesByRangeV2":          ClassRead,
		"engine_getBlobsV3":                         ClassRead,
		"engine_exchangeCapabilities":               ClassLatest,
		"engine_getClientVersionV1":                 ClassRead,
		"engine_exchangeTransitionConfigurationV1":  ClassRead,
		"engine_executeStatelessPayloadV4":          ClassRead,
		"eth_sendRawTransaction":                    ClassRead,
		" engine_newPayloadV1":                      ClassRead,
		"":                                          ClassRead,
	} {
		require.Equal(t, want, Classify(method), method)
	}
}

func TestAMethodWithAWitnessHasASiblingWithoutIt(t *testing.T) {
	for method, want := range map[string]string{
		"engine_newPayloadWithWitnessV4":        "engine_newPayloadV4",
		"engine_newPayloadWithWitnessV44":       "engine_newPayloadV44",
		"engine_forkchoiceUpdatedWithWitnessV3": "engine_forkchoiceUpdatedV3",
		"engine_newPayloadV4":                   "engine_newPayloadV4",
		"engine_getPayloadWithWitnessV4":        "engine_getPayloadWithWitnessV4",
		"":                                      "",
	} {
		require.Equal(t, want, Plain(method), method)
	}
	require.True(t, Repeatable("engine_newPayloadWithWitnessV4"))
	require.True(t, Repeatable("engine_forkchoiceUpdatedWithWitnessV3"))
}

func TestOnlyWhatIsKnownToBeSafeIsRepeatable(t *testing.T) {
	for _, method := range []string{
		"engine_newPayloadV4", "engine_newPayloadV17", "engine_forkchoiceUpdatedV3", "engine_getPayloadV5", "engine_getPayloadBodiesByHashV1",
		"engine_getPayloadBodiesByRangeV2", "engine_getBlobsV3", "engine_getInclusionListV1", "engine_exchangeCapabilities",
		"engine_getClientVersionV1", "eth_syncing", "eth_getBlockByHash", "eth_call", "eth_getLogs", "net_version",
	} {
		require.True(t, Repeatable(method), method)
	}
	for _, method := range []string{
		"", "eth_sendRawTransaction", "eth_sendRawTransactionConditional", "eth_sendTransaction", "eth_sendBundle", "eth_sendPrivateTransaction",
		"eth_sign", "eth_signTransaction", "eth_newFilter", "eth_getFilterChanges", "eth_subscribe", "eth_submitWork", "eth_getWork",
		"personal_sendTransaction", "personal_unlockAccount", "admin_addPeer", "debug_setHead", "miner_start", "miner_setMaxDASize",
		"txpool_content", "engine_unheardOfV1", "engine_newPayload", "engine_executeStatelessPayloadV4", "eth_Call", "ETH_SENDTRANSACTION", "foo",
	} {
		require.False(t, Repeatable(method), method)
	}
	for _, method := range Methods() {
		require.Equal(t, method != "eth_sendRawTransaction", Repeatable(method), method)
	}
}

func TestEveryKnownMethodIsItsOwnLabel(t *testing.T) {
	for _, m := range Methods() {
		require.Equal(t, m, Label(m))
		require.NotContains(t, m, ".")
	}
	require.Equal(t, MethodOther, Label("engine_newPayloadV99"))
	require.Equal(t, MethodOther, Label(""))
	require.Len(t, known, len(methods))
}

func TestAVersionIsWhatFollowsTheV(t *testing.T) {
	for method, want := range map[string]int{
		"engine_newPayloadV4": 4, "engine_newPayloadV12": 12, "eth_call": 0, "": 0, "1": 0, "V1": 1, "x2": 0, "V99999": 0,
	} {
		require.Equal(t, want, Version(method), method)
	}
}

func TestEnumsHaveNames(t *testing.T) {
	for _, c := range Classes() {
		require.NotContains(t, c.String(), "unknown")
	}
	require.Equal(t, "unknown_0", Class(0).String())
	require.Equal(t, "unknown_9", Class(9).String())
	require.Equal(t, "undetermined", Undetermined.String())
	require.Equal(t, "unknown_0", Verdict(0).String())
}
