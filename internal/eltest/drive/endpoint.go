package drive

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/engineapi"
)

const (
	callTimeout = 30 * time.Second
	maxAnswer   = 256 << 20
)

// Endpoint is an Engine API and the secret that its tokens are signed with.
type Endpoint struct {
	URL    string
	Secret engineapi.Secret
}

// Call sends one call and is its result.
func (e Endpoint) Call(ctx context.Context, method string, params ...any) (json.RawMessage, error) {
	answer, status, err := e.post(ctx, method, params)
	if err != nil {
		return nil, err
	}
	if r := engineapi.ParseResult(status, answer); !r.OK() {
		return nil, fmt.Errorf("%s: HTTP %d, error %d %s", method, status, r.Code, r.Message)
	}
	return engineapi.ResultOf(answer), nil
}

func (e Endpoint) post(ctx context.Context, method string, params []any) (answer []byte, status int, err error) {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return nil, 0, fmt.Errorf("encode %s: %w", method, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", e.Secret.Authorization(time.Now()))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return answer, res.StatusCode, err
}

// Head is the endpoint's latest block.
func (e Endpoint) Head(ctx context.Context) (Head, error) {
	number, hash, _, err := e.block(ctx, "latest")
	return Head{Hash: hash, Number: number}, err
}

func (e Endpoint) block(ctx context.Context, tag string) (number uint64, hash common.Hash, timestamp uint64, err error) {
	result, err := e.Call(ctx, "eth_getBlockByNumber", tag, false)
	if err != nil {
		return 0, common.Hash{}, 0, err
	}
	var b struct {
		Hash      common.Hash `json:"hash"`
		Number    string      `json:"number"`
		Timestamp string      `json:"timestamp"`
	}
	if result == nil {
		return 0, common.Hash{}, 0, fmt.Errorf("block %s is not known", tag)
	}
	if err := json.Unmarshal(result, &b); err != nil {
		return 0, common.Hash{}, 0, fmt.Errorf("block %s: %w", tag, err)
	}
	if _, err := fmt.Sscanf(b.Number+" "+b.Timestamp, "0x%x 0x%x", &number, &timestamp); err != nil {
		return 0, common.Hash{}, 0, fmt.Errorf("block %s: %w", tag, err)
	}
	return number, b.Hash, timestamp, nil
}
