package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/ledger/export"
	"millrace/internal/order"
	"millrace/subjects"
)

// exported runs the command and returns its report.
func exported(t *testing.T, admin, out string, args ...string) export.Report {
	t.Helper()
	o := call(t, "", nil, append([]string{"export", "--json", "--admin", admin, "--out", out}, args...)...)
	require.Equal(t, exitOK, o.code, o.errors)
	var r export.Report
	require.NoError(t, json.Unmarshal([]byte(o.out), &r))
	return r
}

func TestExportWritesWhatANodeRecorded(t *testing.T) {
	t.Parallel()
	stub := newBuilder(t)
	p := start(t, nil, "node", "--ingress.listen=127.0.0.1:0", "--nats.store_dir="+t.TempDir(), "--builder.url="+stub.URL, "--node.name=node-a")
	door, admin, s := p.url("ingress"), p.url("admin"), newSender(t)
	var hashes []string
	for range 3 {
		hashes = append(hashes, s.accepted(t, door))
	}
	eventually(t, "three records", func() bool { return len(records(t, admin)) == 3 })
	out := filepath.Join(t.TempDir(), "deep", "recording")
	rows := int64(0)
	eventually(t, "all of it recorded", func() bool { r := exported(t, admin, out); rows += r.Rows(); return rows >= 6 })
	require.EqualValues(t, 6, rows)

	type bundle struct {
		Hash    [32]byte `parquet:"hash"`
		Builder string   `parquet:"builder_name"`
	}
	names, err := filepath.Glob(filepath.Join(out, "bundles", "*.parquet"))
	require.NoError(t, err)
	var got []string
	for _, name := range names {
		bs, err := parquet.ReadFile[bundle](name)
		require.NoError(t, err)
		for _, b := range bs {
			require.Equal(t, "node_a", b.Builder)
			got = append(got, hexutil.Encode(b.Hash[:]))
		}
	}
	require.ElementsMatch(t, hashes, got)

	r := exported(t, admin, out)
	require.Zero(t, r.Rows(), "nothing twice")
	o := call(t, "", nil, "export", "--admin", admin, "--out", filepath.Join(t.TempDir(), "x"), "--dataset", "ledger", "--since", "1h", "--builder-name", "b")
	require.Equal(t, exitOK, o.code, o.errors)
	require.Regexp(t, `ledger +done +3 +1 `, o.out)
	require.Regexp(t, `\n3 rows in `, o.out)
	o = call(t, "", nil, "export", "--admin", admin, "--out", filepath.Join(t.TempDir(), "y"), "--until", "1h")
	require.Equal(t, exitOK, o.code, o.errors)
	require.Regexp(t, `\n0 rows in `, o.out)
}

func TestExportRefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{},
		{"--out=x", "--dataset=orders"},
		{"--out=x", "--since=soon"},
		{"--out=x", "--until=soon"},
		{"--out=x", "--follow", "--poll=0s"},
		{"--out=x", "--max-rows=0"},
		{"--out=x", "--follow", "--until=1s"},
		{"--out=x", "--since=1s", "--until=1h"},
	} {
		o := call(t, "", nil, append([]string{"export"}, args...)...)
		require.Equal(t, exitUsage, o.code, "%v: %s", args, o.errors)
	}
	o := call(t, "", nil, "export", "--out", t.TempDir(), "--admin", "http://"+freeAddr(t))
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "is millrace running there?")
}

// fakeLogs are logs on a bus.
type fakeLogs struct {
	spans   map[string]bus.LogSpan
	orders  []order.Delivery
	batches []bus.LedgerBatch
	fail    error
}

func (f *fakeLogs) LogSpan(_ context.Context, stream string) (bus.LogSpan, error) {
	s, ok := f.spans[stream]
	if !ok {
		return s, bus.ErrNoLog
	}
	return s, nil
}

