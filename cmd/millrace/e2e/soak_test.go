//go:build e2e && linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// soakMinutes is how many minutes a soak lasts, with a kill in each; zero: the short form.
func soakMinutes() int {
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_E2E_SOAK_MINUTES")); err == nil && n > 0 {
		return n
	}
	if soak() {
		return 30
	}
	return 0
}

// soakArgs bound what a node keeps, so that a soak gets to where the oldest goes for the newest.
func soakArgs() []string {
	args := []string{"--record.orders.max_bytes=1GiB", "--trace.max_bytes=256MiB"}
	if soakMinutes() == 0 {
		args = append(args, "--orders.max_age=5s") // what is remembered for so long is there when the warm-up ends
	}
	return args
}

// Half an hour at 60 % of what the machine can do, a kill -9 in every minute: nothing that was accepted is lost,
// and neither within a life of the process nor from one to the next do its memory and its goroutines
// grow. The ordinary run does it for half a minute.
func TestASoakUnderKillsKeepsMemoryAndGoroutinesFlat(t *testing.T) {
	start := func(t *testing.T) *pipeline { t.Helper(); return startNode(t, soakArgs()...) }
	rate := soakRate(t, start)
	soakUnderKills(t, start(t), rate)
}

// The same with every role in a process of its own, any of which may be the one that is killed.
func TestASoakUnderKillsOfSeparateRolesKeepsThemFlat(t *testing.T) {
	if soakMinutes() == 0 {
		t.Skip("only as a soak: every role is killed under load elsewhere, and its processes live too shortly here to tell growth")
	}
	start := func(t *testing.T) *pipeline { t.Helper(); return startSplit(t, 1, 2, soakArgs()...) }
	rate := soakRate(t, start)
	soakUnderKills(t, start(t), rate)
}

// soakRate is MILLRACE_E2E_SOAK_RATE, or 60 % of what a pipeline of its own takes. The generator signs
// meanwhile, as it will.
func soakRate(t *testing.T, start func(*testing.T) *pipeline) (rate float64) {
	t.Helper()
	if rate, err := strconv.ParseFloat(os.Getenv("MILLRACE_E2E_SOAK_RATE"), 64); err == nil && rate > 0 {
		return rate
	}
	t.Run("capacity", func(t *testing.T) {
		p := start(t)
		all := p.measure(t, loadtest.Flow{Name: "capacity", Connections: 64, Duration: short(3*time.Second, 10*time.Second)})
		rate = 0.6 * all[0].Rate
	})
	require.Positive(t, rate)
	return rate
}

// soaking is a soak in parts, with a load, a kill and a check of every promise in each. Only what the last
// two parts sent, got and recorded is held, which is longer than an order lives.
type soaking struct {
	*pipeline
	rate  float64
	parts int
	part  time.Duration // of load
	every time.Duration // between samples
	warm  time.Duration // after a start: not judged

	began   time.Time
	up      map[*process]time.Time // since when
	starts  []time.Time            // of the parts
	journal *loadtest.Journal
	seed    uint64
	samples []sample
}

func soakUnderKills(t *testing.T, p *pipeline, rate float64) {
	t.Helper()
	s := &soaking{
		pipeline: p, rate: rate, parts: 1, part: 22 * time.Second, every: time.Second, warm: 6 * time.Second,
		began: time.Now(), up: map[*process]time.Time{}, journal: &loadtest.Journal{}, seed: freshSeed(),
	}
	if n := soakMinutes(); n > 0 {
		s.parts, s.part, s.every, s.warm = n, time.Minute, 5*time.Second, 45*time.Second
	}
	for _, proc := range p.all {
		s.up[proc] = s.began
	}
	for i := range s.parts {
		s.run(t, i)
	}
	lives := livesOf(s.samples, s.warm)
	own, err := loadtest.ReadUsage([]int{os.Getpid()})
	require.NoError(t, err)
	report(t, "%s at %.0f/s with %d kills: %d accepted, 0 lost; sender, builder and checks took up to %.0f MB\n%s\n%s",
		time.Since(s.began).Round(time.Second), rate, s.parts, s.journal.Count(loadtest.AnswerAccepted), mb(own.PeakRSS),
		tableOfLives(lives), tableOfSamples(s.samples))
	require.Zero(t, s.journal.Count(loadtest.AnswerUnknown), "a careful sender gets an answer in the end")
	require.Empty(t, grown(lives))
	for _, x := range s.samples {
		require.Less(t, x.rss, maxRSS(), "%s at %s", x.process, x.at)
	}
}

