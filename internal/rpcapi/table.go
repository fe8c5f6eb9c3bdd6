package rpcapi

// row is one method.
type row struct {
	name   string
	safety Safety
	cache  CacheRule
	group  Group
	place  place
	object object
}

// table is read-only. Methods of the engine_ namespace and those that steer a node (admin_, miner_, debug_setHead)
// are left out on purpose: unknown is what they shall be here.
var table = tableOf( //nolint:gochecknoglobals // a constant, if maps could be
	rowsOfChain(), rowsOfState(), rowsOfTransactions(), rowsOfNode(), rowsOfDebug(), rowsOfTrace(), rowsOfBuilders(),
)

func tableOf(parts ...[]row) map[string]Method {
	t := make(map[string]Method)
	for _, rows := range parts {
		for _, r := range rows {
			t[r.name] = Method{
				Name: r.name, Known: true, Label: r.name,
				Safety: r.safety, Cache: r.cache, Group: r.group, place: r.place, object: r.object,
			}
		}
	}
	return t
}

func rowsOfChain() []row {
	return []row{
		{"eth_chainId", Read, CacheConstant, GroupConstants, nowhere, objectPlain},
		{"eth_blockNumber", Read, CacheByBlock, GroupBlocks, implied, objectPlain},
		{"eth_getBlockByHash", Read, CacheByBlock, GroupBlocks, hashFirst, objectPlain},
		{"eth_getBlockByNumber", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"eth_getHeaderByHash", Read, CacheByBlock, GroupBlocks, hashFirst, objectPlain},
		{"eth_getHeaderByNumber", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"eth_getBlockReceipts", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"eth_getBlockTransactionCountByHash", Read, CacheByBlock, GroupBlocks, hashFirst, objectPlain},
		{"eth_getBlockTransactionCountByNumber", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"eth_getUncleCountByBlockHash", Read, CacheByBlock, GroupBlocks, hashFirst, objectPlain},
		{"eth_getUncleCountByBlockNumber", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"eth_getUncleByBlockHashAndIndex", Read, CacheByBlock, GroupBlocks, hashFirst, objectPlain},
		{"eth_getUncleByBlockNumberAndIndex", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"eth_getBlockAccessList", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"eth_getBlockAccessListByBlockHash", Read, CacheByBlock, GroupBlocks, hashFirst, objectPlain},
		{"eth_getBlockAccessListByBlockNumber", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"eth_getLogs", Read, CacheByBlock, GroupLogs, rangeFirst, objectPlain},
		{"eth_gasPrice", Read, CacheByBlock, GroupFees, implied, objectPlain},
		{"eth_maxPriorityFeePerGas", Read, CacheByBlock, GroupFees, implied, objectPlain},
		{"eth_blobBaseFee", Read, CacheByBlock, GroupFees, implied, objectPlain},
		{"eth_baseFee", Read, CacheByBlock, GroupFees, implied, objectPlain},
		{"eth_feeHistory", Read, CacheByBlock, GroupFees, blockAt(1), objectPlain},
	}
}

func rowsOfState() []row {
	return []row{
		{"eth_getBalance", Read, CacheByBlock, GroupState, blockAt(1), objectPlain},
		{"eth_getCode", Read, CacheByBlock, GroupState, blockAt(1), objectPlain},
		{"eth_getTransactionCount", Read, CacheByBlock, GroupState, blockAt(1), objectPlain},
		{"eth_getStorageAt", Read, CacheByBlock, GroupState, blockAt(2), objectPlain},
		{"eth_getStorageValues", Read, CacheByBlock, GroupState, blockAt(1), objectPlain},
		{"eth_getProof", Read, CacheByBlock, GroupState, blockAt(2), objectPlain},
		{"eth_getAccount", Read, CacheByBlock, GroupState, blockAt(1), objectPlain},
		{"eth_getAccountInfo", Read, CacheByBlock, GroupState, blockAt(1), objectPlain},
		{"eth_call", Read, CacheByBlock, GroupCall, blockAt(1), objectCall},
		{"eth_callMany", Read, CacheByBlock, GroupCall, blockAt(1), objectPlain},
		{"eth_createAccessList", Read, CacheByBlock, GroupCall, blockAt(1), objectCall},
		{"eth_simulateV1", Read, CacheByBlock, GroupCall, blockAt(1), objectPlain},
		{"eth_estimateGas", Read, CacheByBlock, GroupEstimateGas, blockAt(1), objectCall},
	}
}

