package export

import (
	"reflect"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/plain"
)

// column is one column of a table; every column has one leaf.
type column struct {
	name string
	leaf parquet.Node
	// list: a LIST of leaf. nullable: the value, or each element of the list, may be null.
	list, nullable bool
	// dict: few distinct values.
	dict bool
}

// node is the column in the schema.
func (c *column) node() parquet.Node {
	n := c.leaf
	if c.dict {
		n = parquet.Encoded(n, &parquet.RLEDictionary)
	} else {
		n = parquet.Encoded(n, &plain.Encoding{})
	}
	if c.nullable {
		n = parquet.Optional(n)
	}
	if c.list {
		n = parquet.List(n)
	}
	return n
}

// newSchema is the schema of the columns, in their order.
func newSchema(name string, columns []column) *parquet.Schema {
	g := ordered{Group: parquet.Group{}}
	for i := range columns {
		n := columns[i].node()
		g.Group[columns[i].name] = n
		g.fields = append(g.fields, member{Node: n, name: columns[i].name})
	}
	return parquet.NewSchema(name, g)
}

// ordered is a group whose fields keep their order; the library's own sorts them by name.
type ordered struct {
	parquet.Group
	fields []parquet.Field
}

func (g ordered) Fields() []parquet.Field { return g.fields }

type member struct {
	parquet.Node
	name string
}

func (m member) Name() string { return m.name }

// Value is for rows that are Go structs; ours are values already.
func (m member) Value(base reflect.Value) reflect.Value {
	return base.MapIndex(reflect.ValueOf(m.name))
}

// Types of columns. UInt128 and UInt256 are little-endian values of fixed size, as which ClickHouse
// maps them to Parquet.
func fixed(n int) parquet.Node { return parquet.Leaf(parquet.FixedLenByteArrayType(n)) }

func bytesNode() parquet.Node { return parquet.Leaf(parquet.ByteArrayType) }

func boolNode() parquet.Node { return parquet.Leaf(parquet.BooleanType) }

func micros() parquet.Node { return parquet.Timestamp(parquet.Microsecond) }

// bundleColumns are those of FlowProxy's table bundles.
func bundleColumns() []column {
	const hash, address, uint128, uint256 = 32, 20, 16, 32
	return []column{
		{name: "received_at", leaf: micros()},
		{name: "transactions.hash", leaf: fixed(hash), list: true},
		{name: "transactions.from", leaf: fixed(address), list: true, dict: true},
		{name: "transactions.nonce", leaf: parquet.Uint(64), list: true},
		{name: "transactions.r", leaf: fixed(uint256), list: true},
		{name: "transactions.s", leaf: fixed(uint256), list: true},
		{name: "transactions.v", leaf: parquet.Uint(8), list: true, dict: true},
		{name: "transactions.to", leaf: fixed(address), list: true, nullable: true, dict: true},
		{name: "transactions.gas", leaf: parquet.Uint(64), list: true, dict: true},
		{name: "transactions.type", leaf: parquet.Uint(8), list: true, dict: true},
		{name: "transactions.input", leaf: bytesNode(), list: true},
		{name: "transactions.value", leaf: fixed(uint256), list: true, dict: true},
		{name: "transactions.gasPrice", leaf: fixed(uint128), list: true, nullable: true, dict: true},
		{name: "transactions.maxFeePerGas", leaf: fixed(uint128), list: true, nullable: true, dict: true},
		{name: "transactions.maxPriorityFeePerGas", leaf: fixed(uint128), list: true, nullable: true, dict: true},
		{name: "transactions.accessList", leaf: bytesNode(), list: true, nullable: true},
		{name: "transactions.authorizationList", leaf: bytesNode(), list: true, nullable: true},
		{name: "transactions.raw", leaf: bytesNode(), list: true},
		{name: "block_number", leaf: parquet.Uint(64), dict: true},
		{name: "min_timestamp", leaf: parquet.Uint(64), nullable: true, dict: true},
		{name: "max_timestamp", leaf: parquet.Uint(64), nullable: true, dict: true},
		{name: "reverting_tx_hashes", leaf: fixed(hash), list: true},
		{name: "dropping_tx_hashes", leaf: fixed(hash), list: true},
		{name: "refund_tx_hashes", leaf: fixed(hash), list: true},
		{name: "replacement_uuid", leaf: parquet.UUID(), nullable: true},
		{name: "replacement_nonce", leaf: parquet.Uint(64), nullable: true},
		{name: "refund_percent", leaf: parquet.Uint(8), nullable: true, dict: true},
		{name: "refund_recipient", leaf: fixed(address), nullable: true, dict: true},
		{name: "delayed_refund", leaf: boolNode(), nullable: true},
		{name: "refund_identity", leaf: fixed(address), nullable: true, dict: true},
		{name: "signer_address", leaf: fixed(address), nullable: true, dict: true},
		{name: "hash", leaf: fixed(hash)},
		{name: "internal_uuid", leaf: parquet.UUID()},
		{name: "builder_name", leaf: parquet.String(), dict: true},
		{name: "version", leaf: parquet.Uint(8), dict: true},
	}
}

// receiptColumns are those of FlowProxy's table bundle_receipts.
func receiptColumns() []column {
	return []column{
		{name: "bundle_hash", leaf: fixed(32)},
		{name: "double_bundle_hash", leaf: fixed(32)},
		{name: "sent_at", leaf: micros(), nullable: true},
		{name: "received_at", leaf: micros()},
		{name: "dst_builder_name", leaf: parquet.String(), dict: true},
		{name: "src_builder_name", leaf: parquet.String(), dict: true},
		{name: "payload_size", leaf: parquet.Uint(32)},
		{name: "priority", leaf: parquet.Uint(8), dict: true},
	}
}

// ledgerColumns are the fields of a terminal record, under the names of `millrace ledger dump`.
func ledgerColumns() []column {
	text := func(name string) column { return column{name: name, leaf: parquet.String(), dict: true} }
	maybe := func(c column) column { c.nullable = true; return c }
	return []column{
		{name: "accept", leaf: fixed(16)},
		{name: "id", leaf: fixed(32)},
		{name: "key", leaf: fixed(32)},
		{name: "hash", leaf: fixed(32)},
		{name: "signer", leaf: fixed(20), dict: true},
		text("target"), text("outcome"), text("method"), text("kind"), text("priority"), maybe(text("origin")),
		{name: "replacement_uuid", leaf: parquet.UUID(), nullable: true},
		{name: "replacement_nonce", leaf: parquet.Uint(64), nullable: true},
		{name: "nonce_defaulted", leaf: boolNode()},
		maybe(text("code")),
		{name: "of", leaf: fixed(16), nullable: true},
		{name: "ambiguous", leaf: boolNode()},
		{name: "repeat", leaf: boolNode()},
		{name: "sequence", leaf: parquet.Uint(64), nullable: true},
		{name: "attempts", leaf: parquet.Uint(16), dict: true},
		{name: "http_status", leaf: parquet.Uint(16), nullable: true, dict: true},
		{name: "rpc_code", leaf: parquet.Int(32), nullable: true, dict: true},
		{name: "received_at", leaf: micros()},
		{name: "stored_at", leaf: micros(), nullable: true},
		{name: "sent_at", leaf: micros(), nullable: true},
		{name: "done_at", leaf: micros(), nullable: true},
		{name: "recorded_at", leaf: micros()},
		maybe(text("text")),
	}
}
