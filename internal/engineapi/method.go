package engineapi

// methods is the closed set that labels and subjects draw from: the specification up to Bogota and
// what it lets a client ask on the same port.
var methods = []string{ //nolint:gochecknoglobals // a table
	"engine_newPayloadV1", "engine_newPayloadV2", "engine_newPayloadV3",
	"engine_newPayloadV4", "engine_newPayloadV5", "engine_newPayloadV6",
	"engine_forkchoiceUpdatedV1", "engine_forkchoiceUpdatedV2", "engine_forkchoiceUpdatedV3",
	"engine_forkchoiceUpdatedV4", "engine_forkchoiceUpdatedV5",
	"engine_getPayloadV1", "engine_getPayloadV2", "engine_getPayloadV3",
	"engine_getPayloadV4", "engine_getPayloadV5", "engine_getPayloadV6",
	"engine_getPayloadBodiesByHashV1", "engine_getPayloadBodiesByHashV2",
	"engine_getPayloadBodiesByRangeV1", "engine_getPayloadBodiesByRangeV2",
	"engine_getBlobsV1", "engine_getBlobsV2", "engine_getBlobsV3", "engine_getBlobsV4",
	"engine_getInclusionListV1",
	MethodExchangeCapabilities, MethodClientVersion, "engine_exchangeTransitionConfigurationV1",
	"eth_blockNumber", "eth_call", "eth_chainId", "eth_getCode", "eth_getBlockByHash",
	"eth_getBlockByNumber", "eth_getLogs", "eth_sendRawTransaction", "eth_syncing",
}

// known gives each method's name without an allocation.
var known = func() map[string]string { //nolint:gochecknoglobals // a table
	m := make(map[string]string, len(methods))
	for _, name := range methods {
		m[name] = name
	}
	return m
}()

// MethodOther stands for every method outside the known set, in labels and subjects.
const MethodOther = "other"

// Methods lists the known methods; the caller must not change it.
func Methods() []string { return methods }

// Label is the method's name if it is known, else MethodOther: what may be a metric label or a
// token of a subject.
func Label(method string) string {
	if name, ok := known[method]; ok {
		return name
	}
	return MethodOther
}
