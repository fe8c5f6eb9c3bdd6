//go:build e2e && linux

package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// Nothing is killed, nothing fails: every order is accepted, delivered or superseded, and none comes
// twice. Its figures are what the other tests' are read against.
func TestASteadyLoadIsDeliveredOnce(t *testing.T) {
	p := startNode(t)
	l := p.startLoad(t, careful(500, short(6*time.Second, 30*time.Second)))
	before, err := loadtest.ReadUsage(p.pids())
	require.NoError(t, err)
	l.wait(t)
	after, err := loadtest.ReadUsage(p.pids())
	require.NoError(t, err)
	v := p.verify(t, l, 20*time.Second, 0)
	f := loadtest.Summarize([]string{"steady"}, l.journal.Results(), p.sink.Receipts()).Flows[0]
	report(t, "%.0f/s: answer p50 %d p99 %d µs, wire to wire p50 %d p90 %d p99 %d max %d µs, %d µs CPU an order, peak RSS %d MB, %.0f %% repeated transactions",
		f.Rate, f.Answer.P50, f.Answer.P99, f.Wire.P50, f.Wire.P90, f.Wire.P99, f.Wire.Max,
		((after.CPU - before.CPU) / time.Duration(max(v.Accepted, 1))).Microseconds(), after.PeakRSS>>20, 100*f.Repeats)
	require.Equal(t, f.Sent, f.Answers["accepted"]+f.Answers["refused"], "%v", f.Answers)
}
