package feed

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of a filter; geth's where it has one.
const (
	maxTopics      = 4
	maxAlternative = 1000
)

// Faults of a filter; geth's texts.
var (
	errTopics  = errors.New("invalid topic(s)")
	errAddress = errors.New("invalid addresses in query")
	errMany    = errors.New("exceed max addresses or topics per search position")
	errPending = errors.New("pending logs are not supported")
	errRange   = errors.New("invalid block range params")
)

// filter is what logs are wanted, in one form for all ways to write it.
type filter struct {
	addresses []common.Address
	topics    [][]common.Hash // an empty position takes any
	from, to  uint64          // blocks
}

// parseFilter reads a filter object; null and {} want all logs.
func parseFilter(raw jsontext.Value) (*filter, error) {
	var in struct {
		Address   jsontext.Value   `json:"address"`
		Topics    []jsontext.Value `json:"topics"`
		FromBlock *string          `json:"fromBlock"`
		ToBlock   *string          `json:"toBlock"`
	}
	f := &filter{to: math.MaxUint64}
	if raw.Kind() == jsontext.KindNull {
		return f, nil
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, errors.New("expected a filter object")
	}
	var err error
	if f.addresses, err = alternatives[common.Address](in.Address, errAddress); err != nil {
		return nil, err
	}
	if len(in.Topics) > maxTopics {
		return nil, errors.New("exceed max topics")
	}
	for _, t := range in.Topics {
		position, err := alternatives[common.Hash](t, errTopics)
		if err != nil {
			return nil, err
		}
		f.topics = append(f.topics, position)
	}
	return f, f.bound(in.FromBlock, in.ToBlock)
}

// value is what a filter compares.
type value interface {
	common.Address | common.Hash
	comparable
}

// alternatives reads one value or a list of them, sorted and without doubles. null is any, and so is
// a topic's list that has one.
func alternatives[V value](raw jsontext.Value, fault error) ([]V, error) {
	switch raw.Kind() {
	case jsontext.KindInvalid, jsontext.KindNull:
		return nil, nil
	case jsontext.KindString:
		var one V
		if json.Unmarshal(raw, &one) != nil {
			return nil, fault
		}
		return []V{one}, nil
	case jsontext.KindBeginArray:
	default:
		return nil, fault
	}
	var each []*V
	var all []V
	if json.Unmarshal(raw, &each) != nil {
		return nil, fault
	}
	if len(each) > maxAlternative {
		return nil, errMany
	}
	for _, v := range each {
		switch {
		case v == nil && errors.Is(fault, errAddress):
			return nil, fault
		case v == nil:
			return nil, nil
		}
		all = append(all, *v)
	}
	slices.SortFunc(all, func(a, b V) int { return bytes.Compare(bytesOf(a), bytesOf(b)) })
	return slices.Compact(all), nil
}

func bytesOf[V value](v V) []byte {
	switch v := any(v).(type) {
	case common.Address:
		return v[:]
	case common.Hash:
		return v[:]
	}
	return nil
}

// bound reads the range of blocks; a subscription begins at the head whatever from says before it.
func (f *filter) bound(from, to *string) error {
	lower, err := parseBlock(from, 0)
	if err != nil {
		return err
	}
	upper, err := parseBlock(to, math.MaxUint64)
	if err != nil {
		return err
	}
	if lower > upper {
		return errRange
	}
	f.from, f.to = lower, upper
	return nil
}

func parseBlock(s *string, latest uint64) (uint64, error) {
	if s == nil {
		return latest, nil
	}
	switch *s {
	case "latest", "":
		return latest, nil
	case "earliest":
		return 0, nil
	case "pending":
		return 0, errPending
	}
	n, err := hexutil.DecodeUint64(*s)
	if err != nil {
		return 0, errRange
	}
	return n, nil
}

// key is equal for equal filters.
func (f *filter) key() string {
	return f.query() + " " + strconv.FormatUint(f.from, 10) + "-" + strconv.FormatUint(f.to, 10)
}

// query is the members of eth_getLogs' object that select logs.
func (f *filter) query() string {
	var b strings.Builder
	b.WriteString(`"address":`)
	list(&b, f.addresses)
	b.WriteString(`,"topics":[`)
	for i, position := range f.topics {
		if i > 0 {
			b.WriteByte(',')
		}
		if len(position) == 0 {
			b.WriteString("null")
			continue
		}
		list(&b, position)
	}
	b.WriteByte(']')
	return b.String()
}

func list[V value](b *strings.Builder, values []V) {
	b.WriteByte('[')
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, `"0x%x"`, bytesOf(v))
	}
	b.WriteByte(']')
}

// mayMatch is false if the block has no log for the filter for certain.
func (f *filter) mayMatch(h *header) bool {
	if h.number < f.from || h.number > f.to {
		return false
	}
	if h.bloom == nil {
		return true
	}
	if !anyIn(h.bloom, f.addresses) {
		return false
	}
	for _, position := range f.topics {
		if !anyIn(h.bloom, position) {
			return false
		}
	}
	return true
}

func anyIn[V value](bloom *types.Bloom, values []V) bool {
	return len(values) == 0 || slices.ContainsFunc(values, func(v V) bool { return bloom.Test(bytesOf(v)) })
}
