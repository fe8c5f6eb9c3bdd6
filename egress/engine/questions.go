package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/engineapi"
)

// head is a client's latest block.
type head struct {
	hash   common.Hash
	number uint64
}

// Identity is which chain a client is on.
type Identity struct {
	ChainID uint64
	Genesis common.Hash
	// Version is the client's entry of getClientVersionV1, raw JSON, empty when it gave none.
	Version string
}

// latest reads the client's head.
func (c *courier) latest(ctx context.Context) (head, error) {
	answer, err := c.ask(ctx, "eth_getBlockByNumber", `["latest",false]`)
	if err != nil {
		return head{}, err
	}
	number, hash, ok := engineapi.BlockResult(answer)
	if !ok {
		c.fail()
		return head{}, fmt.Errorf("latest block: %w: %.120s", errUnreachable, answer)
	}
	c.at = head{hash, number}
	return c.at, nil
}

// identity asks which chain the client is on.
func (c *courier) identity(ctx context.Context) (id Identity, err error) {
	answer, err := c.ask(ctx, "eth_chainId", "[]")
	if err != nil {
		return id, err
	}
	if id.ChainID, err = quantity(engineapi.ResultOf(answer)); err != nil {
		c.fail()
		return id, fmt.Errorf("chain id: %w: %w", errUnreachable, err)
	}
	if answer, err = c.ask(ctx, "eth_getBlockByNumber", `["0x0",false]`); err != nil {
		return id, err
	}
	_, id.Genesis, _ = engineapi.BlockResult(answer)
	if answer, err = c.ask(ctx, engineapi.MethodClientVersion,
		`[{"code":"MR","name":"millrace","version":"1","commit":"0x00000000"}]`); err != nil {
		return id, err
	}
	var versions []jsontext.Value
	if json.Unmarshal(engineapi.ResultOf(answer), &versions) == nil && len(versions) > 0 {
		id.Version = string(versions[0])
	}
	return id, nil
}

// canonical says whether the client has the block on its canonical chain.
func (c *courier) canonical(ctx context.Context, h common.Hash) (bool, error) {
	answer, err := c.ask(ctx, "eth_getBlockByHash", `["`+h.Hex()+`",false]`)
	if err != nil {
		return false, err
	}
	number, _, ok := engineapi.BlockResult(answer)
	if !ok {
		return false, nil
	}
	if answer, err = c.ask(ctx, "eth_getBlockByNumber", `["0x`+strconv.FormatUint(number, 16)+`",false]`); err != nil {
		return false, err
	}
	_, there, ok := engineapi.BlockResult(answer)
	return ok && there == h, nil
}

// capabilities are the methods that the client names, none when it does not say. Ours are given in
// the consensus client's own words if they are recorded.
func (c *courier) capabilities(ctx context.Context, ours string) ([]string, error) {
	answer, err := c.ask(ctx, engineapi.MethodExchangeCapabilities, ours)
	if err != nil {
		return nil, err
	}
	var names []string
	_ = json.Unmarshal(engineapi.ResultOf(answer), &names) // an answer of another form names none
	return names, nil
}

// ownCapabilities is the parameter of exchangeCapabilities when the consensus client's is not
// recorded.
func ownCapabilities() string {
	names := slices.DeleteFunc(slices.Clone(engineapi.Methods()), func(m string) bool {
		return !strings.HasPrefix(m, "engine_") || m == engineapi.MethodExchangeCapabilities
	})
	b, _ := json.Marshal([][]string{names})
	return string(b)
}

// syncing says whether the client says that it syncs.
func (c *courier) syncing(ctx context.Context) (bool, error) {
	answer, err := c.ask(ctx, "eth_syncing", "[]")
	if err != nil {
		return false, err
	}
	result := engineapi.ResultOf(answer)
	return len(result) > 0 && result[0] == '{', nil
}

func quantity(raw []byte) (uint64, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return 0, fmt.Errorf("quantity: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("quantity: %w", err)
	}
	return n, nil
}

// PrimaryChain is a Chain that asks the primary until it has answered once: a chain does not change
// its genesis.
type PrimaryChain struct {
	cfg    Config
	caller Caller

	mu    sync.Mutex
	known *Identity
	next  time.Time
}

// NewPrimaryChain makes a Chain of a caller of the primary that needs no Decide: it only reads.
func NewPrimaryChain(cfg Config, caller Caller) *PrimaryChain {
	return &PrimaryChain{cfg: cfg, caller: caller}
}

// Identity is the primary's. While it is not known it is asked at most once in ProbeEvery.
func (p *PrimaryChain) Identity(ctx context.Context) (Identity, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known != nil {
		return *p.known, true
	}
	if time.Now().Before(p.next) {
		return Identity{}, false
	}
	id, err := newCourier(&p.cfg, &Target{Caller: p.caller, Role: Primary}).identity(ctx)
	if err != nil || id.Genesis == (common.Hash{}) {
		p.next = time.Now().Add(p.cfg.ProbeEvery)
		return Identity{}, false
	}
	p.known = &id
	return id, true
}

// Ask is a client's identity: one question after the other, without retries.
func Ask(ctx context.Context, cfg Config, caller Caller) (Identity, error) {
	id, err := newCourier(&cfg, &Target{Caller: caller, Role: Secondary}).identity(ctx)
	if errors.Is(err, errUnauthorized) {
		return id, fmt.Errorf("%w (%s)", err, http.StatusText(http.StatusUnauthorized))
	}
	return id, err
}
