package export

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// running are the running numbers that n batches of done have, as cells show them.
func running(n int) (want []string) {
	for i := range 2 * n {
		want = append(want, strconv.Itoa(i+2))
	}
	return want
}

func ledgerConfig(tb testing.TB) Config {
	tb.Helper()
	cfg := testConfig(tb)
	cfg.Datasets = []string{DatasetLedger}
	return cfg
}

func TestEachRunGoesOnWhereTheFilesEnd(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	for _, n := range []int{3, 0, 4, 1} {
		from.done(n)
		rep := export(t, cfg, from)
		require.EqualValues(t, 2*n, rep.Datasets[0].Rows)
		require.EqualValues(t, len(from.messages[LogDone]), rep.Datasets[0].Position)
	}
	require.Equal(t, running(8), columnOf(t, cfg, DatasetLedger, "sequence"))
	require.Equal(t, []Range{{1, 3}, {4, 7}, {8, 8}}, ranges(t, cfg, DatasetLedger, LogDone))
	require.Equal(t, []string{"rejected"}, export(t, cfg, from).Absent)
}

func TestDatasetsOfOneLogKeepPositionsOfTheirOwn(t *testing.T) {
	cfg, from := testConfig(t), newLogs()
	for _, o := range corpusOrders(t, 20) {
		from.record(o)
	}
	cfg.Datasets = []string{DatasetBundles}
	export(t, cfg, from)
	one := everyField(t)
	one.Origin = "peer"
	from.record(one)
	cfg.Datasets = []string{DatasetReceipts, DatasetBundles}
	export(t, cfg, from)
	require.Equal(t, []Range{{1, 20}, {21, 21}}, ranges(t, cfg, DatasetBundles, LogRecord))
	require.Equal(t, []Range{{1, 21}}, ranges(t, cfg, DatasetReceipts, LogRecord))
	require.Len(t, columnOf(t, cfg, DatasetReceipts, "bundle_hash"), 1)
}

func TestAFileEndsByRowsAndByBytes(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	from.done(10)
	cfg.MaxRows = 4
	require.Equal(t, 5, export(t, cfg, from).Datasets[0].Files)
	require.Equal(t, running(10), columnOf(t, cfg, DatasetLedger, "sequence"))

	bytewise := testConfig(t)
	bytewise.Datasets, bytewise.MaxBytes = []string{DatasetBundles}, 300<<10
	for _, o := range corpusOrders(t, 200) {
		from.record(o)
	}
	require.Greater(t, export(t, bytewise, from).Datasets[0].Files, 2)
	for _, name := range files(t, bytewise, DatasetBundles) {
		st, err := os.Stat(filepath.Join(bytewise.Out, DatasetBundles, name))
		require.NoError(t, err)
		require.Less(t, st.Size(), int64(400<<10))
	}
}

// follow runs an export that goes on, and returns what ends it.
func follow(t *testing.T, cfg Config, from Reader) (e *Exporter, stop func() error) {
	t.Helper()
	cfg.Poll = time.Millisecond
	e, err := New(cfg, from)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return e, func() error { cancel(); return <-done }
}

