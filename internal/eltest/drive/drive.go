// Package drive is a consensus client of the smallest kind: it has an execution client build a block
// a slot, of whatever fork the genesis file says, and makes it the head. It reorganises, repeats
// itself, misses slots and leaves orphans, as a network does, and can drive an endpoint with blocks
// that another client built, so that the endpoint may be gone for a while.
//
// # Time
//
// Slots are as fast as the client: timestamps run ahead of the clock, 12 s a slot. Clients don't
// mind.
package drive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/engineapi"
)

// ErrNotValid is returned when a client does not find a block valid that it or its peer built.
var ErrNotValid = errors.New("not VALID")

// Config says what to drive and how.
type Config struct {
	Target  Endpoint // gets the calls of a consensus client
	Genesis Genesis
	// Network builds the blocks when it is set, and is driven beside Target; then Target's errors
	// and answers other than VALID are counted and passed over. Without it Target builds.
	Network *Endpoint
	// BuildWait is how long a client may build, 20 ms by default: with transactions 300 ms.
	BuildWait time.Duration
	// Finality is how many blocks the finalized block lies behind the head, 8 by default; the safe
	// block half of it. Zero turns it to the default, NoFinality off.
	Finality int
	Seed     uint64
}

// NoFinality leaves the safe and finalized blocks at zero.
const NoFinality = -1

// Head is a block that the driver made.
type Head struct {
	Hash   common.Hash
	Number uint64
}

// Driver drives one endpoint. It is not safe for concurrent use.
type Driver struct {
	cfg   Config
	rng   *rand.Rand
	chain []Head // canonical, the genesis block first
	slot  uint64
	// safe and final are places in chain, zero without one. They never go back, as on a network.
	safe, final int

	refused int
}

// New makes a driver; Sync says where it begins.
func New(cfg Config) *Driver {
	if cfg.BuildWait == 0 {
		cfg.BuildWait = 20 * time.Millisecond
	}
	if cfg.Finality == 0 {
		cfg.Finality = 8
	}
	return &Driver{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1))} //nolint:gosec // a scenario, not a secret
}

// builder is the client that builds.
func (d *Driver) builder() Endpoint {
	if d.cfg.Network != nil {
		return *d.cfg.Network
	}
	return d.cfg.Target
}

// Sync begins at the building client's canonical chain.
func (d *Driver) Sync(ctx context.Context) error {
	b := d.builder()
	latest, _, timestamp, err := b.block(ctx, "latest")
	if err != nil {
		return err
	}
	d.slot = (timestamp - d.cfg.Genesis.Timestamp) / slotSeconds
	d.chain = d.chain[:0]
	for n := uint64(0); n <= latest; n++ {
		number, hash, _, err := b.block(ctx, fmt.Sprintf("0x%x", n))
		if err != nil {
			return err
		}
		d.chain = append(d.chain, Head{hash, number})
	}
	return nil
}

// Head is the last block that was made the head.
func (d *Driver) Head() Head { return d.chain[len(d.chain)-1] }

// Slot is the number of the last slot.
func (d *Driver) Slot() uint64 { return d.slot }

// Refused is how many of Target's answers were errors or not VALID while another client built.
func (d *Driver) Refused() int { return d.refused }

// Step makes one block and makes it the head.
func (d *Driver) Step(ctx context.Context) error {
	payload, err := d.build(ctx, d.Head())
	if err != nil {
		return err
	}
	if err := d.newPayload(ctx, payload); err != nil {
		return err
	}
	d.chain = append(d.chain, payload.head)
	return d.forkchoice(ctx)
}

// Reorg takes the last depth blocks off the chain; the next block is built below them. It never
// reaches the safe block.
func (d *Driver) Reorg(ctx context.Context, depth int) error {
	depth = min(depth, len(d.chain)-1-d.safe)
	d.chain = d.chain[:len(d.chain)-max(depth, 0)]
	return d.Step(ctx)
}

// Orphan makes a block that never becomes the head.
func (d *Driver) Orphan(ctx context.Context) error {
	payload, err := d.build(ctx, d.Head())
	if err != nil {
		return err
	}
	return d.newPayload(ctx, payload)
}

// Repeat sends the last forkchoice again, as clients do.
func (d *Driver) Repeat(ctx context.Context) error { return d.forkchoice(ctx) }

// Miss lets a slot pass.
func (d *Driver) Miss() { d.slot++ }

// Random makes one slot of a busy network: one in eight is a reorganisation of up to three blocks,
// one in sixteen each is repeated, missed or an orphan.
func (d *Driver) Random(ctx context.Context) error {
	switch n := d.rng.IntN(16); n {
	case 0, 1:
		return d.Reorg(ctx, 1+d.rng.IntN(3))
	case 2:
		if err := d.Repeat(ctx); err != nil {
			return err
		}
	case 3:
		d.Miss()
	case 4:
		if err := d.Orphan(ctx); err != nil {
			return err
		}
	}
	return d.Step(ctx)
}

// payload is what a client built.
type payload struct {
	head    Head
	version int
	params  []any
}

// build has the building client build on parent.
func (d *Driver) build(ctx context.Context, parent Head) (payload, error) {
	d.slot++
	fork := d.cfg.Genesis.fork(d.slot)
	root := d.random()
	var id string
	err := d.forkchoiceOn(ctx, parent, fork, d.attributes(fork, root), &id)
	if err != nil {
		return payload{}, err
	}
	timer := time.NewTimer(d.cfg.BuildWait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return payload{}, ctx.Err()
	}
	built, err := d.builder().Call(ctx, fmt.Sprintf("engine_getPayloadV%d", fork.payload), id)
	if err != nil {
		return payload{}, fmt.Errorf("get payload %s: %w", id, err)
	}
	return assemble(fork, built, root)
}

