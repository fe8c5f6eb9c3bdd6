package export

import (
	"math/big"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
)

// row collects the values of one row, column by column. What it points at must stay as it is until
// the row is written.
type row struct {
	values parquet.Row
	arena  []byte
	col    int
	size   int64 // bytes of values, about
}

func (r *row) reset() {
	r.values, r.arena, r.col, r.size = r.values[:0], r.arena[:0], 0, 0
}

func (r *row) add(v parquet.Value, repetition, definition int) {
	r.values = append(r.values, v.Level(repetition, definition, r.col))
	r.size += 8
	if k := v.Kind(); k == parquet.ByteArray || k == parquet.FixedLenByteArray {
		r.size += int64(len(v.ByteArray()))
	}
}

// put adds the value of the next column, which can't be null.
func (r *row) put(v parquet.Value) {
	r.add(v, 0, 0)
	r.col++
}

// maybe adds the value of the next column, or null.
func (r *row) maybe(ok bool, v parquet.Value) {
	if ok {
		r.add(v, 0, 1)
	} else {
		r.add(parquet.NullValue(), 0, 0)
	}
	r.col++
}

// list adds n elements as the next column.
func (r *row) list(n int, at func(i int) parquet.Value) {
	for i := range n {
		r.add(at(i), min(i, 1), 1)
	}
	r.endList(n)
}

// maybes adds n elements, of which some may be null, as the next column.
func (r *row) maybes(n int, at func(i int) (v parquet.Value, ok bool)) {
	for i := range n {
		if v, ok := at(i); ok {
			r.add(v, min(i, 1), 2)
		} else {
			r.add(parquet.NullValue(), min(i, 1), 1)
		}
	}
	r.endList(n)
}

func (r *row) endList(n int) {
	if n == 0 {
		r.add(parquet.NullValue(), 0, 0)
	}
	r.col++
}

// little is n as a little-endian value of size bytes; n must fit.
func (r *row) little(n *big.Int, size int) parquet.Value {
	start := len(r.arena)
	for range size {
		r.arena = append(r.arena, 0)
	}
	b := r.arena[start : start+size : start+size]
	n.FillBytes(b)
	for i, j := 0, size-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return parquet.FixedLenByteArrayValue(b)
}

func unsigned8(n uint8) parquet.Value { return parquet.Int32Value(int32(n)) }

func unsigned16(n uint16) parquet.Value { return parquet.Int32Value(int32(n)) }

func unsigned32(n uint32) parquet.Value {
	return parquet.Int32Value(int32(n)) //nolint:gosec // UINT_32 is stored as these bits
}

func unsigned64(n uint64) parquet.Value {
	return parquet.Int64Value(int64(n)) //nolint:gosec // UINT_64 is stored as these bits
}

func microseconds(t time.Time) parquet.Value { return parquet.Int64Value(t.UnixMicro()) }

// text is s as a string; what came from elsewhere need not be UTF-8.
func text(s string) parquet.Value {
	return parquet.ByteArrayValue([]byte(strings.ToValidUTF8(s, "\ufffd")))
}
