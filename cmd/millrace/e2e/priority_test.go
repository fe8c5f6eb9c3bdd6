//go:build e2e && linux

package e2e

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// high is a steady flow of orders of the first class.
func high(rate float64, d time.Duration) loadtest.Flow {
	return made(loadtest.Flow{
		Name: "high", Rate: rate, Duration: d, Connections: 32, Spacing: loadtest.SpacingPoisson,
		Corpus: loadtest.CorpusConfig{Mix: loadtest.Mix{{Shape: loadtest.ShapeTransaction, Weight: 1}, {Shape: loadtest.ShapeReverting, Weight: 1}}},
	})
}

// made is f with all of its orders signed before the first is sent: signing ahead during the run would
// take the processors from what is measured.
func made(f loadtest.Flow) loadtest.Flow {
	f.Count = uint64(f.Rate * f.Duration.Seconds())
	f.Preload = f.Count
	return f
}

// measure runs flows and returns their reports.
func (p *pipeline) measure(t *testing.T, flows ...loadtest.Flow) []loadtest.FlowReport {
	t.Helper()
	return p.measureLoad(t, p.prepareLoad(t, flows...))
}

func (p *pipeline) measureLoad(t *testing.T, l *load) []loadtest.FlowReport {
	t.Helper()
	pids := p.pids()
	before, err := loadtest.ReadUsage(pids)
	require.NoError(t, err)
	l.start(t)
	l.wait(t)
	elapsed := time.Since(l.started)
	after, err := loadtest.ReadUsage(pids)
	require.NoError(t, err)
	p.verify(t, l, 90*time.Second, 0)
	results := slices.DeleteFunc(l.journal.Results(), func(r loadtest.Result) bool { return r.Intended.Before(l.started) })
	rep := loadtest.Summarize(l.names, results, p.sink.Receipts())
	cpu := after.CPU - before.CPU
	for _, f := range rep.Flows {
		report(t, "%s: sent %d (%.0f/s) answers %v; answer p50 %d p99 %d µs; wire p50 %d p99 %d µs; CPU of millrace %.0f %% of the machine",
			f.Name, f.Sent, f.Rate, f.Answers, f.Answer.P50, f.Answer.P99, f.Wire.P50, f.Wire.P99,
			100*cpu.Seconds()/elapsed.Seconds()/float64(runtime.NumCPU()))
	}
	for _, r := range l.journal.Results() {
		if r.Answer == loadtest.AnswerShed {
			require.True(t, r.RetryAfter, "a refused order is told when to come back")
		}
	}
	return rep.Flows
}

func ratio(a, b int64) float64 { return float64(a) / float64(max(b, 1)) }

// (i) One slot for validation, full of large low orders: high ones pass. What makes the large orders
// low is their sender's bad name, which it gets first; the slot is one processor's work, so little else may
// be done for the slot, and not the machine, to be what is scarce.
func TestPriorityWithWorkerSlotsAsTheBottleneck(t *testing.T) {
	d := short(4*time.Second, 20*time.Second)
	const txs = 500
	p := startNode(t, "--worker.concurrency=1", fmt.Sprintf("--orders.max_txs=%d", txs))
	quiet := p.measure(t, high(50, d))[0]
	spoiled := loadtest.CorpusConfig{Seed: freshSeed(), Signers: 1, FirstSigner: 100, HeavyTxs: txs}
	spoiled.Mix = loadtest.Only(loadtest.ShapeHeavy)
	low := made(loadtest.Flow{Name: "low", Rate: 40, Duration: d, Connections: 64, First: 100_000, Corpus: spoiled})
	ready := p.prepareLoad(t, high(50, d), low)
	spoiled.Mix = loadtest.Only(loadtest.ShapeMalformed)
	spoil := p.startLoad(t, loadtest.Flow{Name: "spoil", Rate: 300, Duration: 2*d + 8*time.Second, Corpus: spoiled})
	spoil.wait(t)
	require.Zero(t, spoil.journal.Count(loadtest.AnswerAccepted))

	both := p.measureLoad(t, ready)
	p50, p99 := ratio(both[0].Wire.P50, quiet.Wire.P50), ratio(both[0].Wire.P99, quiet.Wire.P99)
	report(t, "priority (i): high wire p50 x%.2f, p99 x%.2f of unloaded (promise 1.5 and 5); low delivered %d", p50, p99, both[1].Wire.Count)
	require.Equal(t, both[0].Sent, both[0].Answers["accepted"], "no high order is refused")
	require.Positive(t, both[1].Wire.Count, "low orders progress")
	p.requireClass(t, low.Corpus.FirstSigner, spoiled.Seed, "low")
	if soak() {
		require.LessOrEqual(t, p50, 1.5)
		require.LessOrEqual(t, p99, 5.0)
	}
}

// requireClass requires that the builder got most orders of a corpus' first signer in the given class.
func (p *pipeline) requireClass(t *testing.T, first int, seed uint64, class string) {
	t.Helper()
	c, err := loadtest.NewCorpus(loadtest.CorpusConfig{Seed: seed, Signers: 1, FirstSigner: first, Mix: loadtest.Only(loadtest.ShapeCancel)})
	require.NoError(t, err)
	o, err := c.Order(0)
	require.NoError(t, err)
	in, all := 0, 0
	for _, r := range p.sink.Receipts() {
		if r.Signer == o.Signer {
			all++
			if r.Priority == class {
				in++
			}
		}
	}
	require.Greater(t, 2*in, all, "%d of %d orders are %s", in, all, class)
}

