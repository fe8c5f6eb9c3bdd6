package egress

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

func TestRule17ARemovedTargetEndsWhatItIsOwed(t *testing.T) {
	to := &sink{reply: script(away)}
	s := bubble(t, to, func(t *testing.T, s *store, r *running) {
		t.Helper()
		for n := range 300 {
			put(s, spec{content: n, key: n%5 + 1, nonce: uint64(n)})
		}
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, r.d.Reload(nil))
		time.Sleep(time.Second)
		require.Zero(t, s.unacked())
	})
	require.True(t, s.removed)
	require.Equal(t, 300, count(s, ledger.TargetRemoved))
	require.Len(t, s.outcomes(), 300)
}

func TestRule17ARemovalEndsAlthoughOrdersKeepComing(t *testing.T) {
	to := &sink{reply: accept}
	bubble(t, to, func(t *testing.T, s *store, r *running) {
		t.Helper()
		require.NoError(t, r.d.Reload(nil))
		for n := range 200 {
			time.Sleep(10 * time.Millisecond)
			put(s, spec{content: n})
		}
		s.set(func(s *store) { require.True(t, s.removed) })
	})
}

func TestRule17AReloadedTargetStartsAndAnotherURLIsAnotherTarget(t *testing.T) {
	to, other := &sink{reply: accept}, &sink{reply: accept}
	s := bubble(t, to, func(t *testing.T, s *store, r *running) {
		t.Helper()
		require.Error(t, r.d.Reload([]Destination{{Name: "b"}}))
		require.NoError(t, r.d.Reload([]Destination{{Name: "b", Fingerprint: "f", Sender: other}}))
		synctest.Wait()
		put(s, spec{content: 1})
		synctest.Wait()
		require.Len(t, other.all(), 1, "the same target, the new sender")
		s.set(func(s *store) { require.False(t, s.removed) })
		require.NoError(t, r.d.Reload([]Destination{{Name: "b", Fingerprint: "g", Sender: to}}))
		time.Sleep(time.Second)
		s.set(func(s *store) { require.True(t, s.removed) })
		put(s, spec{content: 2})
	})
	require.Len(t, to.all(), 1)
	require.Len(t, s.outcomes(), 2)
}

func TestShutdownWaitsForWhatIsOnTheWireAndRecordsIt(t *testing.T) {
	to := &sink{reply: func(int, Attempt) (Result, time.Duration) { return taken, time.Second }}
	var s *store
	synctest.Test(t, func(t *testing.T) {
		s = newStore()
		r := run(t, s, to, Config{})
		put(s, spec{content: 1})
		synctest.Wait()
		put(s, spec{content: 2, age: time.Minute})
		synctest.Wait()
		began := time.Now()
		r.stop()
		require.Less(t, time.Since(began), 2*time.Second)
	})
	require.Equal(t, 2, count(s, ledger.Delivered))
	require.Zero(t, s.unacked())
}

func TestOneDeadTargetAffectsNoOther(t *testing.T) {
	var s1, s2 *store
	dead, well := &sink{reply: func(int, Attempt) (Result, time.Duration) { return lost, time.Hour }}, &sink{reply: accept}
	synctest.Test(t, func(t *testing.T) {
		s1, s2 = newStore(), newStore()
		p1, p2 := &process{store: s1}, &process{store: s2}
		ports := p1.ports()
		ports.Lease = leases{"target-dead": p1, "target-well": p2}
		ports.Feed = func(n, _ string, _ order.Scope) Feed { return &feed{process: leases{"dead": p1, "well": p2}[n]} }
		ports.Log = func(n string) Log { return &doneLog{process: leases{"dead": p1, "well": p2}[n]} }
		d, err := New(Config{MaxAge: testAge, Drain: time.Second}, ports, []Destination{
			{Name: "dead", Fingerprint: "1", Sender: dead}, {Name: "well", Fingerprint: "2", Sender: well},
		}, nil, prometheus.NewRegistry())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		for n := range 500 {
			put(s1, spec{content: n})
			put(s2, spec{content: n})
		}
		synctest.Wait()
		require.Len(t, well.all(), 500)
		cancel()
		require.NoError(t, <-ended)
	})
	require.Equal(t, 500, count(s2, ledger.Delivered))
}

type leases map[string]*process

func (l leases) Hold(ctx context.Context, name string, f func(context.Context, func() bool) error) error {
	return l[name].Hold(ctx, name, f)
}

func TestNewRefusesWhatCanNotWork(t *testing.T) {
	p := &process{store: newStore()}
	reg := prometheus.NewRegistry()
	_, err := New(Config{}, Ports{}, nil, nil, reg)
	require.ErrorContains(t, err, "port")
	_, err = New(Config{Window: 1, RetryMin: time.Hour, InFlight: -1}, p.ports(), []Destination{{}}, nil, reg)
	for _, text := range []string{"window", "retry_max", "in_flight", "incomplete"} {
		require.ErrorContains(t, err, text)
	}
	two := Destination{Name: "a", Fingerprint: "f", Sender: &sink{}}
	_, err = New(Config{}, p.ports(), []Destination{two, two}, nil, reg)
	require.ErrorContains(t, err, "two destinations")
}
