package egress

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

const testAge = 2 * time.Second

// spec is one order to make.
type spec struct {
	content  int // what it says
	key      int // replacement key, 0: none
	nonce    uint64
	origin   string
	priority order.Priority
	age      time.Duration // to the deadline
}

func (s spec) order() *order.Order {
	now := time.Now()
	if s.priority == 0 {
		s.priority = order.PriorityMedium
	}
	if s.age == 0 {
		s.age = testAge
	}
	o := &order.Order{
		Accept: order.NewAcceptID(now), ID: sha256.Sum256(fmt.Appendf(nil, "%d/%d/%d", s.content, s.key, s.nonce)),
		Key: sha256.Sum256(fmt.Appendf(nil, "%d/%d", s.content, s.key)), Hash: common.Hash{1}, Method: order.MethodSendBundle,
		Kind: order.KindBundle, Priority: s.priority, Origin: s.origin, ReceivedAt: now, Deadline: now.Add(s.age),
		Nonce: s.nonce, Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{}]}`),
	}
	if s.key != 0 {
		o.Replacement = order.UUID{byte(s.key)}
	}
	return o
}

// running is a dispatcher with one target over a store.
type running struct {
	*process
	d    *Dispatcher
	stop func()
}

func run(tb testing.TB, s *store, to Sender, cfg Config) *running {
	tb.Helper()
	if cfg.MaxAge == 0 {
		cfg.MaxAge = testAge
	}
	p := &process{store: s}
	d, err := New(cfg, p.ports(), []Destination{{Name: "b", Fingerprint: "f", Sender: to}}, nil, prometheus.NewRegistry())
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return &running{process: p, d: d, stop: func() {
		cancel()
		require.NoError(tb, <-ended)
	}}
}

type action struct {
	at    time.Duration
	order *spec
	kill  bool // the process dies, the next one takes over
	lose  bool // the lease is lost
	fail  time.Duration
	drop  time.Duration // acknowledgements are lost for so long
}

func actions(t *rapid.T) []action {
	n := rapid.IntRange(1, 60).Draw(t, "orders")
	var as []action
	at := func(label string) time.Duration {
		return time.Duration(rapid.IntRange(0, 3000).Draw(t, label)) * time.Millisecond
	}
	for range n {
		s := spec{
			content:  rapid.IntRange(1, 12).Draw(t, "content"),
			priority: rapid.SampledFrom(order.Priorities[:]).Draw(t, "class"),
			origin:   rapid.SampledFrom([]string{"", "", "", "peer"}).Draw(t, "origin"),
		}
		if rapid.Bool().Draw(t, "replaceable") {
			s.key = rapid.IntRange(1, 3).Draw(t, "key")
			s.nonce = uint64(rapid.IntRange(1, 6).Draw(t, "nonce"))
		}
		as = append(as, action{at: at("at"), order: &s})
	}
	for range rapid.IntRange(0, 3).Draw(t, "faults") {
		a := action{at: at("fault at")}
		switch rapid.IntRange(1, 4).Draw(t, "fault") {
		case 1:
			a.kill = true
		case 2:
			a.lose = true
		case 3:
			a.fail = time.Duration(rapid.IntRange(1, 1500).Draw(t, "ms")) * time.Millisecond
		default:
			a.drop = time.Duration(rapid.IntRange(1, 1500).Draw(t, "ms")) * time.Millisecond
		}
		as = append(as, a)
	}
	return as
}

// replies is a target with its moods: it takes, refuses, is busy or away; what it loses it may have.
func replies(t *rapid.T) func(int, Attempt) (Result, time.Duration) {
	seed := rapid.Uint64().Draw(t, "seed")
	awayFrom := time.Duration(rapid.IntRange(0, 3000).Draw(t, "away from")) * time.Millisecond
	awayTo := awayFrom + time.Duration(rapid.IntRange(0, 3000).Draw(t, "away for"))*time.Millisecond
	good := rapid.IntRange(0, 100).Draw(t, "good")
	rng := rand.New(rand.NewPCG(seed, 1))
	var began time.Time
	return func(_ int, _ Attempt) (Result, time.Duration) {
		if began.IsZero() {
			began = time.Now()
		}
		delay := time.Duration(rng.IntN(200)) * time.Millisecond
		if e := time.Since(began); e >= awayFrom && e < awayTo {
			return Result{Verdict: Unreachable, Text: "refused"}, 0
		}
		if rng.IntN(100) < good {
			return Result{Verdict: Accepted, Status: 200}, delay
		}
		switch rng.IntN(4) {
		case 0:
			return Result{Verdict: Rejected, RPCCode: -32000, Text: "no"}, delay
		case 1:
			return Result{Verdict: Busy, Status: 503, RetryAfter: time.Duration(rng.IntN(300)) * time.Millisecond}, delay
		case 2:
			return Result{Verdict: Unreachable}, 0
		default:
			return Result{Verdict: Lost}, delay
		}
	}
}

// TestEveryOrderEndsOnceWhateverHappens covers rules 2, 8, 10 to 16 together: random orders, answers,
// deaths of the owner, lost leases, lost acknowledgements and a ledger that is away.
func TestEveryOrderEndsOnceWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		as := actions(rt)
		to := &sink{reply: replies(rt)}
		window := rapid.SampledFrom([]int{64, 256}).Draw(rt, "window")
		cache := rapid.SampledFrom([]int64{1, 1 << 20}).Draw(rt, "cache")
		ahead := rapid.Bool().Draw(rt, "tapped")
		var fault error
		synctest.Test(t, func(t *testing.T) {
			fault = play(t, as, to, ahead, Config{Window: window, CacheBytes: cache, Drain: 100 * time.Millisecond})
		})
		if fault != nil {
			rt.Fatal(fault)
		}
	})
}

func play(t *testing.T, as []action, to *sink, ahead bool, cfg Config) error {
	t.Helper()
	s := newStore()
	s.ahead = ahead
	r := run(t, s, to, cfg)
	stored := map[order.AcceptID]*order.Order{}
	for _, a := range as {
		time.AfterFunc(a.at, func() {
			switch {
			case a.order != nil:
				o := a.order.order()
				s.set(func(*store) { stored[o.Accept] = o })
				s.put(o)
			case a.fail > 0:
				s.set(func(s *store) { s.refuse = errors.New("away") })
				time.AfterFunc(a.fail, func() { s.set(func(s *store) { s.refuse = nil }) })
			case a.drop > 0:
				s.set(func(s *store) { s.ackLoss = true })
				time.AfterFunc(a.drop, func() { s.set(func(s *store) { s.ackLoss = false }) })
			}
		})
	}
	var faults []action
	for _, a := range as {
		if a.kill || a.lose {
			faults = append(faults, a)
		}
	}
	began := time.Now()
	for len(faults) > 0 {
		first := 0
		for i := range faults {
			if faults[i].at < faults[first].at {
				first = i
			}
		}
		a := faults[first]
		faults = append(faults[:first], faults[first+1:]...)
		time.Sleep(a.at - time.Since(began))
		if a.lose {
			r.lose()
			continue
		}
		r.kill()
		r.stop()
		r = run(t, s, to, cfg)
	}
	time.Sleep(3*time.Second - time.Since(began))
	time.Sleep(3 * testAge)
	r.stop()
	return verify(s, to, stored)
}

// verify checks the promises.
func verify(s *store, to *sink, stored map[order.AcceptID]*order.Order) error {
	ends := map[order.AcceptID]ledger.Entry{}
	for _, e := range s.entries() {
		if before, ok := ends[e.Accept]; ok {
			return fmt.Errorf("two records for %s: %s and %s", e.Accept, before.Outcome, e.Outcome)
		}
		ends[e.Accept] = e
		if stored[e.Accept] == nil {
			return fmt.Errorf("a record for the unknown %s", e.Accept)
		}
	}
	for a := range stored {
		if _, ok := ends[a]; !ok {
			return fmt.Errorf("no record for %s", a)
		}
	}
	for _, e := range ends {
		if err := verifyEnd(e, ends); err != nil {
			return err
		}
	}
	if to.twice > 0 {
		return fmt.Errorf("%d times two requests of one replacement key at once", to.twice)
	}
	if err := verifySends(to.all()); err != nil {
		return fmt.Errorf("%w\n%s", err, story(to.all(), ends))
	}
	return nil
}

// verifyEnd checks what a record says of another order.
func verifyEnd(e ledger.Entry, ends map[order.AcceptID]ledger.Entry) error {
	of, ok := ends[e.Of]
	switch e.Outcome {
	case ledger.Delivered, ledger.Refused, ledger.Expired:
		return nil
	case ledger.Duplicate:
		if !ok || (of.Outcome != ledger.Delivered && of.Outcome != ledger.Refused) || (of.ID != e.ID && (of.Key != e.Key || of.Origin == e.Origin)) {
			return fmt.Errorf("duplicate of %s %s", of.Outcome, e.Of)
		}
	case ledger.Superseded:
		if !ok || of.Nonce < e.Nonce || of.Origin != e.Origin || of.Replacement != e.Replacement {
			return fmt.Errorf("nonce %d superseded by nonce %d, %s", e.Nonce, of.Nonce, of.Outcome)
		}
	default:
		return fmt.Errorf("ended %s", e.Outcome)
	}
	return nil
}

func verifySends(sends []send) error {
	type named struct {
		id     order.ID
		origin string
	}
	had := map[named]time.Time{}
	taken := map[order.ReplacementKey]map[order.ID]send{}
	for i, c := range sends {
		if !c.at.Before(c.o.Deadline) {
			return fmt.Errorf("send %d after its deadline", i)
		}
		n := named{c.o.ID, c.o.Origin}
		// What ended longer ago than max_age is forgotten, by design (rule 2).
		remembered := func(at time.Time) bool { return c.at.Before(at.Add(testAge)) }
		if at, ok := had[n]; ok && remembered(at) && !c.repeat {
			return fmt.Errorf("send %d repeats what was taken, unmarked", i)
		}
		key, replaces := c.o.ReplacementKey()
		if replaces && taken[key] == nil {
			taken[key] = map[order.ID]send{}
		}
		for id, high := range taken[key] {
			if remembered(high.at) && (c.o.Nonce < high.o.Nonce || (c.o.Nonce == high.o.Nonce && id != c.o.ID && !c.repeat)) {
				return fmt.Errorf("send %d (%s) has nonce %d after %d", i, c.o.Accept, c.o.Nonce, high.o.Nonce)
			}
		}
		switch c.verdict {
		case Accepted:
			had[n] = c.at
			if replaces {
				taken[key][c.o.ID] = c
			}
		case Rejected: // also of a repeat: the target does not have it then
			delete(had, n)
			delete(taken[key], c.o.ID)
		default:
		}
	}
	return nil
}

// story tells what happened to replaceable orders, for a failed run.
func story(sends []send, ends map[order.AcceptID]ledger.Entry) string {
	var b strings.Builder
	for i, c := range sends {
		e := ends[c.o.Accept]
		fmt.Fprintf(&b, "%3d %s %s origin=%q key=%x nonce=%d id=%x %s repeat=%t n=%d; ended %s at %s ambiguous=%t\n", i, c.at.Format("05.000"), c.o.Accept,
			c.o.Origin, c.o.Replacement[0], c.o.Nonce, c.o.ID[:3], c.verdict, c.repeat, c.number, e.Outcome, e.DoneAt.Format("05.000"), e.Ambiguous)
	}
	return b.String()
}
