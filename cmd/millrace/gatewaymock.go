package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"millrace/internal/jsonrpc"
)

// mockNode is the built-in execution node of a gateway's first try, on a loopback port of its own: whatever it is asked, it
// says what it was.
type mockNode struct {
	listener net.Listener
	log      *slog.Logger
}

const (
	mockBody  = 8 << 20
	mockBatch = 1000
)

func newMockNode(ctx context.Context, log *slog.Logger) (*mockNode, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("mock node: %w", err)
	}
	return &mockNode{listener: l, log: log}, nil
}

func (m *mockNode) url() string { return "http://" + m.listener.Addr().String() }

// Run answers until ctx ends.
func (m *mockNode) Run(ctx context.Context) error {
	s := &http.Server{Handler: m, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) }}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(m.listener); ctx.Err() == nil {
		return fmt.Errorf("mock node: %w", err)
	}
	return nil
}

// ServeHTTP answers requests and batches; what is no JSON-RPC gets its own bytes back.
func (m *mockNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mockBody))
	if err != nil {
		http.Error(w, "unreadable body", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	calls, batch, fault := jsonrpc.Parse(body, mockBatch)
	if fault != nil {
		_, _ = w.Write(body)
		return
	}
	var out []byte
	for i := range calls {
		if i > 0 {
			out = append(out, ',')
		}
		out = m.answer(r.Context(), out, &calls[i])
	}
	if batch {
		out = append(append([]byte{'['}, out...), ']')
	}
	_, _ = w.Write(append(out, '\n'))
}

// answer appends what the node says: a chain with a block each twelve seconds, and "mock" to all else.
func (m *mockNode) answer(ctx context.Context, out []byte, c *jsonrpc.Call) []byte {
	if c.Err != nil {
		return jsonrpc.AppendError(out, nil, c.Err)
	}
	const slot = 12
	head := time.Now().Unix() / slot
	result := `"mock"`
	switch c.Request.Method {
	case "eth_chainId":
		result = `"0x1"`
	case "net_version":
		result = `"1"`
	case "eth_syncing", "eth_uninstallFilter":
		result = `false`
	case "eth_newFilter", "eth_newBlockFilter", "eth_newPendingTransactionFilter":
		result = `"0x1"`
	case "eth_getFilterChanges", "eth_getFilterLogs", "eth_getLogs":
		result = `[]`
	case "eth_call", "eth_getCode":
		result = `"0x"`
	case "eth_getBalance", "eth_getTransactionCount", "eth_gasPrice", "eth_estimateGas":
		result = `"0x0"`
	case "eth_blockNumber":
		result = fmt.Sprintf(`"0x%x"`, head)
	case "eth_getBlockByNumber":
		result = fmt.Sprintf(`{"number":"0x%x","hash":"0x%064x","parentHash":"0x%064x","timestamp":"0x%x","transactions":[]}`, head, head, head-1, head*slot)
	}
	m.log.LogAttrs(ctx, slog.LevelDebug, "mock node asked", slog.Int("bytes", len(c.Request.Raw)))
	return jsonrpc.AppendResult(out, c.Request.ID, []byte(result))
}
