package enginelog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/subjects"
)

func TestRecordsAreStoredInTheOrderOfTheCalls(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 7, 1, 200)
	r.settled(t, 400)
	require.Equal(t, names(7, 1, 200), told(t, b, 1))
	require.Empty(t, r.lost())
	require.EqualValues(t, 400, state(t, js).Msgs)
}

func TestARecordComesBackAsItWas(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	q, o := call(3, 9, 5000)
	r.Request(q)
	r.Outcome(o)
	r.settled(t, 2)
	all := entries(t, b, 1)
	require.Len(t, all, 2)
	require.Equal(t, q.Raw, all[0].Request.Raw)
	require.Equal(t, q.ID, all[0].Request.ID)
	require.True(t, all[0].Request.Verified)
	require.Equal(t, o.Result.Status, all[1].Outcome.Result.Status)
	require.EqualValues(t, 1, all[0].Stream)
	require.WithinDuration(t, time.Now(), all[1].Stored, time.Minute)
	for _, e := range all {
		require.Equal(t, e, entries(t, b, e.Stream)[0], "an entry's sequence is where reading finds it first")
	}
}

// TestRule22TheSpoolIsDrainedInOrderBeforeLivePublishingResumes stops the bus under a load of calls. What is
// called meanwhile returns while there is no server at all, so no call can have waited for one.
func TestRule22TheSpoolIsDrainedInOrderBeforeLivePublishingResumes(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 100)
	r.settled(t, 100) // some are under way
	s.Stop()
	say(r, 1, 101, 600)
	require.Eventually(t, func() bool { return r.unstored() >= 1000 }, soon, tick, "they are in the spool")
	s.Restart(t)
	say(r, 1, 601, 700)
	r.settled(t, 1400)
	require.Equal(t, names(1, 1, 700), told(t, b, 1))
	require.Empty(t, r.lost())
	require.EqualValues(t, 1400, state(t, js).Msgs, "each is stored once")
}

// TestABusThatComesAndGoesTakesEachRecordOnce kills the server again and again while calls come.
func TestABusThatComesAndGoesTakesEachRecordOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	next := uint64(1)
	for range 4 {
		say(r, 1, next, next+149)
		next += 150
		r.settled(t, int(next)/2)
		s.Restart(t)
	}
	r.settled(t, 2*int(next-1))
	require.Equal(t, names(1, 1, next-1), told(t, b, 1))
	require.Equal(t, 2*(next-1), state(t, js).Msgs)
	require.Empty(t, r.lost())
}

func TestARecorderThatStartsBeforeTheBusLosesNothing(t *testing.T) {
	s := natstest.Start(t)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 20)
	require.Eventually(t, func() bool { return r.unstored() == 40 }, soon, tick)
	furnish(t, s) // the stream is made only now
	r.settled(t, 40)
	require.Equal(t, names(1, 1, 20), told(t, b, 1))
}

func TestRecordsOfAnEarlierProcessComeBeforeThoseOfThisOne(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	dir := spoolDir(t)
	first := run(t, b, dir)
	say(first, 1, 1, 10)
	first.settled(t, 20)
	s.Stop()
	say(first, 1, 11, 40)
	first.stop() // it gives up after DrainTimeout
	s.Restart(t)
	second := run(t, b, dir)
	say(second, 2, 1, 10)
	second.settled(t, 80)
	require.Equal(t, append(names(1, 1, 40), names(2, 1, 10)...), told(t, b, 1))
	require.EqualValues(t, 100, state(t, js).Msgs)
}

// TestWhatWasStoredWithoutAnAnswerIsNotStoredTwice is a process killed after the store took its records
// and before it heard of it, started again when the server has long forgotten their ids.
func TestWhatWasStoredWithoutAnAnswerIsNotStoredTwice(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js := furnish(t, s, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond })
	b := port(t, s)
	dir := spoolDir(t)
	first := run(t, b, dir)
	say(first, 1, 1, 30)
	first.settled(t, 60)
	first.stop()
	// The place as it was when the first five records had been acknowledged.
	rewindPlace(t, dir, 5)
	forgotten(t, js)

	second := run(t, b, dir)
	say(second, 2, 1, 5)
	second.settled(t, 65) // those that are found are settled, too
	require.Equal(t, append(names(1, 1, 30), names(2, 1, 5)...), told(t, b, 1))
	require.EqualValues(t, 70, state(t, js).Msgs)
}

