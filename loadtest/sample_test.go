package loadtest

import (
	"math"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/loadtest/regions"
)

// sampleReport is a report in which every field has a value.
func sampleReport(rate float64, slower float64) *Report {
	start := time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC)
	var results []Result
	var receipts []Receipt
	const n = 1200
	for i := range n {
		sent := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		took := time.Duration((400 + 200*math.Sin(float64(i)) + 20_000*math.Pow(float64(i%997)/997, 40)) * slower * float64(time.Microsecond))
		r := Result{
			Tag: tagged(uint64(i)), Shape: ShapeBundle, Answer: AnswerAccepted, Hash: common.Hash{1, byte(i), byte(i >> 8)}, Intended: sent, Sent: sent,
			Done: sent.Add(took), Latency: took, Scheduled: true, Late: time.Duration(i%100) * time.Microsecond, Attempts: 1, Status: 200, Txs: 3, Repeats: 2, Size: 7000,
		}
		if i > 10 {
			r.Sources = []uint64{uint64(i - 1), uint64(i - 7)}
		}
		switch {
		case i%50 == 49:
			r.Answer = AnswerRefused
		case i%500 == 300:
			r.Answer = AnswerShed
		case i%400 == 200:
			r.Scheduled, r.Late, r.Waited = false, 0, 3*time.Millisecond
		}
		results = append(results, r)
		if r.Answer == AnswerAccepted {
			receipts = append(receipts, Receipt{Tag: r.Tag, Tagged: true, Hash: r.Hash, Status: 200, At: r.Done.Add(100 * time.Microsecond)})
		}
	}
	seen := firstReceipts(receipts)
	rep := summarizeAll([]string{"load"}, results, seen)
	rep.Schema, rep.Started, rep.Elapsed = SchemaRun, start, time.Duration(n/rate*float64(time.Second))
	rep.Setup = Flow{
		URLs: []string{"127.0.0.1:8080"}, Rate: rate, Duration: rep.Elapsed, Connections: 64, Corpus: CorpusConfig{Seed: 7},
	}.setup()
	rep.Setup.Cores, rep.Setup.Platform = 2, "linux/amd64, go"
	rep.CPU = time.Duration(slower * float64(1500*time.Millisecond))
	rep.PerOrder, rep.PerDelivered, rep.PeakRSS = rep.CPU/n, rep.CPU/n, int64(200<<20*slower)
	rep.Generator = Generator{CPU: time.Second, PerOrder: time.Second / n, Cores: 0.2, Starved: Starvation{Orders: 1, Shift: time.Millisecond}, Warnings: []string{"the generator <woke up> late"}}
	rep.Series = newSeries(results, seen, start, rep.Elapsed)
	rep.Usage = sampleUsage()
	rep.Stages = []Stage{
		{"ingress", "verify", n, 70, 60, 210},
		{"ingress", "publish", n, 180, 150, 900},
		{"order", "validate", n, 95, 40, 800},
		{"egress", "send", n, 120, 100, 450},
		{"wire to wire", "total", n, 700, 520, 4100},
	}
	rep.Check = Check(results, receipts, nil, Expect{NoLedger: true})
	rep.Check.Outcomes["delivered"] = rep.Check.Taken
	return rep
}

func sampleUsage() *UsageSeries {
	u := &UsageSeries{}
	for i := range 24 {
		u.Seconds = append(u.Seconds, float64(i+1)/4)
		u.Cores = append(u.Cores, .5+.1*math.Sin(float64(i)))
		u.RSS = append(u.RSS, int64(150+i)<<20)
		u.GeneratorCPU = append(u.GeneratorCPU, .2)
		u.GeneratorRSS = append(u.GeneratorRSS, 80<<20)
	}
	return u
}

func sampleComparison() *Comparison {
	c := &Comparison{
		Schema: SchemaCompare, Started: time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC), Targets: []string{"millrace", "v1b"}, Base: "v1b",
		Warnings: []string{"pair 1, v1b: the others were loud"},
	}
	for pair := 1; pair <= 5; pair++ {
		for i, name := range c.Targets {
			rep := sampleReport(500, 1+.3*float64(i)+.05*float64(pair*(i+1)%4))
			if i == 1 {
				rep.Check.Breaks[BreakLost] = 1
				rep.Check.Examples[BreakLost] = []string{"an order"}
			}
			c.Legs = append(c.Legs, Leg{Target: name, Pair: pair, Report: rep, Idle: .01})
		}
	}
	c.Setup = c.Legs[0].Report.Setup
	c.Ratios = ratios(c.Legs, c.Targets, c.Base)
	return c
}

