package index

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

func TestAnOrderIsFoundByEveryOneOfItsNames(t *testing.T) {
	p := newPipeline()
	tx := common.Hash{0xaa, 31: 0xbb}
	o := p.accept(1, tx, common.Hash{0xcc})
	o.Replacement, o.Nonce = order.UUID{7, 7}, 42
	p.validate(o)
	p.validate(p.accept(2, common.Hash{0xdd}))
	x, _ := run(t, p, testConfig(t.TempDir()))
	for _, name := range []string{
		o.ID.String(), o.Hash.Hex(), strings.ToUpper(o.Hash.Hex()[2:]), tx.Hex(), common.Hash{0xcc}.Hex(),
		o.Accept.String(), o.Replacement.String(), strings.ReplaceAll(o.Replacement.String(), "-", ""),
	} {
		got := find(t, x, name)
		require.Len(t, got, 1, name)
		require.Equal(t, o.Accept, got[0].Accept, name)
	}
	for _, name := range []string{
		common.Hash{0xee}.Hex(), order.AcceptID{1}.String(), order.UUID{1}.String(),
		common.Hash{1, 1, 31: 1}.Hex(), // begins like the id, which is known in full
	} {
		require.Empty(t, find(t, x, name), name)
	}
}

func TestATimelineHasEveryStage(t *testing.T) {
	p := newPipeline()
	o := p.accept(1, common.Hash{0xaa})
	seq := p.validate(o)
	e, refused := delivered(o, seq), delivered(o, seq)
	refused.Outcome, refused.RPCCode, refused.Text, refused.Attempts, refused.Ambiguous = ledger.Refused, -32000, "nope", 3, true
	p.advance(3 * time.Millisecond)
	p.end("b", e)
	p.end("a", refused)
	x, _ := run(t, p, testConfig(t.TempDir()))
	got := find(t, x, o.Hash.Hex())
	require.Len(t, got, 1)
	at := func(us int) time.Time { return testNow.Add(time.Duration(us) * time.Microsecond) }
	require.Empty(t, cmp.Diff(Timeline{
		Accept: o.Accept, ID: o.ID, Hash: o.Hash, Signer: o.Signer, Method: o.Method, Kind: o.Kind, Priority: o.Priority,
		Transactions: 1, ReceivedAt: testNow, Deadline: at(36_000_000), InSequence: 101, InStoredAt: at(200),
		DecidedAt: at(900), Attempts: 1, Validated: true, OKSequence: 1, OKStoredAt: testNow,
		Ends: []End{
			{
				Target: "a", Outcome: ledger.Refused, RPCCode: -32000, Text: "nope", Attempts: 3, Ambiguous: true, Status: 200,
				SentAt: at(1300), DoneAt: at(2000), RecordedAt: at(3000),
			},
			{Target: "b", Outcome: ledger.Delivered, Attempts: 1, Status: 200, SentAt: at(1300), DoneAt: at(2000), RecordedAt: at(3000)},
		},
	}, got[0]))
}

func TestAnOrderThatEndedBeforeDeliveryIsFoundByTheTransactionThatWasRefused(t *testing.T) {
	p := newPipeline()
	o := p.accept(1, common.Hash{0xaa})
	p.reject(o, "transaction underpriced")
	x, _ := run(t, p, testConfig(t.TempDir()))
	got := find(t, x, common.Hash{0xaa}.Hex())
	require.Len(t, got, 1)
	require.False(t, got[0].Validated)
	require.Equal(t, uint64(101), got[0].InSequence)
	require.Len(t, got[0].Ends, 1)
	require.Equal(t, ledger.AnyTarget, got[0].Ends[0].Target)
	require.Equal(t, order.CodeMalformed, got[0].Ends[0].Code)
	require.Equal(t, "transaction underpriced", got[0].Ends[0].Text)
}

