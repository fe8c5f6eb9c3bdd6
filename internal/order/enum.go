package order

import "fmt"

// Priority is the processing class of an order, derived from its entity and its content, never
// from anything that the client claims (FlowProxy's Priority).
type Priority uint8

// The classes, most urgent first.
const (
	PriorityHigh Priority = iota + 1
	PriorityMedium
	PriorityLow
)

// Priorities lists the classes, most urgent first.
var Priorities = [...]Priority{PriorityHigh, PriorityMedium, PriorityLow}

var priorityNames = [...]string{"", "high", "medium", "low"}

// String is "high", "medium" or "low": the token in subjects, labels and X-BuilderNet-Priority.
func (p Priority) String() string { return nameOf(priorityNames[:], uint8(p)) }

// Valid reports whether p is one of the three classes.
func (p Priority) Valid() bool { return p >= PriorityHigh && p <= PriorityLow }

// Kind says what an order is once its method no longer matters.
type Kind uint8

// The kinds.
const (
	KindTransaction Kind = iota + 1
	KindBundle
	KindShareBundle
	KindCancel
	// KindSubsidy is no order of a searcher: Flashbots asks our builder to subsidise a block. It travels like one, so that
	// it is delivered, or its end recorded, like one.
	KindSubsidy
)

var kindNames = [...]string{"", "transaction", "bundle", "share_bundle", "cancel", "subsidy"}

// String is the kind as a metric label.
func (k Kind) String() string { return nameOf(kindNames[:], uint8(k)) }

// Scope says which orders a target is owed.
type Scope uint8

// The scopes.
const (
	// ScopeAll are all orders: those of our own doors, and those that peers sent.
	ScopeAll Scope = iota + 1
	// ScopeLocal are those of our own doors. A peer is given no others: what peers sent goes to our own builders
	// only, so there are no loops.
	ScopeLocal
)

var scopeNames = [...]string{"", "all", "local"}

// String is the scope as a word in logs and tables.
func (s Scope) String() string { return nameOf(scopeNames[:], uint8(s)) }

// Valid reports whether s is one of the scopes.
func (s Scope) Valid() bool { return s == ScopeAll || s == ScopeLocal }

// Has reports whether an order of this origin is in the scope.
func (s Scope) Has(origin string) bool { return s != ScopeLocal || origin == "" }

// Method is a JSON-RPC method that brings an order.
type Method uint8

// The methods.
const (
	MethodSendBundle Method = iota + 1
	MethodSendRawTransaction
	MethodCancelBundle
	MethodSendShareBundle
	MethodSendPrivateTransaction
	MethodSendPrivateRawTransaction
	// MethodSubsidiseBlock comes to the system door only.
	MethodSubsidiseBlock
)

var methodNames = [...]string{
	"", "eth_sendBundle", "eth_sendRawTransaction", "eth_cancelBundle", "mev_sendBundle",
	"eth_sendPrivateTransaction", "eth_sendPrivateRawTransaction", "bid_subsidiseBlock",
}

// String is the method's name on the wire.
func (m Method) String() string { return nameOf(methodNames[:], uint8(m)) }

// ParseMethod returns the method of the order door with the given wire name; ok is false for any other name.
func ParseMethod(name string) (m Method, ok bool) {
	m, ok = parseMethod(name)
	return m, ok && m != MethodSubsidiseBlock
}

// ParseRelayedMethod returns the method with the given wire name of those under which nodes pass orders on to each
// other: a private transaction is a plain one by then.
func ParseRelayedMethod(name string) (m Method, ok bool) {
	m, ok = parseMethod(name)
	return m, ok && m == m.Upstream()
}

func parseMethod(name string) (m Method, ok bool) {
	for i := 1; i < len(methodNames); i++ {
		if methodNames[i] == name {
			return Method(i), true
		}
	}
	return 0, false
}

// Upstream is the method under which a builder receives the order: the two private-transaction
// methods arrive as eth_sendRawTransaction, every other as itself.
func (m Method) Upstream() Method {
	if m == MethodSendPrivateTransaction || m == MethodSendPrivateRawTransaction {
		return MethodSendRawTransaction
	}
	return m
}

func nameOf(names []string, i uint8) string {
	if i == 0 || int(i) >= len(names) {
		return fmt.Sprintf("unknown_%d", i)
	}
	return names[i]
}
