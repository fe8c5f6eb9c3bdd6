package feed

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

func TestDroppedLogsComeAgainNewestFirstAndThenTheNewOnes(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	c := r.subscribe(`["logs",{}]`)
	chain := blocks(genesis, "a1*1", "a2*2", "a3*1")
	n.add(chain...)
	c.sees("a1.0", "a2.0", "a2.1", "a3.0")
	n.jump(blocks(chain[0], "b2*1", "b3", "b4*1")...)
	c.sees("a1.0", "a2.0", "a2.1", "a3.0", "-a3.0", "-a2.1", "-a2.0", "b2.0", "b4.0")
	n.jump(append(chain[1:3:3], blocks(chain[2], "a4", "a5")...)...) // and back
	c.sees("a1.0", "a2.0", "a2.1", "a3.0", "-a3.0", "-a2.1", "-a2.0", "b2.0", "b4.0",
		"-b4.0", "-b2.0", "a2.0", "a2.1", "a3.0")
}

func TestEqualFiltersAreOneHoweverTheyAreWritten(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	const address = `0x00000000000000000000000000000000000000AA`
	const first = `0x0000000000000000000000000000000000000000000000000000000000000001`
	a := r.subscribe(`["logs",{"address":"` + address + `","topics":["` + first + `"]}]`)
	b := r.subscribe(`["logs",{"topics":[["` + first + `","` + first + `"]],"address":["0x00000000000000000000000000000000000000aa"],"toBlock":"latest"}]`)
	n.add(blocks(genesis, "a1*1")...)
	a.sees("a1.0")
	b.sees("a1.0")
	require.Equal(t, 1, n.questions("eth_getLogs"))
}

func TestBlocksThatHaveNothingForAFilterAreNotAskedFor(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	c := r.subscribe(`["logs",{"address":"0x00000000000000000000000000000000000000aa"}]`)
	other := r.subscribe(`["logs",{"address":"0x00000000000000000000000000000000000000bb"}]`)
	later := r.subscribe(`["logs",{"fromBlock":"0x3"}]`)
	n.add(blocks(genesis, "a1", "a2*1", "a3*1")...)
	c.sees("a2.0", "a3.0")
	later.sees("a3.0")
	require.Empty(t, other.all())
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.skipped) == 6 }, patience, time.Millisecond)
	require.Equal(t, 3, n.questions("eth_getLogs"))
}

func TestAClientGetsNoLogsOfBlocksBeforeItCame(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	first := r.subscribe(`["logs"]`)
	chain := blocks(genesis, "a1*1", "a2*1")
	n.add(chain[0])
	first.sees("a1.0")
	second := r.subscribe(`["logs"]`)
	n.add(chain[1])
	second.sees("a2.0")
	n.jump(blocks(genesis, "b1", "b2", "b3")...)
	second.sees("a2.0", "-a2.0", "-a1.0") // as geth does: who listens is told what is gone
}

func TestLogsAreAskedForUntilANodeHasTheBlock(t *testing.T) {
	a, b := newNode(t), newNode(t)
	r := open(t, []*fakeNode{b, a}) // b is asked first
	require.Eventually(t, func() bool { return a.subscriptions(heads)+b.subscriptions(heads) == 1 }, patience, time.Millisecond)
	c := r.subscribe(`["logs"]`)
	chain := blocks(genesis, "a1*1", "a2*1")
	a.learn(chain...)
	b.set(func(n *fakeNode) { n.head = chain[1] }) // it says it is there, but has no blocks
	b.announce(chain[1])
	require.Eventually(t, func() bool { return b.questions("eth_getLogs") > 2 || len(c.all()) > 0 }, patience, time.Millisecond)
	b.learn(chain...)
	c.sees("a1.0", "a2.0")
}

