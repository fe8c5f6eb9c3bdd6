package feed

import (
	"context"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/rpcapi"
)

// envelope is what a node sends: an answer, or a notification.
type envelope struct {
	ID     jsontext.Value `json:"id"`
	Result jsontext.Value `json:"result"`
	Error  jsontext.Value `json:"error"`
	Method string         `json:"method"`
	Params struct {
		Subscription string         `json:"subscription"`
		Result       jsontext.Value `json:"result"`
	} `json:"params"`
}

func decodeEnvelope(b []byte) (e envelope, err error) {
	if err = json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return e, nil
}

// result is the answer's; null is errNotThere.
func (e *envelope) result() ([]byte, error) {
	switch {
	case e.Error != nil && e.Error.Kind() != jsontext.KindNull:
		return nil, fmt.Errorf("%w: %s", errNodeRefused, shortened(e.Error))
	case e.Result == nil:
		return nil, errMalformed
	case e.Result.Kind() == jsontext.KindNull:
		return nil, errNotThere
	}
	return e.Result, nil
}

// shortened bounds what a log line repeats of a node's words.
func shortened(b []byte) []byte { return b[:min(len(b), 200)] }

// ask puts a question to a node, or with tag 0 to any that has the block.
func (f *Feed) ask(ctx context.Context, tag rpcapi.Tag, block rpcapi.Block, method, params string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg().CallTimeout)
	defer cancel()
	a, err := f.ports.Calls.Call(ctx, &rpcapi.Call{
		Class:  rpcapi.High,
		Body:   []byte(`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`),
		Method: method, Block: block, Node: tag, Received: time.Now(), RequestID: "feed",
	})
	if err != nil {
		f.metrics.failures.Inc()
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	e, err := decodeEnvelope(a.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	b, err := e.result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return b, nil
}

// latest is the head of one node.
func (f *Feed) latest(ctx context.Context, n *rpcapi.Node) (*header, error) {
	b, err := f.ask(ctx, n.Tag, rpcapi.Block{Kind: rpcapi.BlockLatest}, "eth_getBlockByNumber", `["latest",false]`)
	if err != nil {
		return nil, err
	}
	h, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	f.learned(n.Tag, h)
	return h, nil
}

// fetch gets the header with a hash: from who announced its child, or from whoever has it.
func (f *Feed) fetch(ctx context.Context, tag rpcapi.Tag, number uint64, hash common.Hash) (*header, error) {
	b, err := f.ask(ctx, tag, rpcapi.Block{Kind: rpcapi.BlockNumber, Number: number}, "eth_getBlockByHash", `["`+hash.Hex()+`",false]`)
	if err != nil {
		return nil, err
	}
	h, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	if h.hash != hash || h.number != number {
		return nil, fmt.Errorf("eth_getBlockByHash: %w: another block", errMalformed)
	}
	return h, nil
}
