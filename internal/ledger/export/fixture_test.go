package export

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"millrace/internal/jsonrpc"
	"millrace/internal/ledger"
	"millrace/internal/order"
	"millrace/loadtest"
)

var epoch = time.Date(2026, 11, 20, 21, 0, 0, 123456000, time.UTC)

// logs are logs in memory.
type logs struct {
	span     Span // Last is what there is; First and Created may be set
	messages map[Log][]*Message
	// before, if set, is called before a message is told.
	before func(*Message) error
	// lost, if set, is what the log begins at after a reading.
	lost uint64
}

func newLogs() *logs {
	return &logs{span: Span{First: 1, Created: epoch, Node: "node-1", MaxTxs: 100}, messages: map[Log][]*Message{}}
}

func (f *logs) Read(ctx context.Context, l Log, from uint64, since time.Time, open func(Span) error, each func(*Message) error) (uint64, error) {
	ms, ok := f.messages[l]
	if !ok {
		return 0, ErrNoLog
	}
	sp := f.span
	if len(ms) > 0 {
		sp.Last = ms[len(ms)-1].Sequence
	}
	if err := open(sp); err != nil {
		return 0, err
	}
	for _, m := range ms {
		if m.Sequence < max(from, sp.First) || m.StoredAt.Before(since) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if f.before != nil {
			if err := f.before(m); err != nil {
				return 0, err
			}
		}
		if err := each(m); err != nil {
			return 0, err
		}
	}
	return max(sp.First, f.lost), nil
}

// record appends an order to RECORD.
func (f *logs) record(o *order.Order) *Message {
	seq := uint64(len(f.messages[LogRecord]) + 1)
	m := &Message{Sequence: seq, StoredAt: epoch.Add(time.Duration(seq) * time.Millisecond), Order: o}
	f.messages[LogRecord] = append(f.messages[LogRecord], m)
	return m
}

// done appends n batches of two records each to DONE; the entries carry a running number.
func (f *logs) done(n int) {
	for range n {
		seq := uint64(len(f.messages[LogDone]) + 1)
		f.messages[LogDone] = append(f.messages[LogDone], doneMessage(seq))
	}
}

func doneMessage(seq uint64) *Message {
	var b []byte
	for i := range uint64(2) {
		e := ledger.Entry{
			Accept: order.NewAcceptID(epoch), Sequence: 2*seq + i, Method: order.MethodSendBundle, Kind: order.KindBundle,
			Priority: order.PriorityHigh, Outcome: ledger.Delivered, DoneAt: epoch,
		}
		b = e.AppendTo(b)
	}
	return &Message{Sequence: seq, StoredAt: epoch.Add(time.Duration(seq) * time.Millisecond), Target: "a", Batch: b}
}

// corpusOrders makes n orders as a door would accept them.
func corpusOrders(tb testing.TB, n int, shapes ...loadtest.Shape) []*order.Order {
	tb.Helper()
	mix := loadtest.DefaultMix()
	if len(shapes) > 0 {
		mix = loadtest.Mix{}
		for _, s := range shapes {
			mix = append(mix, loadtest.Weight{Shape: s, Weight: 1})
		}
	}
	c, err := loadtest.NewCorpus(loadtest.CorpusConfig{Seed: 7, Mix: mix})
	require.NoError(tb, err)
	var all []*order.Order
	for i := uint64(0); len(all) < n; i++ {
		sent, err := c.Order(i)
		require.NoError(tb, err)
		all = append(all, accept(tb, sent.Method, sent.Body, epoch.Add(time.Duration(i)*time.Microsecond)))
		all[len(all)-1].Signer = sent.Signer
	}
	return all
}

// accept makes an order of a request body, as the door does.
func accept(tb testing.TB, m order.Method, body []byte, at time.Time) *order.Order {
	tb.Helper()
	calls, _, rpcErr := jsonrpc.Parse(body, 1)
	require.Nil(tb, rpcErr)
	s, err := order.Decode(m, calls[0].Request.Params, order.Limits{})
	require.NoError(tb, err)
	o := &order.Order{
		Accept: order.NewAcceptID(at), Method: m, Kind: s.Kind, Priority: order.Classify(0, s, len(body)),
		ReceivedAt: at, Replacement: s.Replacement, Body: body,
	}
	if o.Nonce = uint64(at.UnixMicro()); s.Nonce != nil {
		o.Nonce = *s.Nonce
	}
	o.ID, o.Key = s.Identify(o.Signer, o.Nonce, false)
	o.Hash, err = s.PublicHash(o.Nonce)
	require.NoError(tb, err)
	return o
}