func (f *fakeLogs) Record(_ context.Context, r bus.RecordRange, g func(order.Delivery) error) error {
	for _, d := range f.orders {
		if d.Sequence >= r.From {
			if err := g(d); err != nil {
				return err
			}
		}
	}
	return f.fail
}

func (f *fakeLogs) LedgerFrom(_ context.Context, _ string, from, last uint64, _ time.Time, g func(bus.LedgerBatch) error) error {
	for _, b := range f.batches {
		if b.Sequence >= from && b.Sequence <= last {
			if err := g(b); err != nil {
				return err
			}
		}
	}
	return f.fail
}

func serveExport(t *testing.T, f *fakeLogs) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(exportPage(busLogs{bus: f, node: "n"}, slog.New(slog.DiscardHandler)))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

func delivered(seq uint64) order.Delivery {
	at := time.UnixMicro(1_795_000_000_000_000)
	return order.Delivery{Sequence: seq, StoredAt: at, Order: &order.Order{
		Accept: order.NewAcceptID(at), Method: order.MethodSendRawTransaction, Kind: order.KindTransaction, Priority: order.PriorityHigh,
		ReceivedAt: at, Deadline: at, Signature: "X-Flashbots-Signature: a", Body: []byte("body"),
	}}
}

// What is beyond the span that was looked at first may have gaps, so it waits for the next reading.
func TestExportTakesNothingBeyondWhatItLookedAt(t *testing.T) {
	f := &fakeLogs{spans: map[string]bus.LogSpan{subjects.StreamRecord: {First: 1, Last: 2, Created: time.Unix(5, 0)}}}
	for seq := range uint64(4) {
		f.orders = append(f.orders, delivered(seq+1))
	}
	url, out := serveExport(t, f), t.TempDir()
	r := exported(t, url, out)
	require.EqualValues(t, 2, r.Datasets[0].Position)
	require.Equal(t, map[string]int64{"other_kind": 2}, r.Datasets[0].Skipped)
	require.Equal(t, []string{"done", "rejected"}, r.Absent)
	f.spans[subjects.StreamRecord] = bus.LogSpan{First: 1, Last: 4, Created: time.Unix(5, 0)}
	require.EqualValues(t, 4, exported(t, url, out).Datasets[0].Position)
}

func TestExportReportsWhatWasGivenUp(t *testing.T) {
	f := &fakeLogs{spans: map[string]bus.LogSpan{subjects.StreamDone: {First: 1, Last: 1, Created: time.Unix(5, 0)}}}
	e := entry(1, 1)
	f.batches = []bus.LedgerBatch{{Sequence: 1, Subject: "orders.done.b", Batch: e.AppendTo(nil)}}
	url, out := serveExport(t, f), t.TempDir()
	exported(t, url, out, "--dataset=ledger")
	f.spans[subjects.StreamDone] = bus.LogSpan{First: 5, Last: 6, Created: time.Unix(5, 0)}
	f.batches = []bus.LedgerBatch{
		{Sequence: 5, Subject: "orders.done.b", Batch: e.AppendTo(nil)}, {Sequence: 6, Subject: "orders.done.b", Batch: e.AppendTo(nil)},
	}
	o := call(t, "", nil, "export", "--admin", url, "--out", out, "--dataset=ledger")
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.out, "missed by ledger: sequences 2 to 4 of done")
	require.Contains(t, o.out, "log rejected is not kept there")
	require.Contains(t, o.out, "\n2 rows in")
	require.Contains(t, o.errors, errMissed.Error())
}

