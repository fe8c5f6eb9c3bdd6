package enginelog

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi/record"
	"millrace/internal/natstest"
	"millrace/subjects"
)

// put stores one message on ENGINE by hand.
func put(tb testing.TB, js jetstream.JetStream, id, chunk string, body []byte) {
	tb.Helper()
	msg := &nats.Msg{Subject: subjects.EngineCall("engine_newPayloadV4"), Data: body, Header: nats.Header{}}
	if id != "" {
		msg.Header.Set(jetstream.MsgIDHeader, id)
	}
	if chunk != "" {
		msg.Header.Set(subjects.HeaderChunk, chunk)
	}
	_, err := js.PublishMsg(tb.Context(), msg)
	require.NoError(tb, err)
}

// parts puts the given parts of a request in three parts.
func parts(tb testing.TB, js jetstream.JetStream, q *record.Request, try int, which ...int) {
	tb.Helper()
	body := q.Encode()
	third := len(body)/3 + 1
	for _, i := range which {
		m := subjects.EngineMessage{Epoch: q.Epoch, Sequence: q.Sequence, Kind: subjects.EngineRequestKind, Try: try, Index: i}
		put(tb, js, m.String(), subjects.Chunk(i, 3), body[(i-1)*third:min(i*third, len(body))])
	}
}

func whole(tb testing.TB, js jetstream.JetStream, q *record.Request) {
	tb.Helper()
	put(tb, js, q.ID.String()+".q", "", q.Encode())
}

// read is what a log tells from a sequence on: entries by name, losses by reason and range.
func read(tb testing.TB, b Bus, from uint64) (events []string) {
	tb.Helper()
	l, err := NewReader(b, quiet(), prometheus.NewRegistry()).Log("", func(l Loss) { events = append(events, lossName(l)) })
	require.NoError(tb, err)
	require.NoError(tb, l.Read(tb.Context(), from, func(e record.Entry) error {
		events = append(events, name(e))
		return nil
	}))
	return events
}

func lossName(l Loss) string { return fmt.Sprintf("%s %d-%d", l.Reason, l.From, l.To) }

func TestPartsThatAreMissingAreANamedLoss(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	a, _ := call(1, 1, 3000)
	b, _ := call(1, 2, 3000)
	c, _ := call(1, 3, 3000)
	whole(t, js, a)
	parts(t, js, b, 1, 1, 3) // 2, 3: the second part is missing
	whole(t, js, c)
	p := port(t, s)
	require.Equal(t, []string{"1.1.q", "parts 2-2", "1.3.q"}, read(t, p, 1))
	require.Equal(t, []string{"parts 2-2", "1.3.q"}, read(t, p, 2))
	require.Equal(t, []string{"parts 2-2", "1.3.q"}, read(t, p, 3), "its beginning is looked for")
}

func TestALaterTryReplacesAnEarlierOne(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	a, _ := call(1, 1, 3000)
	b, _ := call(1, 2, 3000)
	parts(t, js, a, 1, 1, 2)
	parts(t, js, a, 2, 1, 2, 3)
	whole(t, js, b)
	require.Equal(t, []string{"1.1.q", "1.2.q"}, read(t, port(t, s), 1))
}

func TestTwoDoorsPartsInBetweenAreToldApart(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	a, _ := call(1, 1, 3000)
	b, _ := call(2, 1, 3000)
	c, _ := call(2, 2, 300)
	parts(t, js, a, 1, 1)
	parts(t, js, b, 1, 1)
	parts(t, js, a, 1, 2)
	parts(t, js, b, 1, 2, 3) // it is whole at 5
	whole(t, js, c)
	parts(t, js, a, 1, 3) // at 7
	p := port(t, s)
	require.Equal(t, []string{"2.1.q", "2.2.q", "1.1.q"}, read(t, p, 1))
	require.Equal(t, []string{"2.2.q", "1.1.q"}, read(t, p, 6), "what began before is looked for when it ends")
	require.Equal(t, []string{"1.1.q"}, read(t, p, 7))
}

func TestWhatCanNotBeReadIsANamedLoss(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	a, _ := call(1, 1, 300)
	b, _ := call(1, 2, 300)
	put(t, js, "", "", []byte("no id"))
	put(t, js, "1.7.q", "", []byte("no record"))
	put(t, js, "1.8.q", "", a.Encode()) // another's
	put(t, js, "1.9.o", "", a.Encode()) // no outcome
	put(t, js, "1.9.q.1.2", "1/3", a.Encode())
	whole(t, js, b)
	require.Equal(t, []string{"damaged 1-1", "damaged 2-2", "damaged 3-3", "damaged 4-4", "damaged 5-5", "1.2.q"}, read(t, port(t, s), 1))
}

