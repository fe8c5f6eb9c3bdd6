//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// target is the name of the builder that --builder.url configures.
const target = "builder"

// patience keeps a busy machine, on which the sink is slow to answer, from looking like a builder that
// fails: its orders would be sent again, marked, and count as sent twice.
const patience = "--builder.timeout=10s"

// pipeline is one running arrangement of processes with a sink as its builder.
type pipeline struct {
	sink    *loadtest.Sink
	builder string
	store   string // the bus's store directory
	doors   []string

	bus     *process // node: the same process as all others
	ingress []*process
	workers []*process
	egress  *process
	all     []*process // each process once, in the order in which they start
}

// startSink runs a sink as long as the test.
func startSink(t *testing.T) (*loadtest.Sink, string) {
	t.Helper()
	s := loadtest.NewSink()
	ln, url, err := s.Bind(t.Context(), freeAddr(t))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return s, url
}

// newNode describes `millrace node`; args come last, so they win.
func newNode(t *testing.T, args ...string) *pipeline {
	t.Helper()
	p := &pipeline{}
	p.sink, p.builder = startSink(t)
	p.store = filepath.Join(t.TempDir(), "nats")
	for _, a := range args {
		if dir, ok := strings.CutPrefix(a, "--nats.store_dir="); ok {
			p.store = dir
		}
	}
	door := freeAddr(t)
	p.doors = []string{"http://" + door}
	n := newProcess(t, "node", "node", append([]string{
		"--ingress.listen=" + door, "--nats.store_dir=" + p.store, "--builder.url=" + p.builder, patience,
		"--nats.tap=" + tap(),
	}, args...)...)
	p.bus, p.egress, p.ingress, p.workers, p.all = n, n, []*process{n}, []*process{n}, []*process{n}
	return p
}

// startNode starts a node and waits until it is ready.
func startNode(t *testing.T, args ...string) *pipeline {
	t.Helper()
	p := newNode(t, args...)
	p.bus.up(t)
	return p
}

// startSplit starts bus, doors, workers and egress as processes of their own.
func startSplit(t *testing.T, doors, workers int, args ...string) *pipeline {
	t.Helper()
	p := &pipeline{}
	p.sink, p.builder = startSink(t)
	data := t.TempDir()
	p.store = filepath.Join(data, "nats")
	addr := freeAddr(t)
	p.bus = newProcess(t, "bus", "bus", append([]string{"--nats.listen=" + addr, "--nats.store_dir=" + p.store}, args...)...)
	p.bus.up(t)
	remote := func(name, role string, own ...string) *process {
		all := append([]string{
			"--nats.url=nats://" + addr, "--nats.creds=" + filepath.Join(data, "auth", "role.nk"),
			"--nats.store_dir=" + filepath.Join(t.TempDir(), "nats"),
		}, own...)
		return newProcess(t, name, role, append(all, args...)...)
	}
	for i := range workers {
		p.workers = append(p.workers, remote(fmt.Sprintf("worker%d", i), "worker"))
	}
	p.egress = remote("egress", "egress", "--builder.url="+p.builder, patience)
	for i := range doors {
		door := freeAddr(t)
		p.doors = append(p.doors, "http://"+door)
		p.ingress = append(p.ingress, remote(fmt.Sprintf("ingress%d", i), "ingress", "--ingress.listen="+door))
	}
	p.all = append(append(append([]*process{p.bus}, p.workers...), p.egress), p.ingress...)
	for _, proc := range p.all[1:] {
		proc.start(t)
	}
	for _, proc := range p.all[1:] {
		proc.waitReady(t)
	}
	return p
}

// pids are those of all living processes.
func (p *pipeline) pids() []int {
	var pids []int
	for _, proc := range p.all {
		if !proc.ended() {
			pids = append(pids, proc.pid())
		}
	}
	return pids
}

// peakRSS is the highest memory of any living process, bytes.
func (p *pipeline) peakRSS(t *testing.T) int64 {
	t.Helper()
	var peak int64
	for _, pid := range p.pids() {
		u, err := loadtest.ReadUsage([]int{pid})
		require.NoError(t, err)
		peak = max(peak, u.PeakRSS)
	}
	return peak
}