func TestWhatIsStoredBeforeALookUpIsInItsAnswer(t *testing.T) {
	p := newPipeline()
	x, _ := run(t, p, testConfig(t.TempDir()))
	for n := range byte(20) {
		o := p.accept(n)
		p.validate(o)
		require.Len(t, find(t, x, o.ID.String()), 1)
	}
}

func TestTheNewestComeFirstAndNoMoreThanAskedFor(t *testing.T) {
	p := newPipeline()
	tx := common.Hash{0xaa}
	var all []order.AcceptID
	for n := range byte(8) {
		p.advance(50 * time.Second)
		o := p.accept(n, tx)
		all = append(all, o.Accept)
		p.validate(o)
	}
	x, _ := run(t, p, testConfig(t.TempDir()))
	q, err := ParseQuery(tx.Hex())
	require.NoError(t, err)
	a, err := x.Lookup(t.Context(), q, 3, nil)
	require.NoError(t, err)
	require.True(t, a.More)
	require.Len(t, a.Orders, 3)
	for i := range a.Orders {
		require.Equal(t, all[7-i], a.Orders[i].Accept)
	}
	a, err = x.Lookup(t.Context(), q, 3, func(t *Timeline) bool { return t.Accept == all[0] })
	require.NoError(t, err)
	require.False(t, a.More)
	require.Len(t, a.Orders, 1)
}

// TestAKillNeitherSkipsNorDoubles copies the folder of a running index, which is what kill -9 leaves
// behind, and goes on with the copy.
func TestAKillNeitherSkipsNorDoubles(t *testing.T) {
	p := newPipeline()
	dir := t.TempDir()
	x := newIndex(t, p, testConfig(dir))
	require.NoError(t, x.openStore(t.Context()))
	defer func() { require.NoError(t, x.closeStore()) }()
	var orders []*order.Order
	add := func(n byte) {
		o := p.accept(n, common.Hash{0xaa})
		p.end("b", delivered(o, p.validate(o)))
		orders = append(orders, o)
		require.NoError(t, x.round(t.Context()))
	}
	for n := range byte(10) {
		add(n)
	}
	require.NoError(t, x.db.Flush())
	for n := range byte(10) {
		add(10 + n) // in memory alone
	}
	left := t.TempDir()
	require.NoError(t, os.CopyFS(left, os.DirFS(dir)))
	require.NoError(t, os.RemoveAll(filepath.Join(left, "LOCK")))

	second := newIndex(t, p, testConfig(left))
	require.NoError(t, second.openStore(t.Context()))
	require.Equal(t, uint64(10), second.done.at[order.LogMedium].Sequence, "the places are those of what was written")
	require.Equal(t, uint64(10), second.done.at[order.LogDone].Sequence)
	require.NoError(t, second.closeStore())

	y, _ := run(t, p, testConfig(left))
	for _, o := range orders {
		got := find(t, y, o.ID.String())
		require.Len(t, got, 1)
		require.Len(t, got[0].Ends, 1)
	}
	q, _ := ParseQuery(common.Hash{0xaa}.Hex())
	a, err := y.Lookup(t.Context(), q, 100, nil)
	require.NoError(t, err)
	require.Len(t, a.Orders, 20)
}

func TestACleanStopKeepsThePlaces(t *testing.T) {
	p := newPipeline()
	dir := t.TempDir()
	o := p.accept(1)
	p.validate(o)
	x, stop := run(t, p, testConfig(dir))
	require.Len(t, find(t, x, o.ID.String()), 1)
	stop()
	_, err := x.Lookup(t.Context(), HashQuery(o.ID), 1, nil)
	require.ErrorIs(t, err, ErrClosed)
	p.logs[order.LogMedium].first = 2 // purged
	y, _ := run(t, p, testConfig(dir))
	require.Len(t, find(t, y, o.ID.String()), 1)
	require.Zero(t, testutil.ToFloat64(y.m.orders), "nothing was read again")
}

