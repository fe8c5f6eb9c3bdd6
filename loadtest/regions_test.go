package loadtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/loadtest/regions"
)

// regionFake is a node in a few lines: what comes in at its door goes to its own builder and to each
// peer, again with the mark until somebody took it; what a peer sends goes to its own builder.
type regionFake struct {
	door, peer *httptest.Server
	sink       *Sink
	client     *http.Client
	builder    string
	peers      []string // addresses that the network gives for them

	ctx   context.Context // of the test
	going sync.WaitGroup
	lose  atomic.Bool // give orders to the own builder only
}

func newRegionFake(t *testing.T) *regionFake {
	t.Helper()
	f := &regionFake{client: &http.Client{Transport: &http.Transport{}}, ctx: t.Context()}
	f.sink, f.builder = startSink(t)
	f.door = httptest.NewServer(http.HandlerFunc(f.serveDoor))
	f.peer = httptest.NewServer(http.HandlerFunc(f.servePeer))
	t.Cleanup(func() {
		f.door.Close()
		f.going.Wait()
		f.peer.Close()
		f.client.CloseIdleConnections()
	})
	return f
}

func (f *regionFake) serveDoor(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.give(f.builder, body)
	for _, p := range f.peers {
		if !f.lose.Load() {
			f.give("http://"+p, body)
		}
	}
	_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"bundleHash":"0x`+strings.Repeat("0", 64)+`"}}`)
}

func (f *regionFake) servePeer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || !f.send(f.builder, body, r.Header.Get(RepeatHeader)) {
		w.WriteHeader(http.StatusBadGateway)
	}
}

func (f *regionFake) give(url string, body []byte) {
	f.going.Go(func() {
		for mark := ""; f.ctx.Err() == nil && !f.send(url, body, mark); mark = "1" {
		}
	})
}

func (f *regionFake) send(url string, body []byte, mark string) bool {
	req, err := http.NewRequestWithContext(f.ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false
	}
	if mark != "" {
		req.Header.Set(RepeatHeader, mark)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// regionTest is two fake nodes with a network between them.
type regionTest struct {
	RegionsConfig
	a, b *regionFake
}

func newRegionTest(t *testing.T, delay time.Duration) *regionTest {
	t.Helper()
	top := regions.Topology{
		Name: "test", Regions: map[string]regions.Conditions{"a": {}, "b": {}}, Nodes: map[string]string{"a": "a", "b": "b"},
		Links: []regions.Line{{Between: []string{"a", "b"}, Conditions: regions.Conditions{Delay: delay, Bandwidth: 1e9}}},
	}
	r := &regionTest{a: newRegionFake(t), b: newRegionFake(t)}
	network, err := regions.New(top, map[string]string{"a": r.a.peer.Listener.Addr().String(), "b": r.b.peer.Listener.Addr().String()})
	require.NoError(t, err)
	require.NoError(t, network.Bind(t.Context(), nil))
	r.a.peers = []string{network.Addr(regions.Pair{From: "a", To: "b"})}
	r.b.peers = []string{network.Addr(regions.Pair{From: "b", To: "a"})}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- network.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	r.RegionsConfig = RegionsConfig{
		Topology: top, Network: network, Settle: timeout,
		Nodes: map[string]RegionNode{"a": {Door: r.a.door.URL, Sink: r.a.sink, PID: self()[0]}, "b": {Door: r.b.door.URL, Sink: r.b.sink}},
		Flow:  Flow{Rate: 100, Duration: 500 * time.Millisecond, Connections: 2, Preload: 200, Corpus: CorpusConfig{Seed: 1, Mix: Only(ShapeBundle)}},
	}
	return r
}

func TestOrdersOfEachDoorAreLookedForAtEachBuilder(t *testing.T) {
	const delay = 30 * time.Millisecond
	r := newRegionTest(t, delay)
	rep, err := RunRegions(t.Context(), r.RegionsConfig)
	require.NoError(t, err)
	require.NoError(t, rep.Err())
	require.Len(t, rep.Doors, 2)
	require.Len(t, rep.Links, 4)
	for _, l := range rep.Links {
		require.Equal(t, 25, l.Accepted, l.name())
		require.Equal(t, 25, l.Delivered, l.name())
		require.Equal(t, int64(25), l.Orders.Count)
		if !l.crosses() {
			require.Zero(t, l.Echo.Count)
			continue
		}
		low := delay.Microseconds() * 999 / 1000 // the histogram has three digits
		require.GreaterOrEqual(t, l.Orders.P50, low, l.name())
		require.Positive(t, l.Echo.Count)
		require.GreaterOrEqual(t, l.Echo.P50, low)
		require.GreaterOrEqual(t, l.RoundTrip.P50, 2*low)
		require.Equal(t, l.Orders.P99-l.Echo.P99, l.Beyond.P99)
		require.Positive(t, l.Connections)
		require.Zero(t, l.Resets)
		require.Greater(t, l.Bytes, int64(25*400))
		require.Positive(t, l.Bandwidth)
		require.Equal(t, delay, l.Conditions.Delay)
	}
	require.Positive(t, rep.Generator.CPU)
	require.Positive(t, rep.PeakRSS)
	require.InDelta(t, 100, rep.Setup.Rate, 1e-9)
}

func TestWhatHappensOnTheWayIsCountedAndTold(t *testing.T) {
	r := newRegionTest(t, time.Millisecond)
	r.Topology.Orders.At = []string{"a"}
	var err error
	r.Scenario, err = regions.ParseScenario([]byte(`