func rowsOfTransactions() []row {
	return []row{
		{"eth_getTransactionByHash", Read, CacheByAnswer, GroupTransactions, nowhere, objectPlain},
		{"eth_getTransactionReceipt", Read, CacheByAnswer, GroupTransactions, nowhere, objectPlain},
		{"eth_getRawTransactionByHash", Read, CacheByAnswer, GroupTransactions, nowhere, objectPlain},
		{"eth_getTransactionByBlockHashAndIndex", Read, CacheByBlock, GroupTransactions, hashFirst, objectPlain},
		{"eth_getTransactionByBlockNumberAndIndex", Read, CacheByBlock, GroupTransactions, blockAt(0), objectPlain},
		{"eth_getRawTransactionByBlockHashAndIndex", Read, CacheByBlock, GroupTransactions, hashFirst, objectPlain},
		{"eth_getRawTransactionByBlockNumberAndIndex", Read, CacheByBlock, GroupTransactions, blockAt(0), objectPlain},
		{"eth_getTransactionBySenderAndNonce", Read, CacheByAnswer, GroupTransactions, nowhere, objectPlain},
		{"eth_pendingTransactions", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_fillTransaction", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_sign", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_signTransaction", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_sendRawTransaction", Transaction, CacheNever, 0, nowhere, objectPlain},
		{"eth_sendRawTransactionConditional", Transaction, CacheNever, 0, nowhere, objectPlain},
		// Waits for the receipt, which "already known" can't be turned into.
		{"eth_sendRawTransactionSync", Write, CacheNever, 0, nowhere, objectPlain},
		{"eth_sendTransaction", Write, CacheNever, 0, nowhere, objectPlain},
		{"eth_resend", Write, CacheNever, 0, nowhere, objectPlain},
		{"eth_newFilter", FilterNew, CacheNever, 0, rangeFirst, objectPlain},
		{"eth_newBlockFilter", FilterNew, CacheNever, 0, nowhere, objectPlain},
		{"eth_newPendingTransactionFilter", FilterNew, CacheNever, 0, nowhere, objectPlain},
		{"eth_getFilterChanges", FilterUse, CacheNever, 0, nowhere, objectPlain},
		{"eth_getFilterLogs", FilterUse, CacheNever, 0, nowhere, objectPlain},
		{"eth_uninstallFilter", FilterUse, CacheNever, 0, nowhere, objectPlain},
		{"eth_subscribe", Subscribing, CacheNever, 0, nowhere, objectPlain},
		{"eth_unsubscribe", Subscribing, CacheNever, 0, nowhere, objectPlain},
		{"debug_subscribe", Subscribing, CacheNever, 0, nowhere, objectPlain},
		{"debug_unsubscribe", Subscribing, CacheNever, 0, nowhere, objectPlain},
	}
}

