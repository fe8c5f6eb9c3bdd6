package enginelog

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/subjects"
)

// frameOf is a request as an item.
func frameOf(tb testing.TB, epoch, sequence uint64) *item {
	tb.Helper()
	q, _ := call(epoch, sequence, 300)
	p := pending{request: q, taken: time.UnixMicro(time.Now().UnixMicro())}
	return p.item()
}

func openTest(tb testing.TB, dir string, most int64) (*spool, losses) {
	tb.Helper()
	s, lost, err := openSpool(dir, most)
	require.NoError(tb, err)
	tb.Cleanup(s.close)
	return s, lost
}

// fillSpool appends requests and returns them.
func fillSpool(tb testing.TB, s *spool, from, to uint64) (all []*item) {
	tb.Helper()
	for n := from; n <= to; n++ {
		it := frameOf(tb, 1, n)
		lost, err := s.append(it)
		require.NoError(tb, err)
		require.Zero(tb, lost)
		all = append(all, it)
	}
	return all
}

// rest hands out everything.
func rest(s *spool) (all []*item, ends []cursor, lost losses) {
	for {
		it, end, l := s.next()
		lost.add(l)
		if it == nil {
			return all, ends, lost
		}
		all, ends = append(all, it), append(ends, end)
	}
}

// rewindPlace sets the place behind the first frames, as a process leaves it that was killed, with the
// sequence of the last of them.
func rewindPlace(tb testing.TB, dir string, frames int) {
	tb.Helper()
	numbers, err := segmentNumbers(dir)
	require.NoError(tb, err)
	seg, fault, err := openSegment(dir, numbers[0], 0)
	require.NoError(tb, err)
	require.NoError(tb, fault)
	at := int64(0)
	for range frames {
		_, next, err := seg.frame(at)
		require.NoError(tb, err)
		at = next
	}
	require.NoError(tb, seg.file.Close())
	p := place{cursor: cursor{numbers[0], at}, sequence: uint64(frames)}
	require.NoError(tb, os.WriteFile(filepath.Join(dir, "place"), p.encode(), 0o600))
}

// forgotten waits until the server's window of duplicates has passed.
func forgotten(tb testing.TB, js jetstream.JetStream) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		s, err := js.Stream(tb.Context(), subjects.StreamEngine)
		require.NoError(tb, err)
		info := s.CachedInfo()
		return info.TimeStamp.Sub(info.State.LastTime) > 4*info.Config.Duplicates
	}, soon, tick)
}

func TestASpoolHandsOutWhatWasAppendedInOrder(t *testing.T) {
	dir := spoolDir(t)
	s, _ := openTest(t, dir, 1<<20)
	in := fillSpool(t, s, 1, 500)
	require.Greater(t, len(s.segments), 1)
	out, ends, lost := rest(s)
	require.Equal(t, in, out)
	require.Zero(t, lost)
	require.Equal(t, 500, s.records())

	s.rewind()
	again, _, _ := rest(s)
	require.Equal(t, in, again, "what is not settled comes again")
	for i, end := range ends[:400] {
		s.settle(end, uint64(i+1))
	}
	s.rewind()
	again, _, _ = rest(s)
	require.Equal(t, in[400:], again)
	require.Equal(t, 100, s.records())
	for i, end := range ends[400:] {
		s.settle(end, uint64(400+i+1))
	}
	require.Zero(t, s.records())
	numbers, err := segmentNumbers(dir)
	require.NoError(t, err)
	require.Len(t, numbers, 1, "what is settled leaves no files behind")
}

// TestASpoolSurvivesAKill opens the files as another process would, in the middle of their use.
func TestASpoolSurvivesAKill(t *testing.T) {
	dir := spoolDir(t)
	s, _ := openTest(t, dir, 1<<20)
	in := fillSpool(t, s, 1, 300)
	_, ends, _ := rest(s)
	for i, end := range ends[:150] {
		s.settle(end, uint64(i+1))
	}
	killed := copyDir(t, dir)
	for round := range 3 {
		s, lost := openTest(t, killed, 1<<20)
		require.Zero(t, lost)
		require.EqualValues(t, 150, s.done.sequence)
		require.Equal(t, 150, s.records())
		out, _, _ := rest(s)
		require.Equal(t, in[150:], out, "start %d", round)
		s.close()
	}
}