// load is some flows, made ready or on their way.
type load struct {
	names   []string
	journal *loadtest.Journal
	senders []*loadtest.Sender
	since   time.Time // start of the first load with this journal
	started time.Time
	stop    context.CancelFunc
	done    chan error
}

// startLoad sends flows in the background; they share a journal.
func (p *pipeline) startLoad(t *testing.T, flows ...loadtest.Flow) *load {
	t.Helper()
	l := p.prepareLoad(t, flows...)
	l.start(t)
	return l
}

// prepareLoad signs what is to be signed before the first order is sent.
func (p *pipeline) prepareLoad(t *testing.T, flows ...loadtest.Flow) *load {
	t.Helper()
	return p.continueLoad(t, &load{journal: &loadtest.Journal{}}, flows...)
}

// continueLoad is prepareLoad for more of the orders of an earlier load, with its journal.
func (p *pipeline) continueLoad(t *testing.T, earlier *load, flows ...loadtest.Flow) *load {
	t.Helper()
	l := &load{journal: earlier.journal, since: earlier.since, done: make(chan error, len(flows))}
	for i, f := range flows {
		f.Corpus.Flow = uint16(i)
		if f.Corpus.Seed == 0 {
			f.Corpus.Seed = uint64(time.Now().UnixNano())
		}
		if f.URLs == nil {
			f.URLs = p.doors
		}
		s, err := loadtest.NewSender(f, l.journal)
		require.NoError(t, err)
		require.NoError(t, s.Prepare(t.Context()))
		l.senders, l.names = append(l.senders, s), append(l.names, f.Name)
	}
	return l
}

func (l *load) start(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l.started, l.stop = time.Now(), stop
	if l.since.IsZero() {
		l.since = l.started
	}
	running := make(chan struct{})
	go func() {
		defer close(running)
		errs := make(chan error)
		for _, s := range l.senders {
			go func() { errs <- s.Run(ctx) }()
		}
		for range l.senders {
			l.done <- <-errs
		}
	}()
	t.Cleanup(func() {
		stop()
		<-running
	})
}

// wait waits until everything is sent and answered.
func (l *load) wait(t *testing.T) {
	t.Helper()
	for range cap(l.done) {
		require.NoError(t, <-l.done)
	}
}

// careful is a flow as a careful sender's: it sends an order again until it has an answer.
func careful(rate float64, d time.Duration) loadtest.Flow {
	return loadtest.Flow{
		Name: "careful", Rate: rate, Duration: d, Connections: 64, Spacing: loadtest.SpacingPoisson,
		Timeout: 8 * time.Second, Resend: 400, ResendPause: 50 * time.Millisecond,
	}
}

// verify waits until every accepted order has ended and checks all promises. window is how many
// orders may have reached the builder twice.
func (p *pipeline) verify(t *testing.T, l *load, patience time.Duration, window int) *loadtest.Verification {
	t.Helper()
	trial := loadtest.Trial{
		Journal: l.journal, Sink: p.sink, Admin: p.egress.admin, Since: l.since,
		Expect: loadtest.Expect{Targets: []string{target}, Window: window},
	}
	v, _, err := trial.Settle(t.Context(), patience)
	require.NoError(t, err)
	report(t, "sent %d, accepted %d, acceptances %d, taken %d, twice %d, overtaken %d, outcomes %v",
		len(l.journal.Results()), v.Accepted, v.Acceptance, v.Taken, v.Repeated, v.Overtaken, v.Outcomes)
	require.NoError(t, v.Err())
	require.Positive(t, v.Accepted, "nothing was accepted: %+v", firstAnswers(l))
	return v
}

// firstAnswers is a few results, for the message of a test in which nothing worked.
func firstAnswers(l *load) []string {
	var out []string
	for _, r := range l.journal.Results() {
		if out = append(out, fmt.Sprintf("%s %s %d %s", r.Shape, r.Answer, r.Status, r.Reason)); len(out) == 5 {
			break
		}
	}
	return out
}

// flight is how many orders may be on the wire or unrecorded at a moment: egress.in_flight and
// egress.window.
const flight = 64 + 256