name: bad
steps:
  - {at: 300ms, do: partition, between: [a, b], for: 400ms}
  - {at: 750ms, do: reset, from: a, to: b}
  - {at: 760ms, do: restart, node: b}
`))
	require.NoError(t, err)
	r.Flow.Duration = time.Second
	r.Hooks.Restart = func(context.Context, string) error { return errors.New("no such process") }
	rep, err := RunRegions(t.Context(), r.RegionsConfig)
	require.NoError(t, err)
	require.Len(t, rep.Links, 2)
	far := rep.Links[1]
	require.Equal(t, "a > b", far.name())
	require.Equal(t, far.Accepted, far.Delivered)
	require.GreaterOrEqual(t, far.Orders.Max, (100 * time.Millisecond).Microseconds()) // held by the partition
	require.GreaterOrEqual(t, far.Echo.Max, (100 * time.Millisecond).Microseconds())
	require.Positive(t, far.Resets)
	require.Len(t, rep.Events, 4)
	var b strings.Builder
	require.NoError(t, rep.WriteTable(&b))
	for _, want := range []string{"beyond the echo", "partition a>b b>a", "restart b, which failed: no such process", "of which links"} {
		require.Contains(t, b.String(), want)
	}
}

func TestOrdersThatAPeerNeverGetsAreLost(t *testing.T) {
	r := newRegionTest(t, 0)
	r.a.lose.Store(true)
	r.Settle = time.Millisecond
	rep, err := RunRegions(t.Context(), r.RegionsConfig)
	require.NoError(t, err)
	require.ErrorIs(t, rep.Err(), ErrViolations)
	require.Equal(t, 25, rep.lost())
	require.Equal(t, "bad", rep.judgement().Class)
}

func TestSecondDeliveriesAreDuplicatesUnlessMarked(t *testing.T) {
	var l LinkReport
	l.countRepeats([]Receipt{
		{Tag: tagged(1), Status: 500}, {Tag: tagged(1), Status: 200}, // the first was not taken
		{Tag: tagged(2), Status: 200}, {Tag: tagged(2), Status: 200}, {Tag: tagged(2), Status: 200, Repeat: true},
	})
	require.Equal(t, 1, l.Duplicates)
	require.Equal(t, 1, l.Repeats)
}

func TestRegionsNeedDoorsAndStepsThatFit(t *testing.T) {
	top, err := regions.Load("two-regions")
	require.NoError(t, err)
	_, err = RunRegions(t.Context(), RegionsConfig{Topology: top})
	require.ErrorIs(t, err, ErrConfig)
	_, err = RunRegions(t.Context(), RegionsConfig{Topology: top, Scenario: regions.Scenario{Steps: []regions.Step{{}}}})
	require.ErrorIs(t, err, ErrConfig)
}

func TestRegionsOfABrokenOffRunHaveNoReport(t *testing.T) {
	r := newRegionTest(t, 0)
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	r.Flow.Duration = time.Hour
	_, err := RunRegions(ctx, r.RegionsConfig)
	require.Error(t, err)
}
