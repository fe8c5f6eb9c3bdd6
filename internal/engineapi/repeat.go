package engineapi

// Stems of versioned methods that only ask.
const (
	stemBodiesByHash  = "engine_getPayloadBodiesByHash"
	stemBodiesByRange = "engine_getPayloadBodiesByRange"
	stemBlobs         = "engine_getBlobs"
	stemInclusion     = "engine_getInclusionList"
)

// reads are methods beside engine_ that change nothing, whoever asks how often. What is in no list may
// move money or a client's state by a name that nobody here has heard of.
var reads = func() map[string]bool { //nolint:gochecknoglobals // a table
	m := make(map[string]bool)
	for _, name := range []string{
		"eth_accounts", "eth_baseFee", "eth_blobBaseFee", "eth_blockNumber", "eth_call", "eth_chainId", "eth_coinbase", "eth_config",
		"eth_createAccessList", "eth_estimateGas", "eth_feeHistory", "eth_gasPrice", "eth_getBalance", "eth_getBlockByHash",
		"eth_getBlockByNumber", "eth_getBlockReceipts", "eth_getBlockTransactionCountByHash",
		"eth_getBlockTransactionCountByNumber", "eth_getCode", "eth_getHeaderByHash", "eth_getHeaderByNumber", "eth_getLogs",
		"eth_getProof", "eth_getRawTransactionByHash", "eth_getStorageAt", "eth_getTransactionByBlockHashAndIndex",
		"eth_getTransactionByBlockNumberAndIndex", "eth_getTransactionByHash", "eth_getTransactionCount",
		"eth_getTransactionReceipt", "eth_getUncleByBlockHashAndIndex", "eth_getUncleByBlockNumberAndIndex",
		"eth_getUncleCountByBlockHash", "eth_getUncleCountByBlockNumber", "eth_maxPriorityFeePerGas", "eth_protocolVersion",
		"eth_simulateV1", "eth_syncing", "net_listening", "net_peerCount", "net_version", "web3_clientVersion", "web3_sha3",
		MethodExchangeCapabilities, MethodClientVersion, "engine_exchangeTransitionConfigurationV1",
	} {
		m[name] = true
	}
	return m
}()

// Repeatable says whether a call of the method may be sent a second time to a client that may have carried
// the first one out: newPayload and forkchoiceUpdated, which the specification makes so as long as nothing
// came in between, and what only asks. A method that is not known is not repeatable, nor is
// eth_sendRawTransaction, whose second sending is answered otherwise.
func Repeatable(method string) bool {
	switch Classify(method) {
	case ClassReplay, ClassForkchoice, ClassPayload:
		return true
	default:
	}
	return reads[method] || versioned(method, stemBodiesByHash) || versioned(method, stemBodiesByRange) ||
		versioned(method, stemBlobs) || versioned(method, stemInclusion)
}