func TestRetentionLossIsANamedLoss(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s, func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 })
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 20)
	r.settled(t, 40)
	l, err := NewReader(b, quiet(), prometheus.NewRegistry()).Log("", nil)
	require.NoError(t, err)
	first, err := l.First(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 31, first)
	require.Equal(t, append([]string{"retention 5-30"}, names(1, 16, 20)...), read(t, b, 5))
	require.Equal(t, names(1, 17, 20), read(t, b, 33))

	st, err := js.Stream(t.Context(), subjects.StreamEngine)
	require.NoError(t, err)
	require.NoError(t, st.Purge(t.Context()))
	first, err = l.First(t.Context())
	require.NoError(t, err)
	last, err := l.Last(t.Context())
	require.NoError(t, err)
	require.Equal(t, last+1, first, "an empty log")
	require.Empty(t, told(t, b, 1))
}

func TestReadingEndsWhereItBegan(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	l, err := NewReader(b, quiet(), prometheus.NewRegistry()).Log("", nil)
	require.NoError(t, err)
	require.Empty(t, told(t, b, 1))
	for n := uint64(1); n <= 3; n++ {
		q, _ := call(1, n, 300)
		whole(t, js, q)
	}
	require.Empty(t, told(t, b, 4))
	require.Empty(t, told(t, b, 400))
	seen := 0
	require.NoError(t, l.Read(t.Context(), 0, func(record.Entry) error {
		seen++
		q, _ := call(2, uint64(seen), 300)
		whole(t, js, q)
		return nil
	}))
	require.Equal(t, 3, seen, "what is stored while it reads is not of this reading")
	boom := errors.New("boom")
	require.Equal(t, boom, l.Read(t.Context(), 1, func(record.Entry) error { return boom }))
	span, err := l.Span(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 6, span.Messages)
}

func TestABusThatComesBackIsReadOn(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 400)
	r.settled(t, 800)
	l, err := NewReader(b, quiet(), prometheus.NewRegistry()).Log("", nil)
	require.NoError(t, err)
	var ids []string
	require.NoError(t, l.Read(t.Context(), 1, func(e record.Entry) error {
		ids = append(ids, name(e))
		if len(ids) == 100 || len(ids) == 600 {
			s.Restart(t)
		}
		return nil
	}))
	require.Equal(t, names(1, 1, 400), ids)
}

