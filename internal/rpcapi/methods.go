package rpcapi

import (
	"errors"
	"fmt"
	"slices"
)

// Safety says what may be done with a call whose answer did not come. The more care a call needs, the greater.
type Safety uint8

// Safeties.
const (
	// Read may be asked again, anywhere, any number of times.
	Read Safety = iota + 1
	// Transaction hands over a signed transaction: a second time does no harm, and then "already known" means
	// success; see [NormaliseKnown].
	Transaction
	// FilterNew makes a filter on the node that answers; one too many is forgotten there after a while.
	FilterNew
	// FilterUse works on the one node that has the filter. Asking for changes consumes them.
	FilterUse
	// Subscribing belongs to a connection.
	Subscribing
	// Write is never sent twice.
	Write
)

// CacheRule says what an answer depends on besides the parameters.
type CacheRule uint8

// Rules.
const (
	// CacheNever: on the node, on the moment, or on what nobody knows.
	CacheNever CacheRule = iota + 1
	// CacheConstant: on nothing.
	CacheConstant
	// CacheByBlock: on the block that the parameters name.
	CacheByBlock
	// CacheByAnswer: on the block that the answer says it is of.
	CacheByAnswer
)

// Group is a set of methods whose answers are kept or not kept together.
type Group uint8

// Groups.
const (
	GroupConstants Group = iota + 1
	GroupBlocks
	GroupTransactions
	GroupLogs
	GroupState
	GroupFees
	GroupTraces
	// GroupCall is eth_call and whatever else runs the caller's code against a block.
	GroupCall
	GroupEstimateGas
)

// Groups is how many there are; a Group indexes an array of Groups+1.
const Groups = 9

// ErrGroup is a name that no group has.
var ErrGroup = errors.New("not a group of methods")

// Method is what is known about a method.
type Method struct {
	Name string
	// Known is false of a name that is not in the table: such a call is handled with all care.
	Known  bool
	Safety Safety
	Cache  CacheRule
	Group  Group // 0: none
	// Label is Name, or "other": a closed set for metrics.
	Label string

	place  place
	object object
}

// LabelOther is the label of methods that are not in the table.
const LabelOther = "other"

// object says what a method's first parameter is, as far as canonical parameters need to know.
type object uint8

const (
	objectPlain object = iota + 1
	objectCall         // a transaction to run, whose input may be called data
)

// Lookup finds a method by its exact name.
func Lookup(name string) Method {
	if m, ok := table[name]; ok {
		return m
	}
	return Method{Name: name, Safety: Write, Cache: CacheNever, Label: LabelOther, place: nowhere}
}

// Labels are all values that a Label has, sorted.
func Labels() []string {
	labels := make([]string, 0, len(table)+1)
	for name := range table {
		labels = append(labels, name)
	}
	labels = append(labels, LabelOther)
	slices.Sort(labels)
	return labels
}

// String is the safety in words.
func (s Safety) String() string {
	switch s {
	case Read:
		return "read"
	case Transaction:
		return "transaction"
	case FilterNew:
		return "filter_new"
	case FilterUse:
		return "filter_use"
	case Subscribing:
		return "subscription"
	case Write:
		return "write"
	default:
		return fmt.Sprintf("safety(%d)", uint8(s))
	}
}

// names are the groups as they stand in configuration and metrics, by Group.
func (Group) names() [Groups + 1]string {
	return [...]string{
		"none", "constants", "blocks", "transactions", "logs", "state", "fees", "traces", "eth_call", "eth_estimateGas",
	}
}

// String is the group as it stands in configuration and metrics; "none" for the zero Group.
func (g Group) String() string {
	if names := g.names(); int(g) < len(names) {
		return names[g]
	}
	return fmt.Sprintf("group(%d)", uint8(g))
}

// MarshalText is the group's name.
func (g Group) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads a group's name.
func (g *Group) UnmarshalText(text []byte) error {
	names := g.names()
	i := slices.Index(names[1:], string(text))
	if i < 0 {
		return fmt.Errorf("%w: %q, expected one of %q", ErrGroup, text, names[1:])
	}
	*g = Group(i + 1) //nolint:gosec // at most Groups
	return nil
}