func sampleSweep(v Variable, values ...float64) *Sweep {
	s := &Sweep{
		Schema: SchemaSweep, Started: time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC), Variable: v, Targets: []string{"millrace", "v1b"},
		Warnings: []string{"the generator was late"},
	}
	for i, value := range values {
		p := SweepPoint{Value: value}
		for k, name := range s.Targets {
			rep := sampleReport(300+100*float64(i), 1+.5*float64(k)+.4*float64(i))
			rep.trim()
			p.Legs = append(p.Legs, Leg{Target: name, Pair: i + 1, Report: rep, Idle: .02})
		}
		s.Points = append(s.Points, p)
	}
	s.Setup = s.Points[0].Legs[0].Report.Setup
	s.saturate()
	return s
}

// sampleRegions is a report over two regions in which every field has a value.
func sampleRegions() *RegionsReport {
	run := sampleReport(500, 1)
	f := run.Flows[0]
	far := Latency{Count: 1000, P50: 44_900, P90: 46_000, P99: 49_500, P999: 61_000, Max: 70_000}
	echo := Latency{Count: 1200, P50: 44_300, P90: 44_900, P99: 49_900, P999: 60_000, Max: 66_000}
	shift := func(in []Quantile, by int64) (out []Quantile) {
		for _, q := range in {
			out = append(out, Quantile{Percent: q.Percent, Value: q.Value + by})
		}
		return out
	}
	series := &LinkSeries{Step: .25}
	for i := range 24 {
		series.Delivered = append(series.Delivered, 480+10*math.Sin(float64(i)))
		series.P50 = append(series.P50, 44_900)
		series.P99 = append(series.P99, 49_500+100*float64(i))
		series.Echo = append(series.Echo, 44_300)
		series.Bits = append(series.Bits, 48e6)
	}
	link := LinkReport{
		From: "virginia", To: "frankfurt", Orders: far, Echo: echo, RoundTrip: Latency{Count: 1200, P50: 88_500, Max: 99_000}, Beyond: beyond(far, echo),
		Conditions: regions.Conditions{Delay: 44 * time.Millisecond, Jitter: time.Millisecond, Bandwidth: 1e9, ResetEvery: time.Minute},
		Accepted:   1001, Delivered: 1000, Lost: 1, Duplicates: 1, Repeats: 2, Bytes: 9e6, Bandwidth: 48e6, Peak: 90e6, Connections: 3, Resets: 1,
		OrderCurve: shift(f.WireCurve, 44_300), EchoCurve: shift(f.AnswerCurve, 44_000), Series: series,
	}
	home := LinkReport{From: "virginia", To: "virginia", Orders: f.Wire, Accepted: 1001, Delivered: 1001, OrderCurve: f.WireCurve, Series: series}
	return &RegionsReport{
		Schema: SchemaRegions, Started: run.Started, Elapsed: run.Elapsed, Topology: "two-regions", Scenario: "bad day", Setup: run.Setup,
		Doors: run.Flows, Links: []LinkReport{link, home}, Generator: run.Generator, LinksCPU: 200 * time.Millisecond,
		CPU: run.CPU, PerOrder: run.PerOrder, PeakRSS: run.PeakRSS,
		Events: []regions.Event{{At: time.Second, What: "partition virginia>frankfurt"}, {At: 2 * time.Second, What: "restart frankfurt", Error: "gone"}},
	}
}

// samples are one report of every kind; nobody changes them.
var samples = sync.OnceValue(func() map[string]Printable {
	return map[string]Printable{
		"run":         sampleReport(500, 1),
		"regions":     sampleRegions(),
		"compare":     sampleComparison(),
		"sweep":       sampleSweep(VariableSize, 1e3, 1e4, 1e5, 1e6),
		"connections": sampleSweep(VariableConnections, 1, 10, 100, 1000, 5000),
		"ramp":        sampleSweep(VariableRate, 500, 1000, 1500, 2000, 2500),
	}
})