func TestFollowingPublishesByAgeAndAtItsEnd(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	cfg.MaxAge = time.Nanosecond
	from.done(2)
	from.messages[LogRejected] = []*Message{}
	e, stop := follow(t, cfg, from)
	require.Eventually(t, func() bool { return e.Report().Datasets[0].Files == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, stop())

	cfg.MaxAge = time.Hour
	from.done(1)
	e, stop = follow(t, cfg, from)
	require.Eventually(t, func() bool { return e.Report().Datasets[0].Rows == 2 }, 10*time.Second, time.Millisecond)
	require.Zero(t, e.Report().Datasets[0].Files)
	require.NoError(t, stop())
	require.Equal(t, 1, e.Report().Datasets[0].Files)
	require.Equal(t, running(3), columnOf(t, cfg, DatasetLedger, "sequence"))
}

func TestFollowingOutlivesAReaderThatFails(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	from.done(5)
	heard := make(chan error, 1000)
	cfg.Trouble = func(err error) { heard <- err }
	fail, calls := errors.New("connection reset"), 0
	from.before = func(*Message) error {
		if calls++; calls%3 == 0 {
			return fail
		}
		return nil
	}
	cfg.Datasets = []string{DatasetLedger}
	from.messages[LogRejected] = []*Message{doneMessage(1)} // is read second: by then it has begun
	e, stop := follow(t, cfg, onlyAfterFirst{from, &calls})
	require.Eventually(t, func() bool { return e.Report().Rows() == 12 }, 10*time.Second, time.Millisecond)
	require.NoError(t, stop())
	require.ErrorIs(t, <-heard, fail)
	require.Equal(t, append(running(5), "2", "3"), columnOf(t, cfg, DatasetLedger, "sequence"))
}

// onlyAfterFirst does not fail before the first reading is over.
type onlyAfterFirst struct {
	*logs
	calls *int
}

func (o onlyAfterFirst) Read(ctx context.Context, l Log, from uint64, since time.Time, open func(Span) error, each func(*Message) error) (uint64, error) {
	if l == LogDone && from <= 1 && *o.calls == 0 {
		*o.calls = 0
		first := *o.logs
		first.before, first.messages = nil, map[Log][]*Message{LogDone: o.messages[LogDone][:1]}
		return first.Read(ctx, l, from, since, open, each)
	}
	return o.logs.Read(ctx, l, from, since, open, each)
}

func TestAFailedReadingPublishesWhatItHad(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	from.done(9)
	fail := errors.New("broken")
	from.before = func(m *Message) error {
		if m.Sequence == 6 {
			return fail
		}
		return nil
	}
	e, err := New(cfg, from)
	require.NoError(t, err)
	require.ErrorIs(t, e.Run(t.Context()), fail)
	require.Equal(t, []Range{{1, 5}}, ranges(t, cfg, DatasetLedger, LogDone))
	from.before = nil
	export(t, cfg, from)
	require.Equal(t, running(9), columnOf(t, cfg, DatasetLedger, "sequence"))
}

func TestSinceAndUntilBoundWhatIsRead(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	from.done(10)
	cfg.Since, cfg.Until = epoch.Add(4*time.Millisecond), epoch.Add(7*time.Millisecond)
	export(t, cfg, from)
	require.Equal(t, running(6)[6:], columnOf(t, cfg, DatasetLedger, "sequence"))
	require.Equal(t, []Range{{4, 6}}, ranges(t, cfg, DatasetLedger, LogDone))
	cfg.Since, cfg.Until = time.Time{}, time.Time{}
	require.Empty(t, export(t, cfg, from).Datasets[0].Missed)
	require.Equal(t, running(10)[6:], columnOf(t, cfg, DatasetLedger, "sequence"))
}

func TestWhatWasGivenUpIsReported(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	from.span.First = 3
	from.done(5)
	require.Empty(t, export(t, cfg, from).Datasets[0].Missed, "what went before the first run is nobody's loss")
	from.done(5)
	from.span.First = 9
	rep := export(t, cfg, from)
	require.Equal(t, []Range{{6, 8}}, rep.Datasets[0].Missed)
	require.True(t, rep.Missed())
	require.Equal(t, []Range{{3, 5}, {9, 10}}, ranges(t, cfg, DatasetLedger, LogDone))

	// And what went while it was read, of what nothing was told.
	from.done(10)
	from.messages[LogDone] = append(from.messages[LogDone][:12:12], from.messages[LogDone][16:]...)
	from.lost = 15
	require.Equal(t, []Range{{13, 14}}, export(t, cfg, from).Datasets[0].Missed)
	from.lost = 0
	require.False(t, export(t, cfg, from).Missed())
}

func TestAnotherStreamIsRefused(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	from.done(5)
	export(t, cfg, from)
	for _, other := range []func(*logs){
		func(f *logs) { f.span.Created = f.span.Created.Add(time.Nanosecond) },
		func(f *logs) { f.messages[LogDone] = f.messages[LogDone][:3] },
	} {
		f := newLogs()
		f.done(7)
		other(f)
		e, err := New(cfg, f)
		require.NoError(t, err)
		require.ErrorIs(t, e.Run(t.Context()), ErrOtherStream)
	}
	require.Equal(t, []Range{{1, 5}}, ranges(t, cfg, DatasetLedger, LogDone))
}

func TestOneExportAtATimeWritesThere(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	held, err := lock(cfg.Out)
	require.NoError(t, err)
	e, err := New(cfg, from)
	require.NoError(t, err)
	require.ErrorIs(t, e.Run(t.Context()), ErrLocked)
	require.NoError(t, held.Close())
	require.NoError(t, e.Run(t.Context()))
}

func TestARangeWithoutRowsIsKeptInOneFile(t *testing.T) {
	cfg, from := testConfig(t), newLogs()
	cfg.Datasets = []string{DatasetReceipts}
	orders := corpusOrders(t, 12)
	step := func(peer bool, want ...Range) {
		t.Helper()
		for _, o := range orders[:3] {
			if peer {
				o = everyField(t)
				o.Origin = "p"
			}
			from.record(o)
		}
		orders = orders[3:]
		export(t, cfg, from)
		require.Equal(t, want, ranges(t, cfg, DatasetReceipts, LogRecord))
	}
	step(false, Range{1, 3})
	step(false, Range{1, 6})
	step(true, Range{1, 9})
	step(false, Range{1, 9}, Range{10, 12})
	require.Len(t, columnOf(t, cfg, DatasetReceipts, "bundle_hash"), 3)

	// A kill between the successor's name and the removal leaves both; the next run tidies up.
	dir := folder{path: filepath.Join(cfg.Out, DatasetReceipts), dataset: DatasetReceipts, log: LogRecord}
	w := newWriter(dir, receiptColumns(), map[string]string{metaDataset: DatasetReceipts, metaLog: "record"})
	_, err := w.finish(span{name: dir.name(10, 11), first: 10, last: 11, stream: epoch})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir.hidden(), []byte("half"), 0o600))
	export(t, cfg, from)
	require.Equal(t, []Range{{1, 9}, {10, 12}}, ranges(t, cfg, DatasetReceipts, LogRecord))
	require.NoFileExists(t, dir.hidden())
}

