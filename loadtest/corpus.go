package loadtest

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"millrace/internal/order"
)

const (
	// bundleOverhead is about half of what a bundle has beside its transactions, bytes.
	bundleOverhead = 200
	// maxRawTx is the longest transaction of a bundle of fixed size, bytes.
	maxRawTx = 48 << 10
	// maxSize bounds Size, bytes: what 100 transactions of that length make.
	maxSize = 8 << 20
	// extraID sets the ids of transactions that nobody repeats apart from the orders' own.
	extraID = 1 << 63
	// cancelSlot sets the replacement keys of lone cancels apart from those in use.
	cancelSlot = 1 << 32
)

// CorpusConfig says which orders a corpus consists of. The zero value of a field means its default.
type CorpusConfig struct {
	Seed        uint64  // everything follows from it
	Run         uint64  // goes into the tags, default Seed
	Flow        uint16  // goes into the tags; flows of one run differ in it
	ChainID     uint64  // default 1
	Mix         Mix     // default DefaultMix
	Signers     int     // who signs the requests, default 64; rotates by order
	FirstSigner int     // shifts the signers, so that two flows can have different ones
	Senders     int     // who signs the transactions, default 256
	Repeats     float64 // share of a bundle's transactions that were in an earlier one, default 0.7; negative: none
	Window      int     // how many orders back a repeated transaction may lie, default 2000
	Keys        int     // replacement keys in use at a time, default 32
	HeavyTxs    int     // transactions of a ShapeHeavy bundle, default 100
	SizeScale   float64 // stretches the published sizes, default 1
	// Size makes every bundle of the pooling shapes about this long, in bytes of JSON, instead of the
	// published distribution; zero: as published. Below about 700 nothing gets shorter.
	Size int
}

func (c CorpusConfig) withDefaults() CorpusConfig {
	def := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	def(&c.Signers, 64)
	def(&c.Senders, 256)
	if c.Window == 0 && c.Size > 0 {
		c.Window = min(max(feedBytes/c.Size, 32), 2000) // its transactions are remembered
	}
	def(&c.Window, 2000)
	def(&c.Keys, 32)
	def(&c.HeavyTxs, 100)
	if c.ChainID == 0 {
		c.ChainID = 1
	}
	if c.Run == 0 {
		c.Run = c.Seed
	}
	if c.Mix == nil {
		c.Mix = DefaultMix()
	}
	if c.Repeats == 0 {
		c.Repeats = 0.7
	}
	if c.SizeScale == 0 {
		c.SizeScale = 1
	}
	return c
}

// Order is one generated request, ready to be sent.
type Order struct {
	Tag     Tag
	Shape   Shape
	Method  order.Method
	Signer  common.Address
	UUID    order.UUID // zero: can't be replaced
	Nonce   uint64     // explicit nonce, with UUID
	Txs     int        // transactions in it
	Repeats int        // of which were in an earlier order
	// Sources are the orders that first brought the repeated ones, by sequence.
	Sources []uint64
	// Hash is the transaction's hash, which is its public id; zero for bundles, whose id depends on
	// what the door adds.
	Hash   common.Hash
	Body   []byte
	Header string // value of SignatureHeader
}

// Corpus makes orders: order n is a function of the configuration, whatever the machine, and may be
// made from any goroutine.
type Corpus struct {
	cfg     CorpusConfig
	run     uint64
	signers []key
	forge   *txForge
	wrong   types.Signer // of another chain
}

// NewCorpus checks the configuration and derives the keys.
func NewCorpus(cfg CorpusConfig) (*Corpus, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Mix.validate(); err != nil {
		return nil, err
	}
	if cfg.Signers < 1 || cfg.Senders < 1 || cfg.Window < 1 || cfg.Keys < 1 || cfg.Repeats >= 1 || cfg.FirstSigner < 0 || cfg.Size < 0 || cfg.Size > maxSize {
		return nil, fmt.Errorf("%w: corpus %+v", ErrConfig, cfg)
	}
	signers, err := deriveKeys(cfg.Seed, "signer", cfg.FirstSigner+cfg.Signers)
	if err != nil {
		return nil, err
	}
	forge, err := newTxForge(cfg.Seed+uint64(cfg.Flow)<<32, cfg.ChainID, cfg.Senders, 2*cfg.Window)
	if err != nil {
		return nil, err
	}
	return &Corpus{
		cfg: cfg, run: cfg.Run, signers: signers[cfg.FirstSigner:], forge: forge,
		wrong: types.LatestSignerForChainID(new(big.Int).SetUint64(cfg.ChainID + 31336)),
	}, nil
}

