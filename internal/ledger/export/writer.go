package export

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"millrace/internal/order"
)

const (
	// groupBytes and groupRows bound a row group, whose pages wait in memory until it is whole.
	groupBytes = 16 << 20
	groupRows  = 50_000
	// pageBytes is the size of a column's page before it is compressed.
	pageBytes = 128 << 10
)

// writer writes the files of one dataset and log, one after the other.
type writer struct {
	folder  folder
	footer  map[string]string
	builder string // whose rows they are
	limits  order.Limits
	w       *parquet.GenericWriter[any]
	batch   [1]parquet.Row
	r       row

	file  *os.File  // nil: none begun
	began time.Time // of the first row
	rows  int64     // in the file
	group struct{ rows, bytes int64 }
}

func newWriter(f folder, columns []column, footer map[string]string) *writer {
	schema := newSchema(f.dataset, columns)
	return &writer{
		folder: f, footer: footer,
		w: parquet.NewGenericWriter[any](nil, schema,
			parquet.Compression(&zstd.Codec{Level: zstd.SpeedDefault, Concurrency: 1}),
			parquet.PageBufferSize(pageBytes),
			parquet.MaxRowsPerRowGroup(groupRows),
			parquet.CreatedBy("millrace", footer["version"], "")),
	}
}

// row is an empty row; write writes it.
func (w *writer) row() *row {
	w.r.reset()
	return &w.r
}

// write appends the row to the file, beginning one if there is none.
func (w *writer) write() error {
	if err := w.begin(); err != nil {
		return err
	}
	w.batch[0] = w.r.values
	if _, err := w.w.WriteRows(w.batch[:]); err != nil {
		return fmt.Errorf("write row: %w", err)
	}
	w.rows++
	w.group.rows++
	w.group.bytes += w.r.size
	if w.group.rows >= groupRows || w.group.bytes >= groupBytes {
		w.group.rows, w.group.bytes = 0, 0
		if err := w.w.Flush(); err != nil {
			return fmt.Errorf("write row group: %w", err)
		}
	}
	return nil
}

func (w *writer) begin() error {
	if w.file != nil {
		return nil
	}
	f, err := os.OpenFile(w.folder.hidden(), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o640) //nolint:gosec // for a group that ships them
	if err != nil {
		return err
	}
	w.w.Reset(f)
	w.file, w.began, w.rows = f, time.Now(), 0
	w.group.rows, w.group.bytes = 0, 0
	return nil
}

// size is how large the file would be without compressing what is still in memory.
func (w *writer) size() int64 {
	if w.file == nil {
		return 0
	}
	return w.w.Size()
}

// finish ends the file, which has the rows of s, and gives it its name. It returns its size.
func (w *writer) finish(s span) (int64, error) {
	if err := w.begin(); err != nil {
		return 0, err
	}
	file := w.file
	w.file = nil
	for k, v := range w.footer {
		w.w.SetKeyValueMetadata(k, v)
	}
	w.w.SetKeyValueMetadata(metaFirst, strconv.FormatUint(s.first, 10))
	w.w.SetKeyValueMetadata(metaLast, strconv.FormatUint(s.last, 10))
	w.w.SetKeyValueMetadata(metaStream, s.stream.UTC().Format(time.RFC3339Nano))
	if err := w.w.Close(); err != nil {
		_ = file.Close()
		return 0, fmt.Errorf("finish %s: %w", s.name, err)
	}
	st, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return 0, err
	}
	return st.Size(), w.folder.publish(file, s)
}

// discard gives an unfinished file up.
func (w *writer) discard() {
	if w.file != nil {
		_ = w.file.Close()
		_ = os.Remove(w.folder.hidden())
		w.file = nil
	}
}