func TestFilesThatContradictAreRefused(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	from.done(8)
	cfg.MaxRows = 8
	export(t, cfg, from)
	dir := filepath.Join(cfg.Out, DatasetLedger)
	names := files(t, cfg, DatasetLedger)
	require.Len(t, names, 2)
	refused := func(why string) {
		t.Helper()
		e, err := New(cfg, from)
		require.NoError(t, err)
		err = e.Run(t.Context())
		require.ErrorIs(t, err, ErrFiles)
		require.ErrorContains(t, err, why)
	}
	rename := func(from, to string) { require.NoError(t, os.Rename(filepath.Join(dir, from), filepath.Join(dir, to))) }
	f := folder{dataset: DatasetLedger, log: LogDone}

	rename(names[1], f.name(5, 9))
	refused("says that its")
	rename(f.name(5, 9), f.name(9, 5))
	refused("no range")
	rename(f.name(9, 5), names[1])
	rename(names[0], f.name(1, 5))
	refused("says that its")
	rename(f.name(1, 5), names[0])
	body, err := os.ReadFile(filepath.Join(dir, names[1]))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, names[1]), body[:len(body)/2], 0o600))
	refused(names[1])
	require.NoError(t, os.WriteFile(filepath.Join(dir, names[1]), body, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
	export(t, cfg, from)
}

func TestAFailureToWriteLeavesNoFile(t *testing.T) {
	cfg, from := ledgerConfig(t), newLogs()
	from.done(2)
	export(t, cfg, from)
	from.done(2)
	hidden := folder{path: filepath.Join(cfg.Out, DatasetLedger), dataset: DatasetLedger, log: LogDone}.hidden()
	from.before = func(m *Message) error {
		if m.Sequence == 3 {
			return os.Mkdir(hidden, 0o700)
		}
		return nil
	}
	e, err := New(cfg, from)
	require.NoError(t, err)
	require.Error(t, e.Run(t.Context()))
	require.Equal(t, []Range{{1, 2}}, ranges(t, cfg, DatasetLedger, LogDone))
	from.before = nil
	export(t, cfg, from)
	require.Equal(t, running(4), columnOf(t, cfg, DatasetLedger, "sequence"))
}

func TestValidateNamesEachFault(t *testing.T) {
	c := Config{Datasets: []string{"bundles", "bundles", "orders"}, Poll: -1, Since: epoch, Until: epoch}
	err := c.Validate()
	require.ErrorIs(t, err, ErrConfig)
	for _, want := range []string{"no folder", "bundles twice", `no dataset "orders"`, "above zero", "negative", "nothing is since"} {
		require.ErrorContains(t, err, want)
	}
	require.ErrorContains(t, Config{}.Validate(), "no dataset, there are bundles")
	c = testConfig(t)
	c.Poll, c.Until = 1, epoch
	require.ErrorContains(t, c.Validate(), "has no end")
	_, err = New(c, nil)
	require.ErrorIs(t, err, ErrConfig)
}

func TestLogsHaveNames(t *testing.T) {
	for _, l := range []Log{LogRecord, LogDone, LogRejected} {
		got, ok := ParseLog(l.String())
		require.True(t, ok)
		require.Equal(t, l, got)
	}
	for _, s := range []string{"", "RECORD"} {
		_, ok := ParseLog(s)
		require.False(t, ok, s)
	}
	require.True(t, strings.HasPrefix(fmt.Sprint(LogDone), "done"))
}
