package peers

import (
	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

// read decodes a request in its builder-ready form. Every error is a *order.Reason.
func read(body []byte, lim order.Limits) (*order.Submission, error) {
	calls, batch, rpcErr := jsonrpc.Parse(body, 1)
	switch {
	case rpcErr != nil:
		return nil, order.Refuse(order.CodeMalformed, rpcErr.Error())
	case batch:
		return nil, order.Refuse(order.CodeMalformed, "not a single request")
	case calls[0].Err != nil:
		return nil, order.Refuse(order.CodeMalformed, calls[0].Err.Error())
	}
	m, ok := order.ParseRelayedMethod(calls[0].Request.Method)
	if !ok {
		return nil, order.Refuse(order.CodeMalformed, "unknown method")
	}
	return order.DecodeRelayed(m, calls[0].Request.Params, lim)
}
