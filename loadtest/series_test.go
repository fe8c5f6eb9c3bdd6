package loadtest

import (
	"os"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
)

func TestSeriesCountsWhatHappenedWhen(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	result := func(seq uint64, sent, done int, a Answer) Result {
		return Result{Tag: tagged(seq), Answer: a, Sent: at(sent), Done: at(done), Latency: at(done).Sub(at(sent))}
	}
	results := []Result{
		result(1, 0, 10, AnswerAccepted),
		result(2, 240, 260, AnswerAccepted), // answered in the next interval
		result(3, 300, 310, AnswerShed),
		result(4, 510, 520, AnswerRefused),
		result(5, 520, 530, AnswerUnknown),
	}
	seen := map[Tag]time.Time{tagged(1): at(30), tagged(2): at(990)} // the second a second late
	s := newSeries(results, seen, start, 600*time.Millisecond)
	require.InDelta(t, 0.33, s.Step, 0.01, "three intervals up to the last receipt")
	per := 1 / s.Step
	require.InDeltaSlice(t, []float64{3 * per, 2 * per, 0}, s.Sent, 1e-6)
	require.InDeltaSlice(t, []float64{2 * per, 0, 0}, s.Accepted, 1e-6)
	require.InDeltaSlice(t, []float64{1 * per, 0, 1 * per}, s.Delivered, 1e-6)
	require.InDeltaSlice(t, []float64{1 * per, 0, 0}, s.Shed, 1e-6)
	require.InDeltaSlice(t, []float64{0, 1 * per, 0}, s.Refused, 1e-6)
	require.InDeltaSlice(t, []float64{0, 1 * per, 0}, s.Failed, 1e-6)
	require.InDeltaSlice(t, []float64{30_000, 0, 750_000}, s.P50, 1e-6)
	require.Equal(t, s.P50, s.P99)
}

func TestSeriesIsBounded(t *testing.T) {
	n, step := steps(time.Hour)
	require.Equal(t, seriesPoints, n)
	require.Equal(t, 30*time.Second, step)
	n, step = steps(0)
	require.Equal(t, 1, n)
	require.Positive(t, step)
}

func TestSamplerTurnsTimesIntoCores(t *testing.T) {
	start := time.Unix(1000, 0)
	s := &sampler{}
	for i := range 5 {
		u := usageSample{at: start.Add(time.Duration(i) * time.Second)}
		u.watch = Usage{CPU: time.Duration(i) * 500 * time.Millisecond, RSS: int64(i) << 20}
		u.own = Usage{CPU: time.Duration(i) * 100 * time.Millisecond}
		s.samples = append(s.samples, u)
	}
	u := s.series(start.Add(2500 * time.Millisecond))
	require.InDeltaSlice(t, []float64{1, 2, 3}, u.Seconds, 1e-9, "one look beyond the end")
	require.InDeltaSlice(t, []float64{.5, .5, .5}, u.Cores, 1e-9)
	require.InDeltaSlice(t, []float64{.1, .1, .1}, u.GeneratorCPU, 1e-9)
	require.Equal(t, int64(3<<20), u.RSS[2])
	require.Equal(t, start.Add(2*time.Second), s.until(start.Add(1500*time.Millisecond)).at)
	require.Equal(t, start.Add(4*time.Second), s.until(start.Add(time.Hour)).at)
}

func TestSamplerLooksAtItself(t *testing.T) {
	s := &sampler{pids: []int{os.Getpid()}}
	require.NoError(t, s.take())
	require.Equal(t, s.first().watch.RSS > 0, s.first().own.RSS > 0)
}

func TestCurveHasAsManyNinesAsThereAreOrders(t *testing.T) {
	h := newHistogram()
	require.Empty(t, curve(h))
	for i := range 1000 {
		record(h, time.Duration(i+1)*time.Microsecond)
	}
	c := curve(h)
	require.Equal(t, Quantile{0, h.ValueAtQuantile(0)}, c[0])
	require.Equal(t, Quantile{100, 1000}, c[len(c)-1])
	require.InDelta(t, 99.9, c[len(c)-2].Percent, 1e-9)
	for i, q := range c[1:] {
		require.Greater(t, q.Percent, c[i].Percent)
		require.GreaterOrEqual(t, q.Value, c[i].Value)
	}
	one := hdrhistogram.New(1, 1000, 3)
	require.NoError(t, one.RecordValue(7))
	require.Equal(t, []Quantile{{0, 7}, {100, 7}}, curve(one))
}

func TestRepeatsOfTheLastSecondsAreCounted(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	rs := []Result{
		{Tag: tagged(1), Sent: at(0), Attempts: 1, Txs: 1},
		{Tag: tagged(2), Sent: at(30), Attempts: 1, Txs: 2, Repeats: 1, Sources: []uint64{1}},   // 30 s
		{Tag: tagged(3), Sent: at(60), Attempts: 1, Txs: 2, Repeats: 1, Sources: []uint64{1}},   // 30 s since the repeat
		{Tag: tagged(4), Sent: at(100), Attempts: 1, Txs: 2, Repeats: 1, Sources: []uint64{1}},  // 40 s
		{Tag: tagged(5), Sent: at(101), Attempts: 1, Txs: 2, Repeats: 1, Sources: []uint64{99}}, // never sent
		{Tag: tagged(6), Sent: at(102), Txs: 1},                                                 // not written
		{Tag: tagged(7), Sent: at(103), Attempts: 1, Txs: 2, Repeats: 1, Sources: []uint64{6}},
	}
	require.Equal(t, 2, recentRepeats(0, rs))
	f := Summarize([]string{"a"}, rs, nil).Flows[0]
	require.InDelta(t, 2.0/12, f.Recent, 1e-9)
	require.InDelta(t, 5.0/12, f.Repeats, 1e-9)
}

func TestGeneratorSaysWhyFiguresMayBeItsOwn(t *testing.T) {
	rep := &Report{Elapsed: 10 * time.Second, Flows: []FlowReport{{Rate: 500}}}
	flows := []Flow{{Rate: 500}}
	quiet := Generator{}
	quiet.judge(flows, rep)
	require.Empty(t, quiet.Warnings)

	starved := Generator{Starved: Starvation{Orders: 7, Shift: time.Second}}
	starved.judge(flows, rep)
	require.Len(t, starved.Warnings, 1)
	require.Contains(t, starved.Warnings[0], "bottleneck")

	busy := Generator{Cores: 1e6}
	busy.judge(flows, rep)
	require.Contains(t, busy.Warnings[0], "cores")

	rep.Flows[0] = FlowReport{Name: "a", Rate: 300, Wakeup: Latency{P99: 5000}}
	late := Generator{}
	late.judge(flows, rep)
	require.Len(t, late.Warnings, 2)
	require.Contains(t, late.Warnings[0], "woke up late")
	require.Contains(t, late.Warnings[1], "connections were free")

	rep.Flows[0] = FlowReport{Rate: 300, Queued: 100}
	behind := Generator{}
	behind.judge(flows, rep)
	require.Empty(t, behind.Warnings, "that the door fell behind is a result")
}
