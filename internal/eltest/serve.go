package eltest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"millrace/internal/engineapi"
)

const (
	contentJSON = "application/json"
	maxBody     = 128 << 20
)

// ServeHTTP answers as geth's authenticated port does, faults and refusals before the call included.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" && r.URL.Path != "" {
		http.NotFound(w, r)
		return
	}
	if f.cfg.Secret != nil {
		if err := f.cfg.Secret.Verify(r.Header.Get("Authorization"), time.Now()); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
	}
	switch r.Method {
	case http.MethodPost:
	case http.MethodGet:
		return
	default:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(kind, contentJSON) {
		http.Error(w, "invalid content type, only application/json is supported", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		http.Error(w, "content length too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err == nil {
		f.serve(w, r, body)
	}
}

// serve answers a body that was read.
func (f *Fake) serve(w http.ResponseWriter, r *http.Request, body []byte) {
	calls, batch, err := engineapi.ParseCalls(body)
	if err != nil {
		f.write(w, faultBody(nil, &fault{engineapi.CodeParse, "parse error"}))
		return
	}
	seen := f.note(r, calls)
	trouble, hung := f.faultFor(methodsOf(calls))
	f.mu.Lock()
	life := f.server
	f.mu.Unlock()
	if trouble.suffer(r.Context(), w, hung) {
		f.finish(seen, nil, trouble.Status)
		return
	}
	answers, alive := f.executeAll(life, calls)
	if !alive || trouble.Lost {
		f.finish(seen, nil, 0)
		panic(http.ErrAbortHandler)
	}
	if trouble.Garble {
		f.finish(seen, nil, http.StatusOK)
		f.write(w, []byte(trouble.Body))
		return
	}
	f.finish(seen, answers, http.StatusOK)
	f.write(w, join(answers, batch))
}

func (f *Fake) write(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", contentJSON)
	_, _ = w.Write(body)
}

// join is the body for a call's answers. Notifications have none; geth answers an empty batch with
// an error.
func join(answers [][]byte, batch bool) []byte {
	if !batch {
		return answers[0]
	}
	if len(answers) == 0 {
		return faultBody(nil, &fault{engineapi.CodeInvalidRequest, "empty batch"})
	}
	var given [][]byte
	for _, a := range answers {
		if a != nil {
			given = append(given, bytes.TrimSuffix(a, []byte("\n")))
		}
	}
	return append(append([]byte("["), bytes.Join(given, []byte(","))...), ']')
}

func methodsOf(calls []engineapi.Call) []string {
	methods := make([]string, len(calls))
	for i, c := range calls {
		methods[i] = c.Method
	}
	return methods
}

// note writes down what came.
func (f *Fake) note(r *http.Request, calls []engineapi.Call) []*Seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := time.Now()
	noted := make([]*Seen, len(calls))
	for i, c := range calls {
		noted[i] = &Seen{At: at, Authorization: r.Header.Get("Authorization"), Header: r.Header, Call: c}
	}
	f.seen = append(f.seen, noted...)
	return noted
}

func (f *Fake) finish(seen []*Seen, answers [][]byte, status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, s := range seen {
		s.HTTPStatus = status
		if i < len(answers) {
			s.Answer = answers[i]
		}
	}
}

// executeAll executes calls one after another; not alive when the client was stopped or killed in
// the meantime, which leaves the rest undone.
func (f *Fake) executeAll(life *http.Server, calls []engineapi.Call) (answers [][]byte, alive bool) {
	for _, c := range calls {
		f.mu.Lock()
		if alive = f.server == life; alive {
			answers = append(answers, f.answer(c))
		}
		f.mu.Unlock()
		if !alive {
			return nil, false
		}
	}
	return answers, true
}

// answer executes a call. The caller holds the lock.
func (f *Fake) answer(c engineapi.Call) []byte {
	if recorded := f.recorded(c); recorded != nil {
		f.execute(c) // the state follows the script
		return recorded
	}
	result, err := f.execute(c)
	switch {
	case c.ID == nil:
		return nil
	case err != nil:
		return faultBody(c.ID, err)
	}
	b, e := json.Marshal(result)
	if e != nil {
		return faultBody(c.ID, &fault{engineapi.CodeInternal, e.Error()})
	}
	out := append([]byte(`{"jsonrpc":"2.0","id":`), c.ID...)
	return append(append(append(out, `,"result":`...), b...), "}\n"...)
}

func faultBody(id []byte, e *fault) []byte {
	if id == nil {
		id = []byte("null")
	}
	b := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	return append(b, fmt.Sprintf(`,"error":{"code":%d,"message":%q}}`+"\n", e.code, e.text)...)
}

// execute is the client's table of methods. The caller holds the lock.
func (f *Fake) execute(c engineapi.Call) (any, *fault) {
	switch c.Class() {
	case engineapi.ClassReplay:
		return f.newPayload(c)
	case engineapi.ClassForkchoice:
		return f.forkchoice(c)
	case engineapi.ClassPayload:
		return f.payload(c)
	default:
	}
	switch c.Method {
	case engineapi.MethodExchangeCapabilities:
		return f.cfg.Capabilities, nil
	case engineapi.MethodClientVersion:
		return []map[string]string{{"code": f.cfg.Name, "name": "fake", "version": "v1.0.0", "commit": "0x00000000"}}, nil
	case "eth_chainId":
		return fmt.Sprintf("0x%x", f.cfg.ChainID), nil
	case "eth_blockNumber":
		return fmt.Sprintf("0x%x", f.chain.head.Number), nil
	case "eth_syncing":
		return f.syncing(), nil
	case "eth_getBlockByNumber":
		return f.blockByNumber(string(bytes.Trim(c.Param(0), `"`))), nil
	case "eth_getBlockByHash":
		b, ok := f.chain.blocks[common.HexToHash(string(bytes.Trim(c.Param(0), `"`)))]
		return f.block(b, ok), nil
	case "engine_getPayloadBodiesByHashV1":
		return f.bodies(c.Param(0)), nil
	}
	return nil, &fault{engineapi.CodeMethodNotFound, "the method " + c.Method + " does not exist/is not available"}
}

func (f *Fake) syncing() any {
	if f.cfg.Peers == 0 || len(f.chain.headers) == 0 {
		return false
	}
	return map[string]string{"currentBlock": fmt.Sprintf("0x%x", f.chain.head.Number), "highestBlock": fmt.Sprintf("0x%x", f.chain.head.Number+1)}
}

func (f *Fake) blockByNumber(tag string) any {
	switch tag {
	case "latest", "pending":
		return f.block(f.chain.head, true)
	case "earliest":
		return f.block(f.cfg.Genesis, true)
	case "safe":
		b, ok := f.chain.blocks[f.chain.safe]
		return f.block(b, ok)
	case "finalized":
		b, ok := f.chain.blocks[f.chain.finalized]
		return f.block(b, ok)
	}
	var n uint64
	if _, err := fmt.Sscanf(tag, "0x%x", &n); err != nil {
		return nil
	}
	b, ok := f.chain.ancestor(n)
	return f.block(b, ok)
}

// block is a block as eth_getBlockBy… shows it; null for one that is not known.
func (f *Fake) block(b Block, ok bool) any {
	if !ok {
		return nil
	}
	root, other := f.roots[b.Hash]
	if !other {
		root = b.Hash
	}
	return map[string]any{
		"number": fmt.Sprintf("0x%x", b.Number), "hash": b.Hash, "parentHash": b.Parent,
		"timestamp": fmt.Sprintf("0x%x", b.Timestamp), "stateRoot": root, "receiptsRoot": b.Hash, "transactions": []string{},
		"miner": common.Address{}, "logsBloom": "0x00", "mixHash": b.Hash, "gasLimit": "0x1", "gasUsed": "0x0", "extraData": "0x", "baseFeePerGas": "0x7",
		"blobGasUsed": "0x0", "excessBlobGas": "0x0", "withdrawalsRoot": b.Hash, "parentBeaconBlockRoot": b.Hash, "requestsHash": f.requests(b),
	}
}

// requests is the hash of a block's execution requests: there are none but in the block that is configured to
// have some.
func (f *Fake) requests(b Block) common.Hash {
	if b.Number > 0 && b.Number == f.cfg.RequestsAt {
		return b.Hash
	}
	return types.EmptyRequestsHash
}

// bodies are those of the blocks with these hashes, null for one that was not executed.
func (f *Fake) bodies(hashes []byte) any {
	var asked []common.Hash
	if err := json.Unmarshal(hashes, &asked); err != nil {
		return nil
	}
	out := make([]any, len(asked))
	for i, h := range asked {
		if _, ok := f.chain.blocks[h]; ok {
			out[i] = map[string]any{"transactions": []string{}, "withdrawals": []string{}}
		}
	}
	return out
}