func TestTheLogIsFoundByTime(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	l, err := NewReader(b, quiet(), prometheus.NewRegistry()).Log("", nil)
	require.NoError(t, err)
	at, err := l.At(t.Context(), time.Now())
	require.NoError(t, err)
	require.EqualValues(t, 1, at)
	for n := uint64(1); n <= 5; n++ {
		q, _ := call(1, n, 300)
		whole(t, js, q)
	}
	third := entries(t, b, 3)[0]
	at, err = l.At(t.Context(), third.Stored)
	require.NoError(t, err)
	require.EqualValues(t, 3, at)
	at, err = l.At(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.EqualValues(t, 6, at)
}

func TestNoLogIsAnError(t *testing.T) {
	s := natstest.Start(t)
	b := port(t, s)
	r := NewReader(b, quiet(), prometheus.NewRegistry())
	l, err := r.Log("geth", nil)
	require.NoError(t, err)
	require.ErrorIs(t, l.Read(t.Context(), 1, nil), ErrNoLog)
	require.ErrorIs(t, l.Follow(t.Context(), 1, nil), ErrNoLog)
	_, err = l.First(t.Context())
	require.ErrorIs(t, err, ErrNoLog)
	_, err = r.Log("a.b", nil)
	require.ErrorIs(t, err, ErrName)
	nameless, err := r.Log("", nil)
	require.NoError(t, err)
	require.ErrorIs(t, nameless.Follow(t.Context(), 1, nil), ErrName)
}

// TestSetsThatNeverEndAreGivenUp feeds an assembler: parts of an old epoch may come late, but not for ever, and
// not without bound.
func TestSetsThatNeverEndAreGivenUp(t *testing.T) {
	var lost []Loss
	a := &assembler{lost: func(l Loss) { lost = append(lost, l) }}
	at := time.Now()
	n := uint64(0)
	feed := func(epoch, sequence uint64, index, count int, at time.Time) {
		n++
		m := subjects.EngineMessage{Epoch: epoch, Sequence: sequence, Kind: subjects.EngineRequestKind}
		h := nats.Header{}
		body := []byte("x")
		if count > 0 {
			m.Try, m.Index = 1, index
			h.Set(subjects.HeaderChunk, subjects.Chunk(index, count))
		} else {
			q, _ := call(epoch, sequence, 100)
			body = q.Encode()
		}
		h.Set(jetstream.MsgIDHeader, m.String())
		_, whole := a.take(stored{sequence: n, at: at, header: h, body: body})
		require.Equal(t, count == 0, whole)
	}
	feed(1, 1, 1, 2, at)
	feed(2, 1, 0, 0, at.Add(setPatience))
	require.Empty(t, lost, "its door may still be draining")
	feed(2, 2, 0, 0, at.Add(setPatience+time.Second))
	require.Len(t, lost, 1)
	require.Equal(t, Loss{Reason: LossParts, From: 1, To: 1, ID: subjects.EngineMessage{Epoch: 1, Sequence: 1, Kind: 'q'}}, lost[0])
	lost = nil
	for epoch := uint64(3); epoch < 3+2*maxSets; epoch++ {
		feed(epoch, 1, 1, 2, at)
		require.LessOrEqual(t, len(a.sets), maxSets)
	}
	require.Len(t, lost, maxSets)
	feed(100, 1, 2, 3, at) // its beginning was dropped
	feed(100, 1, 3, 3, at)
	require.Len(t, lost, maxSets+1, "a record is lost once")
}

// TestAnInterruptedLookForPartsIsNoBeginning recalls parts in two looks of which the first ended early.
func TestAnInterruptedLookForPartsIsNoBeginning(t *testing.T) {
	a := &assembler{lost: func(l Loss) { t.Error(l) }}
	q, _ := call(1, 1, 3000)
	body := q.Encode()
	third := len(body)/3 + 1
	part := func(i int) stored {
		id := subjects.EngineMessage{Epoch: 1, Sequence: 1, Kind: subjects.EngineRequestKind, Try: 1, Index: i}
		return stored{
			sequence: uint64(i), body: body[(i-1)*third : min(i*third, len(body))],
			header: nats.Header{jetstream.MsgIDHeader: {id.String()}, subjects.HeaderChunk: {subjects.Chunk(i, 3)}},
		}
	}
	id, ok := a.misses(part(3))
	require.True(t, ok)
	require.Equal(t, 2, a.lacks(id))
	a.recall(id, part(1))
	require.Equal(t, 1, a.lacks(id))
	a.forget(id)
	id, ok = a.misses(part(3))
	require.True(t, ok, "it is looked for again")
	for i := 1; i <= 3; i++ {
		a.recall(id, part(i)) // its own is not taken twice
	}
	require.Zero(t, a.lacks(id))
	e, ok := a.take(part(3))
	require.True(t, ok)
	require.Equal(t, q.Raw, e.Request.Raw)
}

func FuzzAssembler(f *testing.F) {
	q, _ := call(1, 2, 200)
	f.Add("1.2.q", "", q.Encode(), "1.2.q.1.1", "1/2", []byte("x"))
	f.Add("1.2.q.1.1", "1/2", q.Encode()[:50], "1.2.q.1.2", "2/2", q.Encode()[50:])
	f.Add("", "1/1", []byte{}, "1.2.o", "9/9", []byte{1})
	f.Fuzz(func(t *testing.T, id1, chunk1 string, body1 []byte, id2, chunk2 string, body2 []byte) {
		a := &assembler{lost: func(l Loss) { require.NotEqual(t, "unknown", l.Reason.String()) }}
		for i, m := range []struct {
			id, chunk string
			body      []byte
		}{{id1, chunk1, body1}, {id2, chunk2, body2}} {
			h := nats.Header{}
			h.Set(jetstream.MsgIDHeader, m.id)
			h.Set(subjects.HeaderChunk, m.chunk)
			if e, ok := a.take(stored{sequence: uint64(i + 1), header: h, body: m.body}); ok {
				require.NotEqual(t, e.Request == nil, e.Outcome == nil)
				require.EqualValues(t, i+1, e.Stream)
			}
		}
	})
}
