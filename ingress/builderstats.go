package ingress

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/order"
)

// errStats means that a builder's statistics are not a JSON object.
var errStats = errors.New("expected an object of statistics by signer")

// wireStats is what a builder posts about one entity.
type wireStats struct {
	ToB          float64 `json:"passed_tob_simulation_total"`
	Included     float64 `json:"included_in_the_block_total"`
	Contribution float64 `json:"max_block_contribution_pct"`
}

// builderStats reads {"0xsigner": {…}, …} and credits each signer. An element that can't be read
// is skipped and counted; what came before a syntax error is kept.
func (s *Server) builderStats(r io.Reader) error {
	dec := jsontext.NewDecoder(r)
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return errStats
	}
	for dec.PeekKind() == '"' {
		key, err := dec.ReadToken()
		if err != nil {
			return fmt.Errorf("%w: %w", errStats, err)
		}
		name := key.String() // key is a view that ReadValue overwrites
		value, err := dec.ReadValue()
		if err != nil {
			return fmt.Errorf("%w: %w", errStats, err)
		}
		s.credit(name, value)
	}
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '}' {
		return errStats
	}
	return nil
}

// credit gives one element to its entity. Signers that this door does not know are remembered,
// within the cache's bound, so that their next order is classified by it.
func (s *Server) credit(name string, value jsontext.Value) {
	var in wireStats
	signer, ok := statsSigner(name)
	if !ok || value.Kind() != '{' || json.Unmarshal(value, &in) != nil || !in.sane() {
		s.metrics.stats["malformed"].Inc()
		return
	}
	now := s.ports.Clock.Now()
	e := recall(s.memory.Load().entities, signer, func() *entity { return new(entity) })
	e.built(now, order.BuilderStats{
		PassedToBSimulation: uint64(in.ToB),
		Included:            uint64(in.Included),
		MaxContributionPct:  in.Contribution,
	})
	s.metrics.stats["applied"].Inc()
}

func (w *wireStats) sane() bool {
	ok := func(f float64) bool { return f >= 0 && f <= math.MaxUint32 }
	return ok(w.ToB) && ok(w.Included) && ok(w.Contribution)
}

// statsSigner reads a key: an address, or FlowProxy's spelling of one, Signer(0x…).
func statsSigner(key string) (a common.Address, ok bool) {
	if inner, found := strings.CutPrefix(key, "Signer("); found {
		key = strings.TrimSuffix(inner, ")")
	}
	key, ok = strings.CutPrefix(key, "0x")
	if !ok || len(key) != 2*common.AddressLength {
		return a, false
	}
	_, err := hex.Decode(a[:], []byte(key))
	return a, err == nil
}
