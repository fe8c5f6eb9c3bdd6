// Command parquetdump prints a Parquet file as Apache Arrow's Go implementation reads it: a line per
// column, "name type" with a question mark where it may be null, an empty line, and then a JSON array
// per row. Bytes are hex, times are microseconds. It is a module of its own, because Millrace
// itself needs none of what it needs; the tests of internal/ledger/export run it.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	err := dump(context.Background(), os.Args[1], out)
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "parquetdump:", err)
		os.Exit(1)
	}
}

func dump(ctx context.Context, path string, out io.Writer) error {
	f, err := file.OpenParquetFile(path, false)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{BatchSize: 1024}, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	schema, err := r.Schema()
	if err != nil {
		return err
	}
	for _, c := range schema.Fields() {
		fmt.Fprintln(out, c.Name, name(c.Type, c.Nullable))
	}
	fmt.Fprintln(out)
	records, err := r.GetRecordReader(ctx, nil, nil)
	if err != nil {
		return err
	}
	defer records.Release()
	enc := json.NewEncoder(out)
	for records.Next() {
		b := records.RecordBatch()
		for i := range int(b.NumRows()) {
			row := make([]any, b.NumCols())
			for c := range row {
				if row[c], err = value(b.Column(c), i); err != nil {
					return fmt.Errorf("column %s: %w", b.ColumnName(c), err)
				}
			}
			if err := enc.Encode(row); err != nil {
				return err
			}
		}
	}
	if err := records.Err(); err != nil && err != io.EOF {
		return err
	}
	return nil
}

func name(t arrow.DataType, nullable bool) string {
	s := t.Name()
	switch t := t.(type) {
	case *arrow.ListType:
		s = "list<" + name(t.Elem(), t.ElemField().Nullable) + ">"
	case *arrow.FixedSizeBinaryType:
		s = fmt.Sprintf("bytes[%d]", t.ByteWidth)
	case *arrow.TimestampType:
		s = t.String()
	case *extensions.UUIDType:
		s = "uuid"
	}
	if nullable {
		s += "?"
	}
	return s
}

func value(a arrow.Array, i int) (any, error) {
	if a.IsNull(i) {
		return nil, nil
	}
	switch a := a.(type) {
	case *array.List:
		start, end := a.ValueOffsets(i)
		list := make([]any, 0, end-start)
		for j := start; j < end; j++ {
			v, err := value(a.ListValues(), int(j))
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case *extensions.UUIDArray:
		return value(a.Storage(), i)
	case *array.FixedSizeBinary:
		return hex.EncodeToString(a.Value(i)), nil
	case *array.Binary:
		return hex.EncodeToString(a.Value(i)), nil
	case *array.String:
		return a.Value(i), nil
	case *array.Timestamp:
		return int64(a.Value(i)), nil
	case *array.Uint8:
		return a.Value(i), nil
	case *array.Uint16:
		return a.Value(i), nil
	case *array.Uint32:
		return a.Value(i), nil
	case *array.Uint64:
		return fmt.Sprint(a.Value(i)), nil // JSON readers round large numbers
	case *array.Int32:
		return a.Value(i), nil
	case *array.Boolean:
		return a.Value(i), nil
	}
	return nil, fmt.Errorf("no reading for %s", a.DataType())
}