func (d *Driver) random() common.Hash {
	var h common.Hash
	for i := 0; i < len(h); i += 8 {
		binary.BigEndian.PutUint64(h[i:], d.rng.Uint64())
	}
	return h
}

// attributes are the payload attributes of the slot.
func (d *Driver) attributes(fork fork, root common.Hash) map[string]any {
	a := map[string]any{
		"timestamp":             fmt.Sprintf("0x%x", d.cfg.Genesis.Timestamp+d.slot*slotSeconds),
		"prevRandao":            d.random(),
		"suggestedFeeRecipient": "0xfee0000000000000000000000000000000000001",
	}
	if fork.forkchoice >= 2 {
		a["withdrawals"] = []any{}
	}
	if fork.forkchoice >= 3 {
		a["parentBeaconBlockRoot"] = root
	}
	if fork.forkchoice >= 4 {
		a["slotNumber"] = fmt.Sprintf("0x%x", d.slot)
		a["targetGasLimit"] = "0x2255100"
	}
	return a
}

// assemble makes the parameters of newPayload from what getPayload gave.
func assemble(fork fork, built json.RawMessage, root common.Hash) (payload, error) {
	var envelope struct {
		Payload json.RawMessage `json:"executionPayload"`
		Blobs   struct {
			Commitments []string `json:"commitments"`
		} `json:"blobsBundle"`
		Requests []json.RawMessage `json:"executionRequests"`
	}
	if err := json.Unmarshal(built, &envelope); err != nil {
		return payload{}, fmt.Errorf("built payload: %w", err)
	}
	body := envelope.Payload
	if body == nil {
		body = built
	}
	var block struct {
		Hash   common.Hash `json:"blockHash"`
		Number string      `json:"blockNumber"`
	}
	if err := json.Unmarshal(body, &block); err != nil {
		return payload{}, fmt.Errorf("built payload: %w", err)
	}
	p := payload{version: fork.newPayload, head: Head{Hash: block.Hash}, params: []any{body}}
	if _, err := fmt.Sscanf(block.Number, "0x%x", &p.head.Number); err != nil {
		return payload{}, fmt.Errorf("block number %q: %w", block.Number, err)
	}
	if fork.newPayload >= 3 {
		hashes := make([]common.Hash, len(envelope.Blobs.Commitments))
		for i, c := range envelope.Blobs.Commitments {
			hashes[i] = versionedHash(c)
		}
		p.params = append(p.params, hashes, root)
	}
	if fork.newPayload >= 4 {
		if envelope.Requests == nil {
			envelope.Requests = []json.RawMessage{}
		}
		p.params = append(p.params, envelope.Requests)
	}
	return p, nil
}

// versionedHash is 1 and the commitment's SHA-256 from its second byte on.
func versionedHash(commitment string) common.Hash {
	b, _ := hex.DecodeString(commitment[min(2, len(commitment)):])
	h := common.Hash(sha256.Sum256(b))
	h[0] = 1
	return h
}

// newPayload shows a block to every client driven.
func (d *Driver) newPayload(ctx context.Context, p payload) error {
	method := fmt.Sprintf("engine_newPayloadV%d", p.version)
	return d.each(func(e Endpoint) error {
		return validity(ctx, e, method, nil, p.params...)
	})
}

// forkchoice makes the chain's last block the head of every client driven.
func (d *Driver) forkchoice(ctx context.Context) error {
	return d.forkchoiceOn(ctx, d.Head(), d.cfg.Genesis.fork(d.slot), nil, nil)
}

// forkchoiceOn sends a forkchoice to every client driven, attributes to the one that builds.
func (d *Driver) forkchoiceOn(ctx context.Context, head Head, fork fork, attributes any, id *string) error {
	method := fmt.Sprintf("engine_forkchoiceUpdatedV%d", fork.forkchoice)
	state := map[string]common.Hash{
		"headBlockHash": head.Hash, "safeBlockHash": d.behind(&d.safe, d.cfg.Finality/2), "finalizedBlockHash": d.behind(&d.final, d.cfg.Finality),
	}
	return d.each(func(e Endpoint) error {
		params := []any{state, attributes}
		into := id
		if e != d.builder() {
			params[1], into = nil, nil
		}
		if fork.forkchoice >= 4 {
			params = append(params, nil)
		}
		return validity(ctx, e, method, into, params...)
	})
}

// each calls f for the building client and then for Target, whose errors count only if it builds.
func (d *Driver) each(f func(Endpoint) error) error {
	if err := f(d.builder()); err != nil {
		return err
	}
	if d.cfg.Network != nil {
		if err := f(d.cfg.Target); err != nil {
			d.refused++
		}
	}
	return nil
}

// behind moves an anchor to n blocks below the head, if that is forward, and is its block; zero
// before there is one.
func (d *Driver) behind(anchor *int, n int) common.Hash {
	if n > 0 {
		*anchor = max(*anchor, len(d.chain)-1-n)
	}
	if *anchor <= 0 {
		return common.Hash{}
	}
	return d.chain[*anchor].Hash
}

// validity sends a call and wants VALID, and a payload id when id is given.
func validity(ctx context.Context, e Endpoint, method string, id *string, params ...any) error {
	answer, status, err := e.post(ctx, method, params)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	r := engineapi.ParseResult(status, answer)
	switch {
	case !r.OK():
		return fmt.Errorf("%s: HTTP %d, error %d %s", method, status, r.Code, r.Message)
	case r.Verdict() != engineapi.Valid:
		return fmt.Errorf("%s: %s %s: %w", method, r.Status, r.Validation, ErrNotValid)
	case id != nil && r.PayloadID == "":
		return fmt.Errorf("%s: no payload id", method)
	case id != nil:
		*id = r.PayloadID
	}
	return nil
}