func TestWhatWasPurgedUnreadIsCountedAndKnownByItsRecord(t *testing.T) {
	p := newPipeline()
	dir := t.TempDir()
	p.validate(p.accept(1))
	x, stop := run(t, p, testConfig(dir))
	find(t, x, order.ID{1, 1}.String())
	stop()
	missed := p.accept(2, common.Hash{0xaa})
	p.end("b", delivered(missed, p.validate(missed)))
	p.logs[order.LogMedium].first = 3
	seen := p.accept(3, common.Hash{0xbb})
	p.end("b", delivered(seen, p.validate(seen)))
	y, _ := run(t, p, testConfig(dir))
	got := find(t, y, missed.Hash.Hex())
	require.Len(t, got, 1)
	require.True(t, got[0].Validated)
	require.Equal(t, uint64(2), got[0].OKSequence)
	require.True(t, got[0].InStoredAt.IsZero())
	require.Len(t, got[0].Ends, 1)
	require.Empty(t, find(t, y, common.Hash{0xaa}.Hex()))
	require.Len(t, find(t, y, common.Hash{0xbb}.Hex()), 1)
	require.InDelta(t, 1, testutil.ToFloat64(y.m.missed), 0)
}

func TestALogThatWasMadeAnewIsReadFromItsBeginning(t *testing.T) {
	p := newPipeline()
	dir := t.TempDir()
	for n := range byte(5) {
		p.validate(p.accept(n))
	}
	x, stop := run(t, p, testConfig(dir))
	find(t, x, order.ID{1, 1}.String())
	stop()
	l := &p.logs[order.LogMedium]
	l.epoch, l.stored = 2, nil
	o := p.accept(9)
	p.validate(o)
	y, _ := run(t, p, testConfig(dir))
	require.Len(t, find(t, y, o.ID.String()), 1)
	require.Len(t, find(t, y, order.ID{1, 1}.String()), 1)
	require.Zero(t, testutil.ToFloat64(y.m.missed))
}

func TestWhatIsTooOldGoes(t *testing.T) {
	p := newPipeline()
	cfg := testConfig(t.TempDir())
	cfg.MaxAge = time.Hour
	x := newIndex(t, p, cfg)
	require.NoError(t, x.openStore(t.Context()))
	defer func() { require.NoError(t, x.closeStore()) }()
	for n := range byte(5) {
		p.validate(p.accept(n))
		p.advance(20 * time.Minute)
	}
	require.NoError(t, x.round(t.Context()))
	require.NoError(t, x.tidy(t.Context()))
	first, ok, err := x.db.first()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, minuteOf(testNow.Add(40*time.Minute)), first)
	p2, _, err := x.db.places()
	require.NoError(t, err)
	require.Equal(t, x.done, p2)
}

func TestWhatIsTooMuchGoesOldestFirst(t *testing.T) {
	p := newPipeline()
	x := newIndex(t, p, testConfig(t.TempDir()))
	require.NoError(t, x.openStore(t.Context()))
	defer func() { require.NoError(t, x.closeStore()) }()
	for n := range byte(64) {
		p.validate(p.accept(n))
		p.advance(time.Minute)
	}
	require.NoError(t, x.round(t.Context()))
	require.NoError(t, x.db.Flush())
	x.cfg.MaxBytes = 1
	require.NoError(t, x.tidy(t.Context()))
	first, _, err := x.db.first()
	require.NoError(t, err)
	require.Equal(t, minuteOf(testNow)+4, first)
}

func TestAFullDiskStopsTheIndexAndNothingElse(t *testing.T) {
	p := newPipeline()
	p.full = true
	x := newIndex(t, p, testConfig(t.TempDir()))
	require.NoError(t, x.openStore(t.Context()))
	defer func() { require.NoError(t, x.closeStore()) }()
	p.validate(p.accept(1))
	require.ErrorIs(t, x.round(t.Context()), errFull)
	p.full = false
	require.NoError(t, x.round(t.Context()))
	require.InDelta(t, 1, testutil.ToFloat64(x.m.orders), 0)
}