func TestLogsThatAreNowhereEndTheSubscription(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n}, func(c *Config) { c.Patience = 20 * time.Millisecond })
	c, h := r.subscribe(`["logs"]`), r.subscribe(heads)
	b := blocks(genesis, "a1*1")[0]
	n.set(func(n *fakeNode) { n.head = b })
	n.announce(b)
	h.sees("a1")
	require.Eventually(t, func() bool { return c.ended() != nil }, patience, time.Millisecond)
	require.ErrorIs(t, c.ended(), rpcapi.ErrSubscriptionGap)
	require.NoError(t, h.ended())
}

func TestAGroupIsForgottenOnceItsLastClientHasBeenGoneForAWhile(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n}, func(c *Config) { c.Linger = 50 * time.Millisecond })
	const pending = `["newPendingTransactions"]`
	c := r.subscribe(pending)
	require.Eventually(t, func() bool { return n.subscriptions(pending) == 1 }, patience, time.Millisecond)
	c.sub.Close()
	c = r.subscribe(pending)
	n.say(pending, `"0x01"`)
	c.sees(`"0x01"`)
	require.Equal(t, 2, n.subs, "newHeads and one of pending transactions")
	c.sub.Close()
	require.Eventually(t, func() bool { return n.subscriptions(pending) == 0 }, patience, time.Millisecond)
	require.Zero(t, testutil.ToFloat64(r.metrics.groups))
	require.Equal(t, 1, n.subscriptions(heads))
}

func TestALingeringGroupKeepsItsUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		f := &Feed{groups: map[string]*group{}}
		f.config.Store(&cfg)
		f.metrics = newMetricsFor(t)
		f.chain.reset(&header{})
		g := newGroup(spec{kind: kindLogs, key: "k", filter: &filter{}}, f.metrics.kinds[kindLogs], 1)
		f.groups["k"] = g
		ended := make(chan struct{})
		go func() { defer close(ended); f.tend(t.Context(), g) }()
		for range 3 {
			m := g.join(nil, 0)
			time.Sleep(time.Hour)
			m.Close()
			time.Sleep(cfg.Linger - time.Second)
			synctest.Wait()
			f.mu.Lock()
			require.Len(t, f.groups, 1)
			f.mu.Unlock()
		}
		time.Sleep(2 * time.Second)
		<-ended
		require.Empty(t, f.groups)
	})
}

func TestARemovedLogIsTheSameButForThat(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1,"removed":false,"b":[1, 2]}`: `{"a":1,"b":[1, 2],"removed":true}`,
		`{}`:                                 `{"removed":true}`,
		` { "x" : {"removed":false} } `:      `{"x":{"removed":false},"removed":true}`,
	} {
		got, err := removed([]byte(in))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	for _, in := range []string{``, `[]`, `{"a"`, `{"a":1`, `{"a":}`} {
		_, err := removed([]byte(in))
		require.ErrorIs(t, err, errMalformed, in)
	}
}

func TestTheBookKeepsItsBounds(t *testing.T) {
	b := newBook(10)
	log := func(n int) []jsontext.Value { return []jsontext.Value{make([]byte, n)} }
	b.note(hashOf("a"), log(6))
	b.note(hashOf("b"), log(6))
	_, err := b.take(hashOf("a"))
	require.ErrorIs(t, err, rpcapi.ErrSubscriptionGap, "it was let go")
	logs, err := b.take(hashOf("b"))
	require.NoError(t, err)
	require.Len(t, logs, 1)
	logs, err = b.take(hashOf("c"))
	require.NoError(t, err)
	require.Empty(t, logs)
	require.Zero(t, b.used)
	for i := range 2 * keepHeaders {
		b.note(hashOf(fmt.Sprint(i)), log(0))
	}
	require.LessOrEqual(t, len(b.kept), keepHeaders+1)
	require.Len(t, b.kept, len(b.order))
}

func FuzzRemoved(f *testing.F) {
	f.Add([]byte(`{"removed":false,"a":[{}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := removed(in)
		if err != nil {
			return
		}
		require.True(t, json.Valid(out), string(out))
	})
}