func testConfig(tb testing.TB) Config {
	tb.Helper()
	return Config{Out: tb.TempDir(), Datasets: Datasets(), MaxRows: 1000, MaxBytes: 1 << 30, MaxAge: time.Hour, Version: "test"}
}

// export runs an export and returns its report.
func export(tb testing.TB, cfg Config, from Reader) *Report {
	tb.Helper()
	e, err := New(cfg, from)
	require.NoError(tb, err)
	require.NoError(tb, e.Run(tb.Context()))
	return e.Report()
}

// files are the names of a dataset's finished files, in order.
func files(tb testing.TB, cfg Config, dataset string) []string {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(cfg.Out, dataset, "*"+extension))
	require.NoError(tb, err)
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	slices.Sort(names)
	return names
}

// ranges are the ranges in the names of a dataset's files of one log.
func ranges(tb testing.TB, cfg Config, dataset string, l Log) (rs []Range) {
	tb.Helper()
	spans, err := folder{path: filepath.Join(cfg.Out, dataset), dataset: dataset, log: l}.spans()
	require.NoError(tb, err)
	for _, s := range spans {
		rs = append(rs, Range{s.first, s.last})
	}
	return rs
}

// cells reads a file with the library that wrote it: a line per row, the values of a column between
// spaces.
func cells(tb testing.TB, path string) [][]string {
	tb.Helper()
	f, err := os.Open(path)
	require.NoError(tb, err)
	defer f.Close()
	st, err := f.Stat()
	require.NoError(tb, err)
	p, err := parquet.OpenFile(f, st.Size())
	require.NoError(tb, err)
	return rowsOf(tb, p)
}

func rowsOf(tb testing.TB, p *parquet.File) [][]string {
	tb.Helper()
	r := parquet.NewReader(p)
	defer r.Close()
	paths := p.Schema().Columns()
	unsigned := make([]bool, len(paths))
	for i, path := range paths {
		leaf, ok := p.Schema().Lookup(path...)
		require.True(tb, ok)
		unsigned[i] = leaf.Node.Type().String() == "INT(64,false)"
	}
	var all [][]string
	buf := make([]parquet.Row, 16)
	for {
		n, err := r.ReadRows(buf)
		for _, row := range buf[:n] {
			line := make([]string, len(paths))
			row.Range(func(c int, vs []parquet.Value) bool {
				line[c] = cell(vs, unsigned[c])
				return true
			})
			all = append(all, line)
		}
		if err != nil {
			require.ErrorContains(tb, err, "EOF")
			return all
		}
	}
}

func cell(vs []parquet.Value, unsigned bool) string {
	var parts []string
	for _, v := range vs {
		switch k := v.Kind(); {
		case v.IsNull():
			parts = append(parts, "null")
		case k == parquet.FixedLenByteArray || k == parquet.ByteArray:
			parts = append(parts, fmt.Sprintf("%x", v.ByteArray()))
		case unsigned:
			parts = append(parts, strconv.FormatUint(v.Uint64(), 10))
		default:
			parts = append(parts, v.String())
		}
	}
	return strings.Join(parts, " ")
}

// column is one column of all rows of a dataset, in the order of the files' names.
func columnOf(tb testing.TB, cfg Config, dataset, name string) (values []string) {
	tb.Helper()
	at := slices.IndexFunc(columnsOf(dataset), func(c column) bool { return c.name == name })
	require.GreaterOrEqual(tb, at, 0, name)
	for _, f := range files(tb, cfg, dataset) {
		for _, line := range cells(tb, filepath.Join(cfg.Out, dataset, f)) {
			values = append(values, line[at])
		}
	}
	return values
}

func columnsOf(dataset string) []column {
	switch dataset {
	case DatasetBundles:
		return bundleColumns()
	case DatasetReceipts:
		return receiptColumns()
	default:
		return ledgerColumns()
	}
}