func TestAFolderBelongsToOneProcess(t *testing.T) {
	p := newPipeline()
	cfg := testConfig(t.TempDir())
	run(t, p, cfg)
	second := newIndex(t, p, cfg)
	require.ErrorIs(t, second.openStore(t.Context()), errHeld)
	_, err := second.Lookup(t.Context(), Query{}, 1, nil)
	require.ErrorIs(t, err, ErrClosed)
}

func TestADamagedIndexIsMadeAnew(t *testing.T) {
	p := newPipeline()
	dir := t.TempDir()
	o := p.accept(1)
	p.validate(o)
	_, stop := run(t, p, testConfig(dir))
	stop()
	manifests, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	require.NoError(t, err)
	for _, m := range manifests {
		require.NoError(t, os.WriteFile(m, []byte("this is no manifest, not even nearly"), 0o600))
	}
	x, _ := run(t, p, testConfig(dir))
	require.Len(t, find(t, x, o.ID.String()), 1)
}

func TestAFailedStoreAnswersWithItsReason(t *testing.T) {
	p := newPipeline()
	x := newIndex(t, p, testConfig(t.TempDir()))
	require.NoError(t, x.openStore(t.Context()))
	db := x.db
	text := "no space left"
	db.failed.Store(&text)
	require.ErrorIs(t, x.round(t.Context()), errFailed)
	_, err := x.Lookup(t.Context(), Query{}, 1, nil)
	require.ErrorIs(t, err, errFailed)
	require.NoError(t, x.closeStore(), "left as it is")
	db.failed.Store(nil)
	require.NoError(t, db.close())
}

func TestWhatCouldNotBeWrittenIsReadAgain(t *testing.T) {
	p := newPipeline()
	x := newIndex(t, p, testConfig(t.TempDir()))
	require.NoError(t, x.openStore(t.Context()))
	defer func() { require.NoError(t, x.closeStore()) }()
	p.validate(p.accept(1))
	require.NoError(t, x.round(t.Context()))
	kept := x.done
	o := p.accept(2)
	p.end("b", delivered(o, p.validate(o)))
	text := "disk fault"
	x.db.failed.Store(&text)
	require.ErrorIs(t, x.read(t.Context(), order.LogMedium), errFailed)
	require.Equal(t, kept, x.done)
	x.db.failed.Store(nil)
	require.NoError(t, x.round(t.Context()))
	require.Equal(t, uint64(2), x.done.at[order.LogMedium].Sequence)
	require.InDelta(t, 0, testutil.ToFloat64(x.m.missed), 0)
}

func TestQueriesAreNamesOfOrders(t *testing.T) {
	for _, bad := range []string{"", "0x", "zz", strings.Repeat("0", 63), strings.Repeat("g", 64), "0123456789abcdef0123456789abcdef01234567", "00000000-0000-0000-0000_000000000000"} {
		_, err := ParseQuery(bad)
		require.ErrorIs(t, err, ErrQuery, bad)
	}
	q, err := ParseQuery(" 0X" + strings.Repeat("Ab", 32) + "\n")
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("ab", 32), q.String())
	require.Equal(t, q, HashQuery(q.name))
	q, err = ParseQuery("5f3b8c1e-7a94-4a6c-9f0d-2b1c3d4e5f60")
	require.NoError(t, err)
	require.Equal(t, "5f3b8c1e7a944a6c9f0d2b1c3d4e5f60", q.String())
}

func TestConfigReportsEveryFault(t *testing.T) {
	err := Config{MaxAge: time.Second, MaxBytes: 1}.Validate()
	require.ErrorContains(t, err, "trace.max_age")
	require.ErrorContains(t, err, "trace.max_bytes")
	require.NoError(t, testConfig("x").Validate())
}
