package loadtest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	timeout = 20 * time.Second
	tick    = 2 * time.Millisecond
)

func runFlow(t *testing.T, f Flow) []Result {
	t.Helper()
	j := &Journal{}
	s, err := NewSender(f, j)
	require.NoError(t, err)
	require.NoError(t, s.Prepare(t.Context()))
	require.NoError(t, s.Run(t.Context()))
	return j.Results()
}

func TestClosedLoopSendsEachOrderOnce(t *testing.T) {
	sink, url := startSink(t)
	d := newFakeDoor(t, url)
	rs := runFlow(t, Flow{URLs: []string{d.door.URL}, Count: 200, Connections: 8, Preload: 50, Corpus: CorpusConfig{Seed: 1}})
	require.Len(t, rs, 200)
	seen := map[uint64]bool{}
	for _, r := range rs {
		require.Equal(t, AnswerAccepted, r.Answer, r.Reason)
		require.Equal(t, 1, r.Attempts)
		require.Equal(t, r.Intended, r.Sent)
		require.NotZero(t, r.Hash)
		require.Equal(t, int64(1700000000000500), r.Received.UnixMicro())
		seen[r.Tag.Seq] = true
	}
	require.Len(t, seen, 200)
	require.Eventually(t, func() bool { return sink.Taken() == 200 }, timeout, tick)
}

// A single connection to a door that takes longer than the spacing falls behind: the wait counts.
func TestOpenLoopCountsTheWaitForAConnection(t *testing.T) {
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		pause(req.Context(), 5*time.Millisecond)
		_, _ = w.Write([]byte(`{"result":null}`))
	}))
	defer door.Close()
	rs := runFlow(t, Flow{URLs: []string{door.URL}, Rate: 1000, Count: 20, Connections: 1, Corpus: CorpusConfig{Seed: 1, Mix: Only(ShapeCancel)}})
	require.Len(t, rs, 20)
	for i, r := range rs {
		if i > 0 {
			require.Equal(t, r.Done.Sub(r.Intended), r.Latency)
			require.InDelta(t, time.Millisecond, r.Intended.Sub(rs[i-1].Intended), float64(time.Microsecond))
		}
	}
}

// With a free connection a late timer is the generator's fault, not the door's.
func TestOpenLoopDoesNotCountItsOwnLateness(t *testing.T) {
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"result":null}`))
	}))
	defer door.Close()
	rs := runFlow(t, Flow{URLs: []string{door.URL}, Rate: 50, Spacing: SpacingPoisson, Duration: 200 * time.Millisecond, Connections: 8, Corpus: CorpusConfig{Seed: 1}})
	require.NotEmpty(t, rs)
	for _, r := range rs[1:] {
		if r.Latency != r.Done.Sub(r.Sent) {
			require.Equal(t, r.Done.Sub(r.Intended), r.Latency)
		}
	}
}

func TestEachKindOfAnswerIsToldApart(t *testing.T) {
	_, url := startSink(t)
	d := newFakeDoor(t, url)
	d.fault = func(tag Tag) fault {
		switch tag.Seq % 5 {
		case 1:
			return fault{status: 429}
		case 2:
			return fault{refuse: true}
		case 3:
			return fault{abort: true}
		case 4:
			return fault{status: 500}
		}
		return fault{}
	}
	rs := runFlow(t, Flow{URLs: []string{d.door.URL}, Count: 50, Connections: 4, Corpus: CorpusConfig{Seed: 1}})
	want := []Answer{AnswerAccepted, AnswerShed, AnswerRefused, AnswerUnknown, AnswerError}
	for _, r := range rs {
		require.Equal(t, want[r.Tag.Seq%5], r.Answer, r.Reason)
		require.Equal(t, r.Answer == AnswerShed || r.Status == 500, r.RetryAfter)
	}
}

func TestADoorThatIsNotThereLeavesOrdersUnsent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	rs := runFlow(t, Flow{URLs: []string{"http://" + ln.Addr().String()}, Count: 3, Connections: 1, Resend: 1, Corpus: CorpusConfig{Seed: 1}})
	for _, r := range rs {
		require.Equal(t, AnswerUnsent, r.Answer)
		require.Zero(t, r.Attempts)
	}
}

func TestACarefulSenderSendsAgainUntilItKnows(t *testing.T) {
	_, url := startSink(t)
	d := newFakeDoor(t, url)
	var calls atomic.Int64
	d.fault = func(Tag) fault {
		if calls.Add(1)%2 == 1 {
			return fault{abort: true}
		}
		return fault{}
	}
	rs := runFlow(t, Flow{URLs: []string{d.door.URL}, Count: 5, Connections: 1, Resend: 3, ResendPause: time.Millisecond, Corpus: CorpusConfig{Seed: 1}})
	for _, r := range rs {
		require.Equal(t, AnswerAccepted, r.Answer)
		require.Equal(t, 2, r.Attempts)
		require.True(t, r.MayRepeat)
	}
}

func TestAFlowThatCannotRunIsRefused(t *testing.T) {
	for name, f := range map[string]Flow{
		"no door":     {},
		"a bad door":  {URLs: []string{"ftp://x:1"}},
		"no port":     {URLs: []string{"http://127.0.0.1"}},
		"a bad rate":  {URLs: []string{"http://127.0.0.1:1"}, Rate: -1},
		"a bad mix":   {URLs: []string{"http://127.0.0.1:1"}, Corpus: CorpusConfig{Mix: Mix{}}},
		"connections": {URLs: []string{"http://127.0.0.1:1"}, Connections: -1},
	} {
		_, err := NewSender(f, &Journal{})
		require.ErrorIs(t, err, ErrConfig, name)
	}
}
