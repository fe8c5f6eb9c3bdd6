package enginelog

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
	"millrace/internal/natstest"
	"millrace/subjects"
)

// TestMain forgives the server two goroutines: a member of a cluster that is stopped while it makes a store
// leaves it open (v2.15.2), and with it the clock that stores share.
func TestMain(m *testing.M) {
	natstest.SideBySide()
	const server = "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(server+".(*stream).trySetupSourceConsumer.func3"),
		goleak.IgnoreTopFunction(server+".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction(server+"/ats.Register.func1"))
}

const (
	soon = 30 * time.Second // bound of what should take milliseconds, on a busy machine
	tick = 5 * time.Millisecond
)

// testPort is the bus of a process, on connections as internal/bus makes them.
type testPort struct {
	record, replay *nats.Conn
	state          jetstream.JetStream
}

func (p *testPort) EngineRecord() (*nats.Conn, error)         { return p.record, nil }
func (p *testPort) EngineReplay() (*nats.Conn, error)         { return p.replay, nil }
func (p *testPort) EngineState() (jetstream.JetStream, error) { return p.state, nil }

func port(tb testing.TB, s *natstest.Server) *testPort {
	tb.Helper()
	state, err := jetstream.New(s.Connect(tb, nats.ReconnectBufSize(-1)), jetstream.WithDefaultTimeout(ackTimeout))
	require.NoError(tb, err)
	return &testPort{record: s.Connect(tb, nats.ReconnectBufSize(-1)), replay: s.Connect(tb), state: state}
}

func topology() subjects.Options {
	return subjects.Options{
		MaxAge: 36 * time.Second, MaxBody: 1 << 20, EngineMaxAge: 24 * time.Hour, EngineMaxBytes: 256 << 20, LedgerMaxAge: 24 * time.Hour,
	}
}

// furnish makes the engine's streams and buckets, changed if the test wants them so.
func furnish(tb testing.TB, s *natstest.Server, change ...func(*jetstream.StreamConfig)) jetstream.JetStream {
	tb.Helper()
	js := s.JetStream(tb)
	for _, c := range subjects.Streams(topology()) {
		if c.Name != subjects.StreamEngine && c.Name != subjects.StreamDivergence {
			continue
		}
		for _, f := range change {
			f(&c)
		}
		_, err := js.CreateOrUpdateStream(tb.Context(), c)
		require.NoError(tb, err)
	}
	for _, k := range subjects.Buckets(topology()) {
		if k.Bucket == subjects.BucketEngine || k.Bucket == subjects.BucketLeases {
			_, err := js.CreateOrUpdateKeyValue(tb.Context(), k)
			require.NoError(tb, err)
		}
	}
	return js
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// testRecorder runs a recorder until stop is called, or the test ends.
type testRecorder struct {
	*Recorder
	stop func()
}

func run(tb testing.TB, b Bus, dir string, change ...func(*Config)) *testRecorder {
	tb.Helper()
	cfg := Config{SpoolDir: dir, SpoolMax: 64 << 20}
	for _, f := range change {
		f(&cfg)
	}
	return runWith(tb, b, cfg, func(*Recorder) {})
}

// runWith is run with any change.
func runWith(tb testing.TB, b Bus, cfg Config, change func(*Recorder)) *testRecorder {
	tb.Helper()
	r, err := New(cfg, b, quiet(), prometheus.NewRegistry())
	require.NoError(tb, err)
	change(r)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	t := &testRecorder{Recorder: r}
	t.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			require.NoError(tb, err)
		case <-time.After(soon):
			require.Fail(tb, "the recorder did not return")
		}
	}
	tb.Cleanup(t.stop)
	return t
}

func spoolDir(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "spool")
}

// call is a request of the given size, and its outcome.
func call(epoch, sequence uint64, size int) (*record.Request, *record.Outcome) {
	raw := []byte(`{"jsonrpc":"2.0","id":1,"method":"engine_newPayloadV4","params":["`)
	noise := make([]byte, max(0, size-len(raw))*5/8+5)
	_, _ = rand.Read(noise)
	raw = base32.StdEncoding.AppendEncode(raw, noise)
	raw = append(raw, `"]}`...)
	id := record.ID{Epoch: epoch, Sequence: sequence}
	return &record.Request{
			ID: id, Received: time.Now().UTC(), Method: "engine_newPayloadV4", Class: engineapi.ClassReplay, Verified: true, Raw: raw,
		}, &record.Outcome{
			ID: id, Method: "engine_newPayloadV4", HTTPStatus: 200, Duration: time.Millisecond, Size: 77, Eligible: true,
			Result: engineapi.Result{HTTPStatus: 200, Status: engineapi.StatusValid},
		}
}

// say records calls from one sequence to another.
func say(r *testRecorder, epoch, from, to uint64) {
	for n := from; n <= to; n++ {
		q, o := call(epoch, n, 300)
		r.Request(q)
		r.Outcome(o)
	}
}

// told is the ids of what a log holds from a sequence on, each with q or o.
func told(tb testing.TB, b Bus, from uint64) (ids []string) {
	tb.Helper()
	for _, e := range entries(tb, b, from) {
		ids = append(ids, name(e))
	}
	return ids
}

func entries(tb testing.TB, b Bus, from uint64) (all []record.Entry) {
	tb.Helper()
	l, err := NewReader(b, quiet(), prometheus.NewRegistry()).Log("", nil)
	require.NoError(tb, err)
	require.NoError(tb, l.Read(tb.Context(), from, func(e record.Entry) error {
		all = append(all, e)
		return nil
	}))
	return all
}

func name(e record.Entry) string {
	if e.Request != nil {
		return e.ID().String() + ".q"
	}
	return e.ID().String() + ".o"
}

// names are the ids of calls from one sequence to another, as say records them.
func names(epoch, from, to uint64) (ids []string) {
	for n := from; n <= to; n++ {
		id := record.ID{Epoch: epoch, Sequence: n}
		ids = append(ids, id.String()+".q", id.String()+".o")
	}
	return ids
}

func (r *testRecorder) unstored() int { return int(testutil.ToFloat64(r.m.unstored)) }

// settled waits until everything that was recorded is stored.
func (r *testRecorder) settled(tb testing.TB, records int) {
	tb.Helper()
	require.Eventually(tb, func() bool { return r.stored() >= records }, soon, tick, "%d records", records)
}

func (r *testRecorder) stored() (n int) {
	for _, c := range r.m.stored {
		n += int(testutil.ToFloat64(c))
	}
	return n
}

// lost is what was lost, by reason.
func (r *testRecorder) lost() map[string]int {
	all := make(map[string]int)
	for reason, c := range r.m.lost {
		if n := int(testutil.ToFloat64(c)); n > 0 {
			all[reason] = n
		}
	}
	return all
}

func state(tb testing.TB, js jetstream.JetStream) jetstream.StreamState {
	tb.Helper()
	s, err := js.Stream(tb.Context(), subjects.StreamEngine)
	require.NoError(tb, err)
	return s.CachedInfo().State
}