// plan is the cheap part of an order: what it is, before anything is signed.
type plan struct {
	shape Shape
	fresh int // calldata of the new transaction that other bundles repeat, bytes
	reps  int // wanted repeats
	extra int // new transactions that nobody repeats, where one alone would be too long
	size  int // wanted size of the body, bytes
	rng   *rand.Rand
}

func (c *Corpus) plan(n uint64) plan {
	rng := rand.New(rand.NewPCG(c.cfg.Seed, n<<16|uint64(c.cfg.Flow))) //nolint:gosec // reproducible on purpose
	p := plan{shape: c.cfg.Mix.pick(rng.Float64()), rng: rng}
	p.size = int(float64(bundleSize(rng.Float64())) * c.cfg.SizeScale)
	if c.cfg.Size > 0 {
		p.size = c.cfg.Size
	}
	if c.cfg.Repeats > 0 {
		// A geometric count whose mean gives the wanted share beside one new transaction.
		mean := c.cfg.Repeats / (1 - c.cfg.Repeats)
		for p.reps < 40 && rng.Float64() < mean/(1+mean) {
			p.reps++
		}
	}
	raw := max(p.size/2-bundleOverhead, txOverhead)
	if c.cfg.Size > 0 {
		p.fit(raw, max(c.cfg.Repeats, 0))
	}
	p.fresh = max(raw/(1+p.reps+p.extra)-txOverhead, 4)
	return p
}

// fit makes the number of transactions go with the wanted raw size, so that none is longer than a
// pool takes and their overhead alone doesn't exceed it.
func (p *plan) fit(raw int, repeats float64) {
	p.reps = min(p.reps, raw/(txOverhead+20)-1)
	if n := (raw + maxRawTx - 1) / maxRawTx; n > 1+p.reps {
		p.reps = min(int(math.Round(float64(n)*repeats)), n-1)
		p.extra = n - 1 - p.reps
	}
}

// pools reports whether a plan's new transaction may be repeated by later orders.
func (p plan) pools() bool { return p.shape == ShapeBundle || p.shape == ShapeReplacement }

// Order makes order n.
func (c *Corpus) Order(n uint64) (*Order, error) {
	p := c.plan(n)
	o := &Order{Tag: Tag{Run: c.run, Flow: c.cfg.Flow, Seq: n}, Shape: p.shape, Method: p.shape.method()}
	signer := c.signers[n%uint64(len(c.signers))]
	if p.shape.replaces() {
		slot := p.rng.IntN(c.cfg.Keys)
		o.UUID = c.uuid(slot)
		o.Nonce = n + 1 // rises along the corpus, whatever the key
		signer = c.signers[slot%len(c.signers)]
	}
	o.Signer = signer.address
	if err := c.compose(o, p, n); err != nil {
		return nil, fmt.Errorf("order %d: %w", n, err)
	}
	header, err := signer.sign(o.Body)
	if err != nil {
		return nil, fmt.Errorf("order %d: %w", n, err)
	}
	o.Header = header
	return o, nil
}

func (c *Corpus) compose(o *Order, p plan, n uint64) error {
	tag := o.Tag.Bytes()
	switch o.Shape {
	case ShapeTransaction, ShapePrivate, ShapePrivateRaw, ShapeShare:
		tx, err := c.forge.forge(n, max(min(p.fresh, 2000), TagSize), tag[:], c.forge.signer)
		if err != nil {
			return err
		}
		o.single(tx)
		return nil
	case ShapeBlobTransaction:
		tx, err := c.forge.forgeBlob(n, tag[:], nil)
		if err != nil {
			return err
		}
		o.single(tx)
		return nil
	case ShapeCancelBundle:
		o.Body = cancelBody(o, c.uuid(cancelSlot+int(n))) //nolint:gosec // below 2^48
		return nil
	case ShapeBundle, ShapeReplacement, ShapeCancel, ShapeInvalid, ShapeBlobBundle, ShapeReverting, ShapeHeavy, ShapeMalformed:
		txs, err := c.transactions(o, p, n)
		if err != nil {
			return err
		}
		o.Txs = len(txs)
		o.Body = bundleBody(o, txs)
	}
	return nil
}