func TestATornTailIsOneRecord(t *testing.T) {
	dir := spoolDir(t)
	s, _ := openTest(t, dir, 1<<20)
	in := fillSpool(t, s, 1, 20)
	path := s.last().file.Name()
	s.close()
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	last := len(appendFrame(nil, in[19]))
	for _, cut := range []int{1, last / 2, last - 1} {
		torn := copyDir(t, dir)
		require.NoError(t, os.WriteFile(filepath.Join(torn, filepath.Base(path)), whole[:len(whole)-cut], 0o600))
		s, lost := openTest(t, torn, 1<<20)
		require.Equal(t, losses{torn: 1}, lost)
		fresh := fillSpool(t, s, 21, 25)
		out, _, lost := rest(s)
		require.Zero(t, lost)
		require.Equal(t, append(append([]*item{}, in[:19]...), fresh...), out, "%d bytes cut off", cut)
		s.close()
	}
}

func TestADamagedFrameIsPassedOverAndCountedOnce(t *testing.T) {
	dir := spoolDir(t)
	s, _ := openTest(t, dir, 1<<20)
	in := fillSpool(t, s, 1, 10)
	path := s.last().file.Name()
	s.close()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(appendFrame(nil, in[0]))+frameHead+40] ^= 1 // in the body of the second
	require.NoError(t, os.WriteFile(path, b, 0o600))
	s, lost := openTest(t, dir, 1<<20)
	require.Zero(t, lost)
	out, ends, lost := rest(s)
	require.Equal(t, losses{damaged: 1}, lost)
	require.Equal(t, append([]*item{in[0]}, in[2:]...), out)
	s.rewind()
	_, _, lost = rest(s)
	require.Zero(t, lost, "the same damage is no new loss")
	for i, end := range ends {
		s.settle(end, uint64(i+1))
	}
	require.Zero(t, s.records())
}

func TestALengthThatCanNotBeEndsItsFileOnly(t *testing.T) {
	dir := spoolDir(t)
	s, _ := openTest(t, dir, 1<<20)
	in := fillSpool(t, s, 1, 10)
	path := s.last().file.Name()
	s.close()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	copy(b[len(appendFrame(nil, in[0])):], []byte{0xff, 0xff, 0xff, 0xff})
	require.NoError(t, os.WriteFile(path, b, 0o600))
	s, lost := openTest(t, dir, 1<<20)
	require.Equal(t, losses{damaged: 1}, lost, "how many there were behind it nobody can say")
	fresh := fillSpool(t, s, 11, 12)
	out, _, _ := rest(s)
	require.Equal(t, append([]*item{in[0]}, fresh...), out)
}

func TestAFullSpoolLosesTheOldestAndCountsThem(t *testing.T) {
	dir := spoolDir(t)
	s, _ := openTest(t, dir, 1<<20)
	const records = 5000
	lost := 0
	for n := uint64(1); n <= records; n++ {
		l, err := s.append(frameOf(t, 1, n))
		require.NoError(t, err)
		lost += l.full
		require.LessOrEqual(t, s.bytes, int64(1<<20))
	}
	require.Positive(t, lost)
	out, _, _ := rest(s)
	require.Len(t, out, records-lost, "what is not there was counted")
	for i, it := range out {
		require.EqualValues(t, lost+i+1, it.id.Sequence, "the newest are kept, without a hole")
	}
}

func TestRecordsInHandOfADroppedFileSettleAsNothing(t *testing.T) {
	s, _ := openTest(t, spoolDir(t), 1<<20)
	fillSpool(t, s, 1, 10)
	_, ends, _ := rest(s)
	s.rewind()
	for n := uint64(11); s.segments[0].number == 1; n++ {
		_, err := s.append(frameOf(t, 1, n))
		require.NoError(t, err)
	}
	for i, end := range ends {
		s.settle(end, uint64(i+1))
	}
	require.EqualValues(t, 10, s.done.sequence)
	it, _, _ := s.next()
	require.NotNil(t, it)
	require.Greater(t, it.id.Sequence, uint64(10))
}

func TestARecordThatExceedsTheSpoolIsRefused(t *testing.T) {
	s, _ := openTest(t, spoolDir(t), 1<<20)
	it := frameOf(t, 1, 1)
	it.body = make([]byte, 2<<20)
	_, err := s.append(it)
	require.ErrorIs(t, err, errTooLarge)
}

