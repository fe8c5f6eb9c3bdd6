package loadtest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// contenders are two fake doors with a sink each.
func contenders(t *testing.T) ([]Contender, map[string]*fakeDoor) {
	t.Helper()
	doors := map[string]*fakeDoor{}
	var cs []Contender
	for _, name := range []string{"a", "b"} {
		sink, url := startSink(t)
		d := newFakeDoor(t, url)
		doors[name] = d
		cs = append(cs, Contender{Name: name, URLs: []string{d.door.URL}, Sink: sink, Target: "builder", PIDs: self()})
	}
	return cs, doors
}

func TestCompareMeasuresInTurn(t *testing.T) {
	cs, doors := contenders(t)
	n := &notes{}
	c, err := Compare(t.Context(), CompareConfig{
		Contenders: cs, Pairs: 2, Warmup: 20 * time.Millisecond, Settle: time.Second, Notes: n,
		Flow: Flow{Rate: 1000, Count: 20, Connections: 2, Corpus: CorpusConfig{Seed: 1, Mix: Only(ShapeBundle)}},
	})
	require.NoError(t, err)
	require.Equal(t, "b", c.Base)
	var turns []string
	for _, l := range c.Legs {
		turns = append(turns, l.Target)
		require.Equal(t, 20, l.Report.Flows[0].Sent)
		require.NoError(t, l.Report.Check.Err())
		require.Equal(t, 20, l.Report.Check.Taken)
	}
	require.Equal(t, []string{"a", "b", "a", "b"}, turns)
	require.Equal(t, []int{1, 1, 2, 2}, []int{c.Legs[0].Pair, c.Legs[1].Pair, c.Legs[2].Pair, c.Legs[3].Pair})
	require.NotZero(t, find(t, c.Ratios, "wire to wire p50").Median)
	require.Len(t, find(t, c.Ratios, "answer p50").Pairs, 2)
	require.Len(t, n.all(), 6)
	for _, d := range doors {
		hashes := map[string]bool{}
		for _, r := range d.records {
			require.False(t, hashes[r.Hash.Hex()], "an order is never sent twice to the same target")
			hashes[r.Hash.Hex()] = true
		}
	}
}

func TestComparePassesALosingTarget(t *testing.T) {
	cs, doors := contenders(t)
	doors["b"].fault = func(tag Tag) fault { return fault{lose: tag.Seq%2 == 0} }
	c, err := Compare(t.Context(), CompareConfig{
		Contenders: cs, Pairs: 1, Settle: 10 * time.Millisecond,
		Flow: Flow{Rate: 1000, Count: 10, Connections: 1, Corpus: CorpusConfig{Seed: 1, Mix: Only(ShapeBundle)}},
	})
	require.NoError(t, err)
	require.Zero(t, c.Legs[0].Report.lost())
	require.Equal(t, 5, c.Legs[1].Report.lost())
	require.Equal(t, verdict{"bad", "a lost 0, b lost 5"}, c.judgement())
}

func TestCompareRefusesNonsense(t *testing.T) {
	one := Contender{Name: "a", URLs: []string{"127.0.0.1:1"}}
	two := Contender{Name: "b", URLs: []string{"127.0.0.1:1"}}
	for name, cfg := range map[string]CompareConfig{
		"nobody":      {Pairs: 1},
		"one alone":   {Pairs: 1, Contenders: []Contender{one}},
		"the same":    {Pairs: 1, Contenders: []Contender{one, one}},
		"no pair":     {Contenders: []Contender{one, two}},
		"other base":  {Pairs: 1, Contenders: []Contender{one, two}, Base: "c"},
		"without URL": {Pairs: 1, Contenders: []Contender{one, {Name: "b"}}},
	} {
		_, err := Compare(t.Context(), cfg)
		require.ErrorIs(t, err, ErrConfig, name)
	}
}

func TestSweepMeasuresEveryPoint(t *testing.T) {
	cs, _ := contenders(t)
	s, err := RunSweep(t.Context(), SweepConfig{
		CompareConfig: CompareConfig{Contenders: cs, Settle: time.Second, Flow: Flow{Rate: 1000, Count: 5, Connections: 1, Corpus: CorpusConfig{Seed: 1}}},
		Variable:      VariableSize, Values: []float64{2000, 50_000},
	})
	require.NoError(t, err)
	require.Len(t, s.Points, 2)
	for _, p := range s.Points {
		require.Len(t, p.Legs, 2)
		for _, l := range p.Legs {
			require.InEpsilon(t, p.Value, float64(l.Report.Flows[0].Bytes)/5, 0.35)
			require.Nil(t, l.Report.Series)
		}
	}
	require.Nil(t, s.Saturation)
}