// single makes o a request that carries one transaction.
func (o *Order) single(tx transaction) {
	o.Txs = 1
	o.Body = singleBody(o.Method, tx)
	if o.Shape != ShapeShare {
		o.Hash = tx.hash
	}
}

// transactions makes those of a bundle.
func (c *Corpus) transactions(o *Order, p plan, n uint64) ([]transaction, error) {
	switch o.Shape { //nolint:exhaustive // the other shapes are made like a bundle, or are none
	case ShapeCancel, ShapeMalformed:
		return nil, nil
	case ShapeInvalid:
		return one(c.forge.forge(n, p.fresh, nil, c.wrong))
	case ShapeBlobBundle:
		return one(c.forge.forgeBlob(n, nil, emptySidecar(byte(n%2))))
	case ShapeHeavy:
		txs := make([]transaction, c.cfg.HeavyTxs)
		for i := range txs {
			var err error
			if txs[i], err = c.forge.forge(n<<16|uint64(i), 4, nil, c.forge.signer); err != nil {
				return nil, err
			}
		}
		return txs, nil
	}
	return c.pooledTransactions(o, p, n)
}

// pooledTransactions repeats what earlier orders brought and adds one new transaction.
func (c *Corpus) pooledTransactions(o *Order, p plan, n uint64) ([]transaction, error) {
	txs := make([]transaction, 0, p.reps+1)
	extra := p.extra
	for range p.reps {
		id, calldata, ok := c.earlier(p, n, o.Sources)
		if !ok {
			extra++ // at the start of a corpus there is nothing to repeat, and sizes are to hold from there
			continue
		}
		tx, err := c.forge.pooled(id, calldata)
		if err != nil {
			return nil, err
		}
		txs = append(txs, tx)
		o.Repeats++
		o.Sources = append(o.Sources, id)
	}
	for i := range extra {
		tx, err := c.forge.forge(extraID|n<<16|uint64(i), p.fresh, nil, c.forge.signer)
		if err != nil {
			return nil, err
		}
		txs = append(txs, tx)
	}
	tx, err := c.forge.pooled(n, p.fresh)
	if err != nil {
		return nil, err
	}
	return append(txs, tx), nil
}

// earlier picks an order before n whose new transaction may be repeated: of a few at random the one
// that comes closest in size, so that bodies keep the published sizes, and none that the bundle has.
func (c *Corpus) earlier(p plan, n uint64, taken []uint64) (id uint64, calldata int, ok bool) {
	best := 1.0                           // a factor of e: what is further off would spoil the size
	reach := min(uint64(c.cfg.Window), n) //nolint:gosec // positive
	if reach == 0 {
		return 0, 0, false
	}
	for range 12 {
		back := 1 + p.rng.Uint64N(reach)
		src := c.plan(n - back)
		off := math.Abs(math.Log(float64(src.fresh+txOverhead) / float64(p.fresh+txOverhead)))
		if src.pools() && off < best && !slices.Contains(taken, n-back) {
			id, calldata, ok, best = n-back, src.fresh, true, off
		}
	}
	return id, calldata, ok
}

func one(tx transaction, err error) ([]transaction, error) { return []transaction{tx}, err }

// uuid is the replacement UUID of a slot; the run is in it, so that runs don't replace each other's.
func (c *Corpus) uuid(slot int) order.UUID {
	rng := rand.New(rand.NewPCG(c.cfg.Seed+uint64(c.cfg.Flow), uint64(slot))) //nolint:gosec // reproducible on purpose
	var u order.UUID
	fill(rng, u[:])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}
