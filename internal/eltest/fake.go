package eltest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/engineapi"
)

// Config describes a fake client. The zero value verifies no tokens and has a genesis block of its
// own.
type Config struct {
	Name    string // in getClientVersionV1; "FK" without one
	ChainID uint64 // 770077 without one, the test genesis files' chain
	Genesis Block  // GenesisBlock without a hash
	// Secret is what tokens must be signed with; nil takes every call.
	Secret *engineapi.Secret
	// Snap makes the client wait for peers that never come, as geth does by default.
	Snap bool
	// OnKill is what Kill costs; KillKeeps without one.
	OnKill Kill
	// Capabilities is the answer to exchangeCapabilities; every known engine method without one.
	Capabilities []string
	// Peers makes eth_syncing answer with an object while the head is behind.
	Peers int
	// RequestsAt is the number of the block that has execution requests, 0: none has.
	RequestsAt uint64
}

// DefaultChainID is the chain of the genesis files in testdata.
const DefaultChainID = 770077

// GenesisBlock is the block that fakes share by default.
var GenesisBlock = Block{ //nolint:gochecknoglobals // a constant in all but syntax
	Hash: common.HexToHash("0xacaf5d479ced4385602960a10abe658ffe5ad080ecf9a871f6db77ee03a6d9b7"), Timestamp: 1750000000,
}

// Seen is one call that a fake got: an element of a batch counts as one.
type Seen struct {
	At            time.Time
	Authorization string
	Header        http.Header
	Call          engineapi.Call // a view of bytes that nobody changes
	HTTPStatus    int            // 0 while unanswered
	Answer        []byte
}

// Fake is an execution client. All methods are safe for concurrent use.
type Fake struct {
	cfg Config

	mu       sync.Mutex
	chain    chain
	building map[string]built
	script   map[string][]scripted
	seen     []*Seen
	faults   []*armed
	roots    map[common.Hash]common.Hash // state roots that are shown instead of the right ones, by block
	hung     chan struct{}               // closed when what hangs is let go
	addr     string
	server   *http.Server
	done     chan struct{}
}

// NewFake makes a client that is not listening yet; ServeHTTP works at once.
func NewFake(cfg Config) *Fake {
	if cfg.ChainID == 0 {
		cfg.ChainID = DefaultChainID
	}
	if cfg.Genesis.Hash == (common.Hash{}) {
		cfg.Genesis = GenesisBlock
	}
	if cfg.OnKill == 0 {
		cfg.OnKill = KillKeeps
	}
	if cfg.Name == "" {
		cfg.Name = "FK"
	}
	if cfg.Capabilities == nil {
		cfg.Capabilities = capabilities()
	}
	f := &Fake{cfg: cfg, chain: newChain(cfg.Genesis), building: map[string]built{}, roots: map[common.Hash]common.Hash{}, hung: make(chan struct{})}
	f.chain.snap = cfg.Snap
	return f
}

func capabilities() []string {
	var names []string
	for _, m := range engineapi.Methods() {
		if engineapi.Classify(m) != engineapi.ClassRead && m != engineapi.MethodExchangeCapabilities {
			names = append(names, m)
		}
	}
	return names
}

// Start listens on a loopback port, after Stop or Kill on the same one.
func (f *Fake) Start() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.server != nil {
		return errors.New("the fake runs already")
	}
	addr := f.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	f.addr = l.Addr().String()
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}
	f.done = make(chan struct{})
	go func(s *http.Server, done chan struct{}) {
		defer close(done)
		_ = s.Serve(l)
	}(f.server, f.done)
	return nil
}

// URL is where the client listens, or would.
func (f *Fake) URL() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return "http://" + f.addr
}

// Stop ends the client in order: its state is kept, its memory of bad blocks is not.
func (f *Fake) Stop() { f.end(0) }

// Kill ends the client as SIGKILL does, at the cost that Config.OnKill says.
func (f *Fake) Kill() { f.end(f.cfg.OnKill) }

func (f *Fake) end(cost Kill) {
	f.mu.Lock()
	s, done := f.server, f.done
	f.server = nil
	if cost != 0 {
		f.chain.kill(cost)
	}
	f.chain.restart()
	f.building = map[string]built{}
	f.letGo()
	f.mu.Unlock()
	if s != nil {
		_ = s.Close()
		<-done
	}
}

// Wipe makes it a new client over an empty directory.
func (f *Fake) Wipe() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chain.reset()
}

// Head is the client's latest block.
func (f *Fake) Head() Block {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chain.head
}

// Anchors are the safe and the finalized block, zero when there is none.
func (f *Fake) Anchors() (safe, finalized common.Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chain.safe, f.chain.finalized
}

// SetHead moves the head behind everybody's back, as a foreign writer would; false when the block
// is not known.
func (f *Fake) SetHead(h common.Hash) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.chain.blocks[h]
	if ok {
		f.chain.head = b
	}
	return ok
}

// Add makes a block known and executed, as one that came from a peer.
func (f *Fake) Add(b Block) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chain.blocks[b.Hash] = b
}

// Reject makes a block INVALID when it comes.
func (f *Fake) Reject(h common.Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chain.marked[h] = true
}

// Accept takes Reject back, and the memory of the block being bad.
func (f *Fake) Accept(h common.Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.chain.marked, h)
	f.chain.bad = map[common.Hash]common.Hash{}
}

// SetStateRoot makes the client show another state root of a block than the block's own, as one with a damaged
// database does.
func (f *Fake) SetStateRoot(block, root common.Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roots[block] = root
}

// SetSnap switches between waiting for peers and executing.
func (f *Fake) SetSnap(on Snap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chain.snap = on == SnapOn
}

// Snap is a mode of synchronisation.
type Snap uint8

// The modes.
const (
	SnapOff Snap = iota + 1 // --syncmode full
	SnapOn                  // geth's default
)

// Calls is everything that came so far, in order.
func (f *Fake) Calls() []Seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Seen, len(f.seen))
	for i, s := range f.seen {
		out[i] = *s
	}
	return out
}

// CallsOf is what came of the classes given, in order.
func (f *Fake) CallsOf(classes ...engineapi.Class) []Seen {
	return slices.DeleteFunc(f.Calls(), func(s Seen) bool { return !slices.Contains(classes, s.Call.Class()) })
}

// Forget empties the list of calls.
func (f *Fake) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = nil
}