// maxRSS is the promise about memory on a machine with two CPUs, bytes; the ordinary run may be on any.
func maxRSS() int64 {
	if soakMinutes() > 0 {
		return 512 << 20
	}
	return 1 << 30
}

// run is one part: load, somewhere in it a kill, and then the check.
func (s *soaking) run(t *testing.T, i int) {
	t.Helper()
	flow := careful(s.rate, 0)
	flow.Resend = 1200 // a minute: as long as a start may take
	flow.Corpus.Seed, flow.Count = s.seed, uint64(s.rate*s.part.Seconds())
	flow.First = uint64(i) * flow.Count
	l := s.continueLoad(t, &load{journal: s.journal}, flow)
	l.start(t)
	s.starts = append(s.starts, l.started)
	victim := s.all[rand.N(len(s.all))]
	kill := time.After(randomly(s.part*3/10, s.part*7/10))
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for sent := false; !sent; {
		select {
		case err := <-l.done:
			require.NoError(t, err)
			sent = true
		case <-tick.C:
			s.sample(t)
		case <-kill:
			s.killAndStart(t, victim)
		}
	}
	since := s.starts[max(i-1, 0)]
	s.journal.Forget(since)
	s.sink.Forget(since)
	s.verifySince(t, since, i)
}

func (s *soaking) killAndStart(t *testing.T, v *process) {
	t.Helper()
	accepted, taken := s.journal.Count(loadtest.AnswerAccepted), s.sink.Taken()
	v.kill(t)
	killed := time.Now()
	v.up(t)
	s.up[v] = time.Now()
	eventually(t, 20*time.Second, func() bool {
		return s.journal.Count(loadtest.AnswerAccepted) > accepted+50 && s.sink.Taken() > taken+50
	}, "orders flow again after the kill of %s", v.name)
	t.Logf("%s: killed %s with %d accepted; orders flow again after %s", s.up[v].Sub(s.began).Round(time.Second), v.name,
		accepted, time.Since(killed).Round(time.Millisecond))
}

// verifySince checks every promise about what was sent since a time, which is this part and the one
// before: a repeat of an older order, which is past its deadline, would be one that nobody sent.
func (s *soaking) verifySince(t *testing.T, since time.Time, part int) {
	t.Helper()
	trial := loadtest.Trial{
		Journal: s.journal, Sink: s.sink, Admin: s.egress.admin, Since: since,
		Expect: loadtest.Expect{Targets: []string{target}, Window: 2 * flight},
	}
	v, _, err := trial.Settle(t.Context(), 90*time.Second)
	require.NoError(t, err)
	require.NoError(t, v.Err(), "part %d", part+1)
	require.Positive(t, v.Accepted)
	t.Logf("part %d: of the last two parts %d accepted, %d taken, %d twice, outcomes %v", part+1, v.Accepted, v.Taken, v.Repeated, v.Outcomes)
}

// sample looks at every process that lives and answers.
func (s *soaking) sample(t *testing.T) {
	t.Helper()
	for _, p := range s.all {
		x := sample{process: p.name, life: p.lives, at: time.Since(s.began), age: time.Since(s.up[p])}
		usage, err := loadtest.ReadUsage([]int{p.pid()})
		require.NoError(t, err)
		x.rss = usage.RSS
		var ok bool
		if x.goroutines, x.heap, ok = runtimeOf(p); ok && usage.RSS > 0 {
			s.samples = append(s.samples, x)
		}
	}
}

// runtimeOf asks a process for its goroutines and for its heap after a collection, in bytes.
func runtimeOf(p *process) (goroutines int, heap int64, ok bool) {
	_, profile := get(p.admin + "/debug/pprof/heap?debug=1&gc=1")
	_, metrics := get(p.admin + "/metrics")
	bytes, ok := lineValue(profile, "# HeapAlloc = ")
	count, counted := lineValue(metrics, "go_goroutines ")
	return int(count), int64(bytes), ok && counted
}

func (x sample) String() string {
	return fmt.Sprintf("%s\t%s\t%d\t%s\t%.1f\t%.1f\t%d", x.at.Round(time.Second), x.process, x.life, x.age.Round(time.Second),
		mb(x.rss), mb(x.heap), x.goroutines)
}