// TestWhatIsStoredIsNotStoredTwiceWhenThePlaceIsLost has far more records in the spool than can be under way.
func TestWhatIsStoredIsNotStoredTwiceWhenThePlaceIsLost(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js := furnish(t, s, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond })
	b := port(t, s)
	dir := spoolDir(t)
	wide := func(c *Config) { c.SpoolMax = 1 << 30 } // its files are kept while they are small beside it
	first := run(t, b, dir, wide)
	say(first, 1, 1, 90)
	q, o := call(1, 91, 3_000_000)
	first.Request(q)
	first.Outcome(o)
	say(first, 1, 92, 120)
	first.settled(t, 240)
	first.stop()
	require.NoError(t, os.Remove(filepath.Join(dir, "place")))
	forgotten(t, js)
	before := state(t, js).Msgs

	second := run(t, b, dir, wide)
	say(second, 2, 1, 5)
	second.settled(t, 250)
	require.Equal(t, append(names(1, 1, 120), names(2, 1, 5)...), told(t, b, 1))
	require.Equal(t, before+10, state(t, js).Msgs)
}

func TestASpoolBelongsToOneProcess(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	b := port(t, s)
	dir := spoolDir(t)
	run(t, b, dir)
	require.Eventually(t, func() bool { _, err := os.Stat(segmentPath(dir, 1)); return err == nil }, soon, tick)
	other, err := New(Config{SpoolDir: dir, SpoolMax: 1 << 20}, b, quiet(), prometheus.NewRegistry())
	require.NoError(t, err)
	require.ErrorIs(t, other.Run(t.Context()), ErrLocked)
}

func TestALargePayloadTravelsInPartsAndComesBackWhole(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 2)
	q, o := call(1, 3, 17_000_000)
	r.Request(q)
	r.Outcome(o)
	say(r, 1, 4, 5)
	r.settled(t, 10)
	all := entries(t, b, 1)
	require.Len(t, all, 10)
	require.Equal(t, q.Raw, all[4].Request.Raw)
	require.Greater(t, state(t, js).Msgs, uint64(18))
	require.Equal(t, names(1, 3, 5), told(t, b, all[4].Stream), "reading from the sequence of a record in parts finds all of it")
	require.Equal(t, names(1, 3, 5)[1:], told(t, b, all[4].Stream+1))
	require.Equal(t, names(1, 3, 5)[1:], told(t, b, all[4].Stream)[1:])
	middle := all[4].Stream - 3
	require.Equal(t, names(1, 3, 5), told(t, b, middle), "from is in the middle of it")
}

// TestAnInterruptedLargePayloadIsSentOnceMoreAsAWhole takes the server away in the middle of the parts.
func TestAnInterruptedLargePayloadIsSentOnceMoreAsAWhole(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	half, cancel := context.WithCancel(t.Context())
	sub, err := s.Connect(t).Subscribe("engine.calls.*", func(*nats.Msg) { cancel() })
	require.NoError(t, err)
	require.NoError(t, sub.AutoUnsubscribe(1))
	r := run(t, b, spoolDir(t))
	q, _ := call(1, 1, 17_000_000)
	r.Request(q)
	<-half.Done()
	s.Restart(t)
	say(r, 1, 2, 3)
	r.settled(t, 5)
	all := entries(t, b, 1)
	require.Len(t, all, 5)
	require.Equal(t, q.Raw, all[0].Request.Raw)
	require.Empty(t, r.lost())
	require.GreaterOrEqual(t, state(t, js).Msgs, uint64(5))
}

// TestARecordOfWhichPartsAreStoredIsSentOnceMoreAsAWhole is a process killed in the middle of the parts,
// and started again long after.
func TestARecordOfWhichPartsAreStoredIsSentOnceMoreAsAWhole(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	dir := spoolDir(t)
	sp, _, err := openSpool(dir, 64<<20)
	require.NoError(t, err)
	q, _ := call(1, 1, 4_000_000)
	_, err = sp.append((&pending{request: q, taken: time.Now()}).item())
	require.NoError(t, err)
	sp.close()
	parts(t, js, q, 1, 1, 2)
	parts(t, js, q, 2, 1)
	r := run(t, b, dir)
	say(r, 2, 1, 2)
	r.settled(t, 5)
	all := entries(t, b, 1)
	require.Len(t, all, 5)
	require.Equal(t, q.Raw, all[0].Request.Raw)
	last, err := js.Stream(t.Context(), subjects.StreamEngine)
	require.NoError(t, err)
	msg, err := last.GetMsg(t.Context(), 4)
	require.NoError(t, err)
	require.Equal(t, "1.1.q.3.1", msg.Header.Get(jetstream.MsgIDHeader))
	require.Equal(t, []string{"1.1.q"}, read(t, b, 1)[:1], "the parts that were left behind are no loss")
}

func TestAServerOfSmallMessagesGetsSmallParts(t *testing.T) {
	p := &publisher{nc: &nats.Conn{}}
	require.GreaterOrEqual(t, p.most(), 1<<10, "whatever a server says")
	s := natstest.Start(t)
	p.nc = s.Connect(t)
	require.Equal(t, chunkMost, p.most())
}