// A blob sidecar is verified in one piece, so a slot full of them is the worst that can happen to the
// order behind: figures only.
func TestPriorityBehindBlobSidecars(t *testing.T) {
	d := short(4*time.Second, 20*time.Second)
	p := startNode(t)
	quiet := p.measure(t, high(100, d))[0]
	low := made(loadtest.Flow{
		Name: "low", Rate: 40, Duration: d, Connections: 16,
		Corpus: loadtest.CorpusConfig{Mix: loadtest.Only(loadtest.ShapeBlobBundle)},
	})
	both := p.measure(t, high(100, d), low)
	report(t, "behind blob sidecars: high wire p50 x%.2f, p99 x%.2f of unloaded; low delivered %d",
		ratio(both[0].Wire.P50, quiet.Wire.P50), ratio(both[0].Wire.P99, quiet.Wire.P99), both[1].Wire.Count)
	require.Equal(t, both[0].Sent, both[0].Answers["accepted"], "no high order is refused")
}

// (ii) Low orders at three times what the machine can do, from another process. The high ones come from
// senders that the door knows; a few low ones of our own see what the flood is told.
func TestPriorityWithTheCPUSaturatedByLowOrders(t *testing.T) {
	d := short(4*time.Second, 20*time.Second)
	p := startNode(t, "--ingress.ip_rate.count=0", "--ingress.ip_bytes=0", "--orders.max_age=10s")
	cheap := loadtest.CorpusConfig{Mix: loadtest.Only(loadtest.ShapeBlobTransaction), Signers: 1000, FirstSigner: 100}
	capacity := p.measure(t, loadtest.Flow{Name: "capacity", Connections: 64, Duration: 3 * time.Second, Preload: 20_000, Corpus: cheap})[0].Rate
	rate := 3 * capacity
	known := high(50, d)
	known.Corpus.Seed = freshSeed()
	first := p.prepareLoad(t, known)
	p.measureLoad(t, first) // by now the door knows who sends what
	known.First = known.Count
	probe := made(loadtest.Flow{Name: "probe", Rate: 5, Duration: d, Connections: 32, Timeout: 30 * time.Second, Corpus: cheap})
	ready := p.continueLoad(t, first, known, probe)
	before := p.low()
	flood := p.startOutside(t, fmt.Sprintf("--rate=%.0f", rate), "--duration="+(d+6*time.Second).String(), "--connections=2000",
		"--shape=blob_transaction", "--signers=1000", "--first_signer=100", fmt.Sprintf("--seed=%d", freshSeed()),
		fmt.Sprintf("--preload=%.0f", rate*(d+6*time.Second).Seconds()))
	eventually(t, 2*time.Minute, func() bool { return p.low() > before+100 }, "the flood comes")
	both := p.measureLoad(t, ready)
	low := flood.wait(t, 3*time.Minute).Flows[0]
	report(t, "priority (ii): capacity %.0f/s, low offered %.0f/s, accepted %d, refused %d; high answer p99 %.1f ms, wire p99 %.1f ms (promise 25), refused %d",
		capacity, rate, low.Answers["accepted"], low.Answers["shed"], float64(both[0].Answer.P99)/1000, float64(both[0].Wire.P99)/1000, both[0].Sent-both[0].Answers["accepted"])
	require.Equal(t, both[0].Sent, both[0].Answers["accepted"], "no high order is refused")
	require.Positive(t, low.Answers["shed"])
	require.Positive(t, low.Answers["accepted"], "low orders progress")
	if soak() {
		require.LessOrEqual(t, both[0].Wire.P99, int64(25_000))
	}
}

// low is how many low orders the builder has got.
func (p *pipeline) low() (n int) {
	for _, r := range p.sink.Receipts() {
		if r.Priority == "low" {
			n++
		}
	}
	return n
}

// (iii) A builder of 50 ms whose slots are full of low orders.
func TestPriorityWithASlowBuilder(t *testing.T) {
	d := short(4*time.Second, 20*time.Second)
	p := startNode(t, "--orders.max_age=12s")
	const service = 50 * time.Millisecond
	p.sink.SetServiceTime(service)
	low := made(loadtest.Flow{
		Name: "low", Rate: 900, Duration: d, Connections: 64,
		Corpus: loadtest.CorpusConfig{Mix: loadtest.Only(loadtest.ShapeBlobTransaction), Signers: 200, FirstSigner: 100},
	})
	both := p.measure(t, high(50, d), low)
	report(t, "priority (iii): high wire p99 %.1f ms with a builder of 50 ms (promise: 100 to its answer); low delivered %d", float64(both[0].Wire.P99)/1000, both[1].Wire.Count)
	require.Equal(t, both[0].Sent, both[0].Answers["accepted"], "no high order is refused")
	if soak() {
		require.LessOrEqual(t, both[0].Wire.P99, (2 * service).Microseconds())
	}
}
