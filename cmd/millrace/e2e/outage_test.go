//go:build e2e && linux

package e2e

import (
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// A builder that is away for a while gets what has not expired, newest nonce last, and the rest is
// recorded as expired.
func TestAnOutageOfTheBuilderExpiresOnlyWhatIsTooOld(t *testing.T) {
	cases := []struct {
		name           string
		maxAge, outage time.Duration
	}{{"longer_than_an_order_lives", short(6*time.Second, 10*time.Second), short(9*time.Second, 20*time.Second)}}
	if soak() {
		cases = append(cases, struct {
			name           string
			maxAge, outage time.Duration
		}{"shorter_than_an_order_lives", 36 * time.Second, 20 * time.Second})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := startNode(t, "--orders.max_age="+c.maxAge.String())
			flow := careful(500, c.outage+6*time.Second)
			flow.Corpus.Keys = 8 // many submissions of each replacement key meet in the outage
			flow.Corpus.Mix = loadtest.Mix{{Shape: loadtest.ShapeBundle, Weight: 5}, {Shape: loadtest.ShapeReplacement, Weight: 4}, {Shape: loadtest.ShapeCancel, Weight: 1}}
			l := p.startLoad(t, flow)
			nap(t, 2*time.Second)
			p.sink.SetMode(loadtest.SinkDown)
			nap(t, c.outage)
			p.sink.SetMode(loadtest.SinkUp)
			back := time.Now()
			l.wait(t)
			v := p.verify(t, l, c.maxAge+20*time.Second, 0)
			if c.outage > c.maxAge {
				require.Positive(t, v.Outcomes["expired"])
			} else {
				require.Zero(t, v.Outcomes["expired"])
			}
			p.noneExpiredAfter(t, l, back.Add(-c.maxAge+3*time.Second))
		})
	}
}

// noneExpiredAfter requires that no order accepted after the given time expired.
func (p *pipeline) noneExpiredAfter(t *testing.T, l *load, after time.Time) {
	t.Helper()
	records, err := loadtest.FetchLedger(t.Context(), p.egress.admin, l.started.Add(-time.Second))
	require.NoError(t, err)
	young := map[common.Hash]bool{}
	for _, r := range l.journal.Results() {
		if r.Answer == loadtest.AnswerAccepted && r.Sent.After(after) {
			young[r.Hash] = true
		}
	}
	require.NotEmpty(t, young)
	for _, r := range records {
		if young[r.Hash] {
			require.NotEqual(t, "expired", r.Outcome, "%s, received %s", r.Hash, r.Received)
		}
	}
}

// A builder that stays away: every order still gets its record, in bounded memory.
func TestALongOutageKeepsAccountsAndMemory(t *testing.T) {
	maxAge, outage := short(5*time.Second, 36*time.Second), short(10*time.Second, 3*time.Minute)
	p := startNode(t, "--orders.max_age="+maxAge.String())
	p.sink.SetMode(loadtest.SinkDown)
	flow := careful(short1000(), outage)
	flow.Connections = 128
	l := p.startLoad(t, flow)
	l.wait(t)
	p.sink.SetMode(loadtest.SinkUp)
	v := p.verify(t, l, maxAge+40*time.Second, 0)
	require.Positive(t, v.Outcomes["expired"])
	peak := p.peakRSS(t)
	report(t, "builder down for %s under %.0f/s: peak RSS %d MB", outage, flow.Rate, peak>>20)
	require.Less(t, peak, int64(1<<30), "memory is bounded")
}

// short1000 is the rate of the long outage.
func short1000() float64 { return 1000 }

// A builder that fails in every way there is, in turn.
func TestABuilderThatFailsInEachWayGetsEachOrderOnce(t *testing.T) {
	p := startNode(t, "--builder.timeout=1s", "--orders.max_age=20s")
	flow := careful(200, 10*time.Second)
	flow.Corpus.Mix = loadtest.Mix{{Shape: loadtest.ShapeBundle, Weight: 3}, {Shape: loadtest.ShapeTransaction, Weight: 1}}
	l := p.startLoad(t, flow)
	for _, mode := range []loadtest.SinkMode{loadtest.SinkFails, loadtest.SinkHangs, loadtest.SinkErrors} {
		nap(t, time.Second)
		p.sink.SetMode(mode)
		nap(t, 1500*time.Millisecond)
		p.sink.SetMode(loadtest.SinkUp)
	}
	l.wait(t)
	v := p.verify(t, l, 40*time.Second, 0)
	require.Positive(t, v.Outcomes["refused"])
}

// A thousand connections at once: nothing that was accepted is lost.
func TestAThousandConnectionsLoseNothing(t *testing.T) {
	p := startNode(t)
	l := p.startLoad(t, loadtest.Flow{Name: "1000", Connections: 1000, Count: uint64(short(10_000, 40_000)), Timeout: 30 * time.Second})
	l.wait(t)
	v := p.verify(t, l, 40*time.Second, 0)
	rep := loadtest.Summarize([]string{"1000"}, l.journal.Results(), p.sink.Receipts())
	report(t, "%.0f/s, answers %v, p50 %d µs, p99 %d µs, wire p99 %d µs, %d accepted, peak RSS %d MB", rep.Flows[0].Rate, rep.Flows[0].Answers,
		rep.Flows[0].Answer.P50, rep.Flows[0].Answer.P99, rep.Flows[0].Wire.P99, v.Accepted, p.peakRSS(t)>>20)
	require.Zero(t, l.journal.Count(loadtest.AnswerUnknown))
	require.Zero(t, l.journal.Count(loadtest.AnswerUnsent))
}