func TestARecordThatTheBusWillNeverTakeIsLostAndDoesNotHoldUpTheRest(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 4096 })
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 2)
	q, _ := call(1, 3, 50_000)
	r.Request(q)
	say(r, 1, 4, 6)
	r.settled(t, 10)
	require.Equal(t, append(names(1, 1, 2), names(1, 4, 6)...), told(t, b, 1))
	require.Equal(t, map[string]int{lostRefused: 1}, r.lost())
}

// TestAnotherDoorsRecordsInBetweenChangeNothing has two recorders write at the same time, as when a door lost
// its lease and still drains its spool.
func TestAnotherDoorsRecordsInBetweenChangeNothing(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	one, other := port(t, s), port(t, s)
	first, second := run(t, one, spoolDir(t)), run(t, other, spoolDir(t))
	for n := uint64(1); n <= 100; n++ {
		say(first, 1, n, n)
		say(second, 2, n, n)
	}
	first.settled(t, 200)
	second.settled(t, 200)
	all := told(t, one, 1)
	require.Len(t, all, 400)
	for epoch := uint64(1); epoch <= 2; epoch++ {
		var mine []string
		for _, id := range all {
			if strings.HasPrefix(id, fmt.Sprintf("%d.", epoch)) {
				mine = append(mine, id)
			}
		}
		require.Equal(t, names(epoch, 1, 100), mine)
	}
}

func TestAQueueThatIsFullLosesTheNewRecordAndCountsIt(t *testing.T) {
	r, err := New(Config{SpoolDir: spoolDir(t), SpoolMax: 1 << 20, QueueMax: 10 << 10}, nil, quiet(), prometheus.NewRegistry())
	require.NoError(t, err)
	rec := &testRecorder{Recorder: r}
	say(rec, 1, 1, 100) // nobody takes them
	require.Positive(t, rec.lost()[lostQueue])
	require.LessOrEqual(t, r.bytes, int64(10<<10))
	require.Equal(t, 200, rec.lost()[lostQueue]+len(r.queue))
	require.EqualValues(t, 1, r.queue[0].request.Sequence)
}

// The work of recording is for after the answer, unless that takes its time.
func TestARequestWakesTheSpoolOnlyWhenItsOutcomeIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New(Config{SpoolDir: spoolDir(t), SpoolMax: 1 << 20, QueueMax: 100 << 10}, nil, quiet(), prometheus.NewRegistry())
		require.NoError(t, err)
		woken := func() bool {
			select {
			case <-r.wake:
				return true
			default:
				return false
			}
		}
		elapse := func() { <-time.After(lazily); synctest.Wait() }
		q, o := call(1, 1, 300)
		for range 2 { // the alarm can be set again
			r.Request(q)
			require.False(t, woken())
			elapse()
			require.True(t, woken(), "the outcome is late")
			r.Outcome(o)
			require.True(t, woken())
			r.drain(nil)
		}
		r.Request(q)
		r.Outcome(o)
		require.True(t, woken())
		r.drain(nil)
		elapse()
		require.False(t, woken(), "there is nothing left")
		large, _ := call(1, 2, 60<<10)
		r.Request(large)
		require.True(t, woken(), "half the queue is taken")
		elapse()
	})
}

func TestWhatComesAfterTheRecorderEndedIsCounted(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 3)
	r.stop()
	say(r, 1, 4, 4)
	require.Equal(t, map[string]int{lostClosed: 2}, r.lost())
	require.Equal(t, names(1, 1, 3), told(t, b, 1), "what was recorded before is stored")
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	c := Config{SpoolMax: 1, QueueMax: -1}
	err := c.Validate()
	for _, text := range []string{"engine.spool_dir", "engine.spool_max", "queue"} {
		require.ErrorContains(t, err, text)
	}
	_, err = New(c, nil, quiet(), prometheus.NewRegistry())
	require.Error(t, err)
}

// TestRule22TwoEpochsAreToldApart records the same sequences in two epochs, and A, B, A in one.
func TestRule22TwoEpochsAreToldApart(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	q, _ := call(1, 1, 300)
	again := *q
	again.Sequence = 3
	other, _ := call(1, 2, 300)
	r.Request(q)
	r.Request(other)
	r.Request(&again)
	say(r, 2, 1, 2)
	r.settled(t, 7)
	require.Equal(t, append([]string{"1.1.q", "1.2.q", "1.3.q"}, names(2, 1, 2)...), told(t, b, 1))
	require.EqualValues(t, 7, state(t, js).Msgs)
	require.Equal(t, subjects.EngineDuplicates, func() time.Duration {
		st, err := js.Stream(t.Context(), subjects.StreamEngine)
		require.NoError(t, err)
		return st.CachedInfo().Config.Duplicates
	}())
}
