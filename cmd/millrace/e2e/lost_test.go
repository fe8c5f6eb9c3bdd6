//go:build e2e && linux

package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// randomly is a moment in the given span.
func randomly(low, high time.Duration) time.Duration { return low + rand.N(high-low) }

// killing runs load while victims are killed one after the other at random moments, each started
// again after a random pause, and then checks that nothing was lost.
func killing(t *testing.T, p *pipeline, rate float64, kills int, victim func(i int) *process) {
	t.Helper()
	const gap = 5 * time.Second
	const takeOver = 4 * time.Second // a dead owner's lease runs out first
	l := p.startLoad(t, careful(modest(rate), time.Duration(kills)*(gap+takeOver)))
	for i := range kills {
		nap(t, randomly(1500*time.Millisecond, gap-2*time.Second))
		v := victim(i)
		accepted, taken := l.journal.Count(loadtest.AnswerAccepted), p.sink.Taken()
		v.kill(t)
		t.Logf("killed %s with %d accepted and %d taken", v.name, accepted, taken)
		nap(t, randomly(0, time.Second))
		v.up(t)
		eventually(t, 20*time.Second, func() bool {
			return l.journal.Count(loadtest.AnswerAccepted) > accepted+50 && p.sink.Taken() > taken+50
		}, "orders flow again after the kill of %s: accepted %d, taken %d, before %d and %d", v.name,
			l.journal.Count(loadtest.AnswerAccepted), p.sink.Taken(), accepted, taken)
	}
	l.wait(t)
	v := p.verify(t, l, time.Minute, kills*flight)
	report(t, "peak RSS %d MB, %d orders in all", p.peakRSS(t)>>20, v.Accepted)
	require.Zero(t, l.journal.Count(loadtest.AnswerUnknown), "a careful sender gets an answer in the end")
}

func TestKillingTheNodeLosesNothing(t *testing.T) {
	beside(t)
	p := startNode(t)
	killing(t, p, 500, rounds(), func(int) *process { return p.bus })
}

func TestKillingAWorkerLosesNothing(t *testing.T) {
	beside(t)
	p := startSplit(t, 1, 2)
	killing(t, p, 400, rounds(), func(i int) *process { return p.workers[i%2] })
}

func TestKillingTheEgressLosesNothing(t *testing.T) {
	beside(t)
	p := startSplit(t, 1, 1)
	killing(t, p, 400, rounds(), func(int) *process { return p.egress })
}

func TestKillingTheBusLosesNothing(t *testing.T) {
	beside(t)
	p := startSplit(t, 1, 1)
	killing(t, p, 400, rounds(), func(int) *process { return p.bus })
}

// Doors, workers, egress and bus, two of what can be two, killed in any order.
func TestScaledOutProcessesMayBeKilledAtWill(t *testing.T) {
	beside(t)
	p := startSplit(t, 2, 2)
	victims := append([]*process(nil), p.all...)
	rand.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	killing(t, p, 300, min(len(victims), 3+rounds()), func(i int) *process { return victims[i%len(victims)] })
}

// Orders expire while nothing runs, and the node dies again just when it ends them: whatever the killed
// forgot, each order has one end.
//
// Beside others a life takes longer to come back than nonces are remembered here, and a sender that sends an older
// submission again is right to get it delivered.
func TestOrdersThatExpireAmidKillsHaveOneEndEach(t *testing.T) {
	p := startNode(t, "--orders.max_age=2s")
	l := p.startLoad(t, careful(modest(500), time.Duration(rounds())*9*time.Second))
	for range rounds() {
		nap(t, randomly(500*time.Millisecond, time.Second))
		p.bus.kill(t)
		nap(t, 2500*time.Millisecond)
		p.bus.start(t)
		nap(t, randomly(200*time.Millisecond, 900*time.Millisecond))
		p.bus.kill(t)
		p.bus.up(t)
	}
	l.wait(t)
	p.verify(t, l, time.Minute, 2*rounds()*flight)
	t.Log(run(t, "ledger", "verify", "--admin="+p.egress.admin))
}