func TestAPlaceThatCanNotBeReadIsTheBeginning(t *testing.T) {
	dir := spoolDir(t)
	s, _ := openTest(t, dir, 1<<20)
	in := fillSpool(t, s, 1, 5)
	_, ends, _ := rest(s)
	s.settle(ends[2], 3)
	s.close()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "place"), []byte("nonsense that is long enough for it"), 0o600))
	s, _ = openTest(t, dir, 1<<20)
	out, _, _ := rest(s)
	require.Equal(t, in, out)
	require.Zero(t, s.done.sequence)
}

// TestADiskThatRefusesIsReplacedByMemory closes the file under the spool.
func TestADiskThatRefusesIsReplacedByMemory(t *testing.T) {
	s, _ := openTest(t, spoolDir(t), 1<<20)
	r := &testRecorder{Recorder: &Recorder{m: newMetrics(nil)}}
	j := newJournal(s, 3*(recordOverhead+600), quiet(), r.m)
	j.add(t.Context(), frameOf(t, 1, 1))
	whole := s.last().file
	broken, err := os.Open(whole.Name()) // for reading only
	require.NoError(t, err)
	s.last().file = broken
	for n := uint64(2); n <= 6; n++ {
		j.add(t.Context(), frameOf(t, 1, n))
	}
	lost := r.lost()[lostSpoolError]
	require.Positive(t, lost)
	require.Equal(t, 6-lost, j.left())
	var marks []mark
	for n := uint64(1); ; n++ {
		it, m, ok := j.next()
		if !ok {
			break
		}
		require.Equal(t, n, it.id.Sequence)
		marks = append(marks, m)
	}
	require.Len(t, marks, 6-lost)
	j.rewind()
	s.last().file = whole
	require.NoError(t, broken.Close())
	j.add(t.Context(), frameOf(t, 1, 7))
	require.Empty(t, j.memory, "the disk takes records again: those in memory first")
	var ids []uint64
	for {
		it, m, ok := j.next()
		if !ok {
			break
		}
		ids = append(ids, it.id.Sequence)
		j.settle(m, uint64(len(ids)))
	}
	require.IsIncreasing(t, ids)
	require.EqualValues(t, 7, ids[len(ids)-1])
	require.Zero(t, j.left())
}

func copyDir(tb testing.TB, from string) string {
	tb.Helper()
	to := filepath.Join(tb.TempDir(), "copy")
	require.NoError(tb, os.CopyFS(to, os.DirFS(from)))
	return to
}

func FuzzSpool(f *testing.F) {
	it := &item{kind: subjects.EngineRequestKind, method: "engine_newPayloadV4", body: []byte("body")}
	one := appendFrame(nil, it)
	f.Add(one, int64(0))
	f.Add(append(append([]byte{}, one...), one...), int64(len(one)))
	f.Add(one[:len(one)-1], int64(0))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0}, int64(3))
	f.Add([]byte{}, int64(-1))
	f.Fuzz(func(t *testing.T, file []byte, at int64) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(segmentPath(dir, 1), file, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "place"), place{cursor: cursor{1, at}}.encode(), 0o600))
		s, lost, err := openSpool(dir, 1<<20)
		require.NoError(t, err)
		defer s.close()
		left := s.records()
		out, ends, more := rest(s)
		require.LessOrEqual(t, len(out)+more.damaged, left+lost.damaged+lost.torn+1)
		for i, end := range ends {
			require.True(t, out[i].kind.Valid())
			s.settle(end, uint64(i))
		}
		_, err = s.append(it)
		require.NoError(t, err)
		out, _, _ = rest(s)
		require.Len(t, out, 1)
		require.Equal(t, it.body, out[0].body)
	})
}

func FuzzParseFrame(f *testing.F) {
	it := &item{kind: subjects.EngineOutcomeKind, method: "eth_syncing", body: []byte("body")}
	f.Add(appendFrame(nil, it)[frameHead:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		it, err := parseFrame(payload, checksum(payload))
		if err != nil {
			require.ErrorIs(t, err, errFrame)
			return
		}
		again := appendFrame(nil, it)
		if len(it.method) <= maxMethod {
			require.Equal(t, payload, again[frameHead:])
		}
	})
}
