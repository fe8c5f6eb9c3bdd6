package loadtest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/jsonrpc"
)

// answer is a JSON-RPC answer as far as the generator cares.
type answer struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	} `json:"error"`
}

// bundleResult is the result of a bundle: FlowProxy's object with what ours adds.
type bundleResult struct {
	BundleHash          common.Hash `json:"bundleHash"`
	ReceivedTimestampMs float64     `json:"receivedTimestampMs"`
}

// readAnswer fills r from the body of an answer. Other proxies answer null, a hash string, or an
// object; all three are a success.
func readAnswer(r *Result, body []byte) error {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return fmt.Errorf("%w: %w", errResponse, err)
	}
	if a.Error != nil {
		r.Code = a.Error.Code
		r.Reason = a.Error.Message
		if len(a.Error.Data) > 0 {
			r.Reason = string(a.Error.Data)
		}
		return nil
	}
	if a.Result == nil {
		return errResponse
	}
	switch a.Result[0] {
	case '"':
		return json.Unmarshal(a.Result, &r.Hash)
	case '{':
		var b bundleResult
		if err := json.Unmarshal(a.Result, &b); err != nil {
			return fmt.Errorf("%w: %w", errResponse, err)
		}
		r.Hash = b.BundleHash
		if b.ReceivedTimestampMs > 0 {
			r.Received = time.UnixMicro(int64(b.ReceivedTimestampMs * 1000))
		}
	}
	return nil
}

// judge turns status and code into the answer.
func judge(r *Result) Answer {
	switch {
	case r.Status == 429 || r.Status == 503:
		return AnswerShed
	case r.Code == jsonrpc.CodeInvalidParams:
		return AnswerRefused
	case r.Code != 0 || r.Status < 200 || r.Status > 299:
		return AnswerError
	}
	return AnswerAccepted
}