// rowsOfNode are questions about the node itself, and about its pool.
func rowsOfNode() []row {
	return []row{
		{"net_version", Read, CacheConstant, GroupConstants, nowhere, objectPlain},
		{"web3_sha3", Read, CacheConstant, GroupConstants, nowhere, objectPlain},
		{"net_listening", Read, CacheNever, 0, nowhere, objectPlain},
		{"net_peerCount", Read, CacheNever, 0, nowhere, objectPlain},
		{"web3_clientVersion", Read, CacheNever, 0, nowhere, objectPlain},
		{"rpc_modules", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_syncing", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_config", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_capabilities", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_accounts", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_coinbase", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_mining", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_hashrate", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_getWork", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_protocolVersion", Read, CacheNever, 0, nowhere, objectPlain},
		{"txpool_content", Read, CacheNever, 0, nowhere, objectPlain},
		{"txpool_contentFrom", Read, CacheNever, 0, nowhere, objectPlain},
		{"txpool_inspect", Read, CacheNever, 0, nowhere, objectPlain},
		{"txpool_status", Read, CacheNever, 0, nowhere, objectPlain},
	}
}

func rowsOfDebug() []row {
	return []row{
		{"debug_getRawBlock", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"debug_getRawHeader", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"debug_getRawReceipts", Read, CacheByBlock, GroupBlocks, blockAt(0), objectPlain},
		{"debug_getRawTransaction", Read, CacheByAnswer, GroupTransactions, nowhere, objectPlain},
		{"debug_traceBlock", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_traceBlockByHash", Read, CacheByBlock, GroupTraces, hashFirst, objectPlain},
		{"debug_traceBlockByNumber", Read, CacheByBlock, GroupTraces, blockAt(0), objectPlain},
		{"debug_traceTransaction", Read, CacheByAnswer, GroupTraces, nowhere, objectPlain},
		{"debug_traceCall", Read, CacheByBlock, GroupTraces, blockAt(1), objectCall},
		{"debug_traceCallMany", Read, CacheByBlock, GroupTraces, blockAt(1), objectPlain},
		{"debug_traceBadBlock", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_executionWitness", Read, CacheByBlock, GroupTraces, blockAt(0), objectPlain},
		{"debug_executionWitnessByBlockHash", Read, CacheByBlock, GroupTraces, hashFirst, objectPlain},
		{"debug_intermediateRoots", Read, CacheByBlock, GroupTraces, hashFirst, objectPlain},
		{"debug_storageRangeAt", Read, CacheByBlock, GroupTraces, blockAt(0), objectPlain},
		{"debug_accountRange", Read, CacheByBlock, GroupTraces, blockAt(0), objectPlain},
		{"debug_dumpBlock", Read, CacheByBlock, GroupTraces, blockAt(0), objectPlain},
		{"debug_getBadBlocks", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_getModifiedAccountsByHash", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_getModifiedAccountsByNumber", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_getAccessibleState", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_preimage", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_printBlock", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_dbGet", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_dbAncient", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_dbAncients", Read, CacheNever, 0, nowhere, objectPlain},
		{"debug_chaindbProperty", Read, CacheNever, 0, nowhere, objectPlain},
	}
}

func rowsOfTrace() []row {
	return []row{
		{"trace_block", Read, CacheByBlock, GroupTraces, blockAt(0), objectPlain},
		{"trace_transaction", Read, CacheByAnswer, GroupTraces, nowhere, objectPlain},
		{"trace_get", Read, CacheByAnswer, GroupTraces, nowhere, objectPlain},
		{"trace_filter", Read, CacheByBlock, GroupTraces, rangeFirst, objectPlain},
		{"trace_call", Read, CacheByBlock, GroupTraces, blockAt(2), objectCall},
		{"trace_callMany", Read, CacheByBlock, GroupTraces, blockAt(1), objectPlain},
		{"trace_rawTransaction", Read, CacheByBlock, GroupTraces, implied, objectPlain},
		{"trace_replayTransaction", Read, CacheByAnswer, GroupTraces, nowhere, objectPlain},
		{"trace_replayBlockTransactions", Read, CacheByBlock, GroupTraces, blockAt(0), objectPlain},
	}
}

// rowsOfBuilders are what block builders, relays and searchers ask of a node. Simulations change nothing.
func rowsOfBuilders() []row {
	return []row{
		{"eth_callBundle", Read, CacheNever, 0, nowhere, objectPlain},
		{"mev_simBundle", Read, CacheNever, 0, nowhere, objectPlain},
		{"flashbots_validateBuilderSubmissionV1", Read, CacheNever, 0, nowhere, objectPlain},
		{"flashbots_validateBuilderSubmissionV2", Read, CacheNever, 0, nowhere, objectPlain},
		{"flashbots_validateBuilderSubmissionV3", Read, CacheNever, 0, nowhere, objectPlain},
		{"flashbots_validateBuilderSubmissionV4", Read, CacheNever, 0, nowhere, objectPlain},
		{"flashbots_validateBuilderSubmissionV5", Read, CacheNever, 0, nowhere, objectPlain},
		{"eth_sendBundle", Write, CacheNever, 0, nowhere, objectPlain},
		{"eth_cancelBundle", Write, CacheNever, 0, nowhere, objectPlain},
		{"mev_sendBundle", Write, CacheNever, 0, nowhere, objectPlain},
		{"eth_sendPrivateTransaction", Write, CacheNever, 0, nowhere, objectPlain},
		{"eth_sendPrivateRawTransaction", Write, CacheNever, 0, nowhere, objectPlain},
	}
}
