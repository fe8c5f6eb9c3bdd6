package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
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

var (
	errHead  = errors.New("no block number")
	errChain = errors.New("another chain")
)

// head asks an execution node for its newest block. The last one known stays true while the node is
// away, as a block that was there does not leave. A node of another chain than orders.chain_id is not
// believed: its chain is asked for at the start, after each failure and on each new connection.
type head struct {
	chain   uint64
	client  *http.Client
	log     *slog.Logger
	errors  prometheus.Counter
	foreign prometheus.Gauge
	block   atomic.Uint64
	changed chan struct{} // of size one: url is another

	mu  sync.Mutex // an answer of the URL before is not taken for one of the URL in force
	url string     // empty: nobody is asked

	asked   string    // of Run's goroutine, as what follows: the URL that checked and state belong to
	checked bool      // the node at asked is of our chain, as far as is known
	state   headState // as last logged
}

// headState is what is known of the node.
type headState uint8

const (
	headUnasked headState = iota + 1
	headKnown
	headAway
	headForeign
)

var _ egress.Head = (*head)(nil)

func newHead(orders Orders, log *slog.Logger, reg prometheus.Registerer) *head {
	h := &head{url: orders.HeadURL, chain: orders.ChainID, log: log, changed: make(chan struct{}, 1), client: &http.Client{
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
		Name: "millrace_head_errors_total", Help: "Questions for the newest block or its chain that got no usable answer.",
	})
	h.foreign = f.NewGauge(prometheus.GaugeOpts{
		Name: "millrace_head_wrong_chain", Help: "1 while the node at orders.head_url is of another chain than orders.chain_id and is not used.",
	})
	return h
}

// Block is the newest block known, zero before the first answer and without a node to ask.
func (h *head) Block() uint64 { return h.block.Load() }

// follow asks the node at another URL from now on; empty: nobody, and target blocks end nothing.
func (h *head) follow(at string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at == h.url {
		return
	}
	if h.url = at; at == "" {
		h.block.Store(0)
	}
	select {
	case h.changed <- struct{}{}:
	default: // it has not been seen yet
	}
}

func (h *head) source() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.url
}

// Run asks until ctx ends. A node that is away is no reason to stop.
func (h *head) Run(ctx context.Context) error {
	defer h.client.CloseIdleConnections()
	tick := time.NewTicker(headEvery)
	defer tick.Stop()
	for {
		h.round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-h.changed:
		case <-tick.C:
		}
	}
}

// round asks once, if there is somebody to ask.
func (h *head) round(ctx context.Context) {
	if at := h.source(); at != h.asked || h.state == 0 {
		h.asked, h.checked, h.state = at, false, headUnasked
		h.foreign.Set(0)
		h.client.CloseIdleConnections()
	}
	if h.asked == "" {
		return
	}
	n, err := h.newest(ctx)
	if ctx.Err() == nil {
		h.take(ctx, n, err)
	}
}

// take notes an answer and logs when that changes the state.
func (h *head) take(ctx context.Context, n uint64, err error) {
	was := h.state
	switch {
	case errors.Is(err, errChain):
		h.foreign.Set(1)
		if h.state = headForeign; was != headForeign {
			h.log.LogAttrs(ctx, slog.LevelWarn, "orders.head_url is not used, target blocks end nothing new", slog.Any("error", err))
		}
	case err != nil: // whether it is of our chain stays as it was
		h.errors.Inc()
		if h.state = headAway; was != headAway {
			h.log.LogAttrs(ctx, slog.LevelWarn, "newest block not known, target blocks end nothing new", slog.Any("error", err))
		}
	default:
		h.foreign.Set(0)
		h.mu.Lock()
		if h.url == h.asked {
			h.block.Store(n)
		}
		h.mu.Unlock()
		if h.state = headKnown; was != headKnown {
			h.log.LogAttrs(ctx, slog.LevelInfo, "newest block known", slog.Uint64("block", n))
		}
	}
}

// newest is the node's newest block, when the node is of our chain.
func (h *head) newest(ctx context.Context) (n uint64, err error) {
	defer func() { h.checked = err == nil }()
	if !h.checked {
		if err = h.checkChain(ctx); err != nil {
			return 0, err
		}
	}
	n, fresh, err := h.ask(ctx, "eth_blockNumber")
	if err == nil && fresh { // perhaps another node is there now
		err = h.checkChain(ctx)
	}
	return n, err
}

func (h *head) checkChain(ctx context.Context) error {
	switch id, _, err := h.ask(ctx, "eth_chainId"); {
	case err != nil:
		return err
	case id != h.chain:
		return fmt.Errorf("%w: the node is of chain %d, orders.chain_id is %d", errChain, id, h.chain)
	}
	return nil
}

// ask is one question without parameters; fresh: over a connection that was made for it. Its errors
// don't name the URL, which may carry a token.
func (h *head) ask(ctx context.Context, method string) (n uint64, fresh bool, err error) {
	var reused atomic.Bool // the transport may still be dialing when the request has failed
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused.Store(i.Reused) }})
	question := `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":[]}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.asked, strings.NewReader(question))
	if err != nil {
		return 0, false, fmt.Errorf("%w: bad URL", errHead)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return 0, false, fmt.Errorf("%w: %w", errHead, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, headMaxBody))
	if err != nil {
		return 0, false, fmt.Errorf("%w: %w", errHead, err)
	}
	if resp.StatusCode != http.StatusOK {
		return 0, false, fmt.Errorf("%w: status %d", errHead, resp.StatusCode)
	}
	n, err = parseHead(body)
	return n, !reused.Load(), err
}

// parseHead reads the answer to eth_blockNumber or eth_chainId.
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