func TestRampEndsWhereTheDoorDoesNotKeepUp(t *testing.T) {
	cs, doors := contenders(t)
	doors["b"].fault = func(tag Tag) fault {
		if tag.Seq%3 == 0 {
			return fault{status: 429}
		}
		return fault{}
	}
	s, err := RunSweep(t.Context(), SweepConfig{
		CompareConfig: CompareConfig{Contenders: cs, Settle: time.Second, Flow: Flow{Duration: 100 * time.Millisecond, Connections: 4, Corpus: CorpusConfig{Seed: 1}}},
		Variable:      VariableRate, Values: []float64{50, 60, 70, 80},
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(s.Points), 2)
	for i, p := range s.Points { // how far a gets is up to the machine
		require.Equal(t, i < 2, p.Legs[len(p.Legs)-1].Target == "b", "b is out after two")
	}
	require.InDelta(t, 50, s.Saturation["b"].Broke, 1e-9)
	require.Zero(t, s.Saturation["b"].Kept)
	require.Positive(t, s.Saturation["a"].Peak)
}

func TestSaturationIsBelowTheFirstRateThatBroke(t *testing.T) {
	point := func(rate, sent float64, shed int) SweepPoint {
		f := FlowReport{Sent: 100 + shed, Rate: sent, Answers: map[string]int{"accepted": 98, "refused": 2, "shed": shed}}
		return SweepPoint{Value: rate, Legs: []Leg{{Target: "a", Report: &Report{Elapsed: time.Second, Flows: []FlowReport{f}}}}}
	}
	s := &Sweep{Variable: VariableRate, Targets: []string{"a"}, Points: []SweepPoint{point(100, 99.5, 0), point(200, 200, 0), point(300, 250, 0), point(400, 400, 1), point(500, 500, 0)}}
	s.saturate()
	require.Equal(t, Saturation{Kept: 200, Peak: 98, Broke: 300}, s.Saturation["a"])
	require.False(t, s.broken("a"))
	s.Points = s.Points[:4]
	require.True(t, s.broken("a"))
	require.True(t, s.broken("b"), "who was left out stays out")
}

func TestCompareCommandWritesEverything(t *testing.T) {
	_, doors := contenders(t)
	dir := t.TempDir()
	c := CompareCommand{
		Load:   Load{Rate: 500, Duration: 30 * time.Millisecond, Connections: 2, Preload: -1, Settle: 5 * time.Millisecond},
		Output: Output{HTML: filepath.Join(dir, "page.html"), Save: filepath.Join(dir, "report.json")},
		Target: []Named{{"a", doors["a"].door.URL}, {"b", doors["b"].door.URL}},
		Sink:   []Named{{"a", "127.0.0.1:0"}}, PID: []Named{{"a", "1"}}, Pairs: 1,
	}
	var out bytes.Buffer
	require.NoError(t, c.Run(t.Context(), &out))
	require.Contains(t, out.String(), "median of ratios")
	page, err := os.ReadFile(c.HTML)
	require.NoError(t, err)
	require.Contains(t, string(page), "a against b")

	out.Reset()
	again := ReportCommand{File: c.Save, HTML: filepath.Join(dir, "again.html"), SVG: filepath.Join(dir, "plots"), JSON: true}
	require.NoError(t, again.Run(&out))
	second, err := os.ReadFile(again.HTML)
	require.NoError(t, err)
	require.Equal(t, string(page), string(second), "a saved report makes the same page")
	require.FileExists(t, filepath.Join(dir, "plots", "ratios-1.svg"))
	require.Error(t, (&ReportCommand{File: filepath.Join(dir, "none")}).Run(&out))

	c.Sweep = &Sweeping{}
	require.NoError(t, c.Sweep.UnmarshalText([]byte("rate=100,200")))
	out.Reset()
	require.NoError(t, c.Run(t.Context(), &out))
	require.Contains(t, out.String(), "kept up with")

	for _, bad := range []CompareCommand{
		{Target: c.Target, Sink: []Named{{"c", "127.0.0.1:0"}}},
		{Target: c.Target, PID: []Named{{"a", "x"}}},
		{Target: c.Target[:1]},
	} {
		require.ErrorIs(t, bad.Run(t.Context(), &out), ErrConfig)
	}
}

func TestCommandRampsAndSweeps(t *testing.T) {
	_, doors := contenders(t)
	ramp, sweep := &Range{Values: []float64{100, 200}}, &Sweeping{Variable: VariableConnections, Range: Range{Values: []float64{1, 3}}}
	c := Command{Load: Load{Duration: 30 * time.Millisecond, Connections: 2, Rate: 100}, URL: []string{doors["a"].door.URL}, Ramp: ramp}
	var out bytes.Buffer
	require.NoError(t, c.Run(t.Context(), &out))
	require.Contains(t, out.String(), "load kept up with")
	c.Sweep = sweep
	require.ErrorIs(t, c.Run(t.Context(), &out), ErrConfig)
	c.Ramp = nil
	out.Reset()
	require.NoError(t, c.Run(t.Context(), &out))
	require.Contains(t, out.String(), "connections")
}
