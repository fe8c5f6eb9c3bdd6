package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/egress"
)

const (
	headEvery   = time.Second
	headTimeout = 2 * time.Second
	headMaxBody = 4 << 10 // of an answer, which is some 50 bytes
	headIdle    = 28 * time.Second
)

var errHead = errors.New("no block number")

// head asks an execution node for its newest block. The last one known stays true while the node is
// away, as a block that was there does not leave.
type head struct {
	url    string
	client *http.Client
	log    *slog.Logger
	errors prometheus.Counter
	block  atomic.Uint64
	failed bool // of Run's goroutine
}

var _ egress.Head = (*head)(nil)

func newHead(at string, log *slog.Logger, reg prometheus.Registerer) *head {
	h := &head{url: at, log: log, client: &http.Client{
		Timeout:   headTimeout,
		Transport: &http.Transport{MaxConnsPerHost: 1, IdleConnTimeout: headIdle, Proxy: http.ProxyFromEnvironment},
		// A redirect could carry the question, and the token in its URL, anywhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_head_block", Help: "Newest block of the node at orders.head_url; 0 while none is known.",
	}, func() float64 { return float64(h.Block()) })
	h.errors = f.NewCounter(prometheus.CounterOpts{
		Name: "millrace_head_errors_total", Help: "Questions for the newest block that got no usable answer.",
	})
	return h
}

// Block is the newest block known, zero before the first answer.
func (h *head) Block() uint64 { return h.block.Load() }

// Run asks until ctx ends. A node that is away is no reason to stop.
func (h *head) Run(ctx context.Context) error {
	defer h.client.CloseIdleConnections()
	for {
		n, err := h.ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		h.take(ctx, n, err)
		if !pause(ctx, headEvery) {
			return nil
		}
	}
}

// take notes an answer and logs when that changes the state.
func (h *head) take(ctx context.Context, n uint64, err error) {
	if err != nil {
		h.errors.Inc()
		if !h.failed {
			h.log.LogAttrs(ctx, slog.LevelWarn, "newest block not known, target blocks end nothing new", slog.Any("error", err))
		}
		h.failed = true
		return
	}
	if before := h.block.Swap(n); h.failed || before == 0 {
		h.log.LogAttrs(ctx, slog.LevelInfo, "newest block known", slog.Uint64("block", n))
	}
	h.failed = false
}

// ask is one eth_blockNumber. Its errors don't name the URL, which may carry a token.
func (h *head) ask(ctx context.Context) (uint64, error) {
	const question = `{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, strings.NewReader(question))
	if err != nil {
		return 0, fmt.Errorf("%w: bad URL", errHead)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return 0, fmt.Errorf("%w: %w", errHead, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, headMaxBody))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errHead, err)
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%w: status %d", errHead, resp.StatusCode)
	}
	return parseHead(body)
}

// parseHead reads the answer to eth_blockNumber.
func parseHead(body []byte) (uint64, error) {
	var answer struct {
		Result string `json:"result"`
		Error  *struct {
			Code int `json:"code"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Errorf("%w: not a JSON-RPC answer", errHead)
	}
	if answer.Error != nil {
		return 0, fmt.Errorf("%w: JSON-RPC error %d", errHead, answer.Error.Code)
	}
	digits, ok := strings.CutPrefix(answer.Result, "0x")
	n, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("%w: result is not a quantity", errHead)
	}
	return n, nil
}