func TestExportPublishesWhatItHadWhenTheNodeFails(t *testing.T) {
	e := entry(1, 1)
	node := func(fail error) (url string) {
		return serveExport(t, &fakeLogs{
			spans:   map[string]bus.LogSpan{subjects.StreamDone: {First: 1, Last: 9, Created: time.Unix(5, 0)}},
			batches: []bus.LedgerBatch{{Sequence: 1, Subject: "orders.done.b", Batch: e.AppendTo(nil)}}, fail: fail,
		})
	}
	out := t.TempDir()
	o := call(t, "", nil, "export", "--admin", node(errors.New("store failed")), "--out", out, "--dataset=ledger")
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "export of done")
	r := exported(t, node(nil), out, "--dataset=ledger")
	entries, err := os.ReadDir(filepath.Join(out, "ledger"))
	require.NoError(t, err)
	require.LessOrEqual(t, len(entries), 2)
	require.EqualValues(t, 9, r.Datasets[0].Position)
}

func TestExportPageRefusesABadQuery(t *testing.T) {
	url := serveExport(t, &fakeLogs{})
	for _, q := range []string{"", "?log=orders", "?log=done&from=-1", "?log=done&since=1h"} {
		status, _ := get(t, url+"/export"+q)
		require.Equal(t, http.StatusBadRequest, status, q)
	}
}

func TestProgressIsTold(t *testing.T) {
	f := &fakeLogs{spans: map[string]bus.LogSpan{subjects.StreamDone: {First: 1, Last: 1, Created: time.Unix(5, 0)}}}
	e, err := export.New(export.Config{Out: t.TempDir(), Datasets: []string{"ledger"}, MaxRows: 1, MaxBytes: 1, MaxAge: 1}, busLogs{bus: f})
	require.NoError(t, err)
	r, w := io.Pipe()
	stop := (&exportCmd{Progress: time.Millisecond}).tellProgress(e, w)
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "export: 0 rows", line[:14])
	go func() { _, _ = io.Copy(io.Discard, r) }()
	stop()
	require.NoError(t, w.Close())
}

// FuzzReadMessages: a stream of frames is read or refused, whatever it is, and what was written is
// what is read.
func FuzzReadMessages(f *testing.F) {
	var b bytes.Buffer
	w := &frameWriter{out: bufio.NewWriter(&b)}
	d := delivered(7)
	require.NoError(f, w.message(&export.Message{Sequence: 7, StoredAt: d.StoredAt, Order: d.Order}))
	require.NoError(f, w.message(&export.Message{Sequence: 8, StoredAt: d.StoredAt, Target: "a", Batch: []byte("batch")}))
	require.NoError(f, w.finish(3))
	f.Add(b.Bytes())
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 'o'})
	f.Add([]byte{0, 0, 0, 2, 'e', 0x80})
	f.Fuzz(func(t *testing.T, in []byte) {
		var ms []*export.Message
		first, err := readMessages(bufio.NewReader(bytes.NewReader(in)), func(m *export.Message) error {
			ms = append(ms, m)
			return nil
		})
		if err != nil {
			return
		}
		var again bytes.Buffer
		w := &frameWriter{out: bufio.NewWriter(&again)}
		for _, m := range ms {
			require.NoError(t, w.message(m))
		}
		require.NoError(t, w.finish(first))
		i := 0
		got, err := readMessages(bufio.NewReader(&again), func(m *export.Message) error {
			require.Equal(t, ms[i], m)
			i++
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, first, got)
		require.Len(t, ms, i)
	})
}

func TestACutStreamIsAFailure(t *testing.T) {
	var b bytes.Buffer
	w := &frameWriter{out: bufio.NewWriter(&b)}
	d := delivered(7)
	require.NoError(t, w.head(export.Span{First: 1, Last: 7, Created: d.StoredAt, Node: "n", MaxTxs: 9}))
	require.NoError(t, w.message(&export.Message{Sequence: 7, StoredAt: d.StoredAt, Order: d.Order}))
	require.NoError(t, w.finish(3))
	for n := range b.Len() {
		in := bufio.NewReader(bytes.NewReader(b.Bytes()[:n]))
		f, err := readFrame(in)
		if err == nil {
			_, err = f.span()
			require.NoError(t, err)
			_, err = readMessages(in, func(*export.Message) error { return nil })
		}
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
}
