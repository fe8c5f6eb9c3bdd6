package health

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Questions of a full check; their ids are their places from 1.
const (
	askChainID = iota
	askLatest
	askFinalized
	askSyncing
	questions
)

var (
	//nolint:gochecknoglobals // constant
	singles = [questions]string{
		askChainID:   `{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}`,
		askLatest:    `{"jsonrpc":"2.0","id":2,"method":"eth_getBlockByNumber","params":["latest",false]}`,
		askFinalized: `{"jsonrpc":"2.0","id":3,"method":"eth_getBlockByNumber","params":["finalized",false]}`,
		askSyncing:   `{"jsonrpc":"2.0","id":4,"method":"eth_syncing","params":[]}`,
	}
	//nolint:gochecknoglobals // constant
	batch = "[" + strings.Join(singles[:], ",") + "]"
)

const netVersion = `{"jsonrpc":"2.0","id":1,"method":"net_version","params":[]}`

// rpcError is the error of a reply.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// exists tells an error of a method from the lack of it. Servers disagree about the codes for the lack, so these
// are the codes of errors: internal, and those of a server but -32004, which is "method not supported".
func (e *rpcError) exists() bool {
	return e.Code == -32603 || e.Code == -32005 || (e.Code <= -32000 && e.Code >= -32003)
}

// reply is what a node said to one question; the zero reply is none.
type reply struct {
	Version string         `json:"jsonrpc"`
	ID      jsontext.Value `json:"id"`
	Result  jsontext.Value `json:"result"`
	Error   *rpcError      `json:"error"`
}

// place is the question that is answered, or -1.
func (r *reply) place() int {
	n, err := strconv.Atoi(strings.Trim(string(r.ID), `"`))
	if err != nil || n < 1 || n > questions {
		return -1
	}
	return n - 1
}

// decodeBatch reads answers in any order; ok is false for what does not answer the batch: a server that allows less
// of them answers the first with an error.
func decodeBatch(body []byte) (replies [questions]reply, ok bool) {
	if body = bytes.TrimSpace(body); len(body) == 0 || body[0] != '[' {
		return replies, false
	}
	var all []reply
	if json.Unmarshal(body, &all, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return replies, false
	}
	for i := range all {
		if p := all[i].place(); p >= 0 {
			replies[p] = all[i]
		}
	}
	return replies, replies[askChainID].ID != nil && replies[askLatest].ID != nil
}

// decodeReply reads one answer; ok is false for what is no JSON-RPC.
func decodeReply(body []byte) (r reply, ok bool) {
	if body = bytes.TrimSpace(body); len(body) == 0 || body[0] != '{' {
		return reply{}, false
	}
	if json.Unmarshal(body, &r, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return reply{}, false
	}
	return r, r.Error != nil || len(r.Result) > 0
}

// block is what a check needs of a block.
type block struct {
	number uint64
	hash   [32]byte
	at     time.Time
}

func (r *reply) block() (b block, ok bool) {
	var v struct {
		Number    string `json:"number"`
		Hash      string `json:"hash"`
		Timestamp string `json:"timestamp"`
	}
	if len(r.Result) == 0 || r.Result[0] != '{' {
		return block{}, false
	}
	if json.Unmarshal(r.Result, &v, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return block{}, false
	}
	if b.number, ok = quantity(v.Number); !ok {
		return block{}, false
	}
	hash, found := strings.CutPrefix(v.Hash, "0x")
	if !found || len(hash) != 2*len(b.hash) {
		return block{}, false
	}
	if _, err := hex.Decode(b.hash[:], []byte(hash)); err != nil {
		return block{}, false
	}
	if seconds, ok := quantity(v.Timestamp); ok && seconds < 1<<40 {
		b.at = time.Unix(int64(seconds), 0)
	}
	return b, true
}

func (r *reply) quantity() (uint64, bool) {
	var s string
	if len(r.Result) == 0 || json.Unmarshal(r.Result, &s) != nil {
		return 0, false
	}
	return quantity(s)
}

func quantity(s string) (uint64, bool) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil
}

// syncing: the answer is false, or else what is left to do.
func (r *reply) syncing() bool {
	return len(r.Result) > 0 && (r.Result[0] == '{' || r.Result[0] == 't')
}
