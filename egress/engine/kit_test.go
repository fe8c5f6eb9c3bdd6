package engine

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/egress/engine/chain"
	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

// kit is a replayer under test.
type kit struct {
	*bench
	client *wire
	r      *Replayer
	reg    *prometheus.Registry
	ends   []func()
	cfg    Config
	target Target
	ports  Ports
	events *events
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// events keeps divergences.
type events struct {
	mu  sync.Mutex
	all []Divergence
}

func (e *events) Publish(_ context.Context, _ string, d Divergence) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, d)
	return nil
}

func (e *events) list() []Divergence {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// cursors keeps cursors.
type cursors struct {
	mu   sync.Mutex
	at   map[string]uint64
	save func() error
}

func (c *cursors) Load(_ context.Context, target string) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[target], nil
}

func (c *cursors) Save(_ context.Context, target string, at uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.save != nil {
		if err := c.save(); err != nil {
			return err
		}
	}
	if c.at == nil {
		c.at = map[string]uint64{}
	}
	c.at[target] = at
	return nil
}

func newKit(b *bench, cfg eltest.Config) *kit {
	if cfg.Name == "" {
		cfg.Name = "SE"
	}
	k := &kit{bench: b, client: &wire{f: eltest.NewFake(cfg)}, cfg: DefaultConfig(), events: &events{}}
	k.target = Target{Name: "second", Role: Secondary, Address: "http://second:8551", Caller: k.client}
	k.ports = Ports{
		Clock: wallClock{}, Divergences: k.events, Cursors: &cursors{},
		Chain: NewPrimaryChain(k.cfg, b.primary),
	}
	return k
}

// start runs a replayer over a tape of its own until stop or the end of the test.
func (k *kit) start() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.t.Context()))
	tape := NewTape(k.cfg, k.log, wallClock{}, discard(), k.target.Also...)
	k.reg = prometheus.NewRegistry()
	r, err := New(k.cfg, k.target, tape, k.ports, NewMetrics(k.reg), discard())
	require.NoError(k.t, err)
	k.r = r
	var wg sync.WaitGroup
	wg.Go(func() { _ = tape.Run(ctx) })
	wg.Go(func() { _ = r.Run(ctx) })
	k.ends = append(k.ends, func() {
		cancel()
		wg.Wait()
	})
}

func (k *kit) stop() {
	for _, end := range k.ends {
		end()
	}
	k.client.f.Recover() // what hangs ends
	k.ends = nil
}

// after lets time pass, in which everything that can happen does.
func (k *kit) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// caughtUp waits until client and primary have one head, and is how it ended.
func (k *kit) caughtUp(within time.Duration) Status {
	k.t.Helper()
	for range 100 {
		k.after(within / 100)
		if k.client.f.Head() == k.primary.f.Head() && k.r.Status().State == Live {
			break
		}
	}
	s := k.r.Status()
	require.Equal(k.t, k.primary.f.Head().Number, k.client.f.Head().Number, "state %s %s", s.State, s.Reason)
	require.Equal(k.t, k.primary.f.Head(), k.client.f.Head(), "state %s %s", s.State, s.Reason)
	require.Equal(k.t, Live, s.State, s.Reason)
	return s
}

// inBubble runs a test on virtual time.
func inBubble(t *testing.T, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newBench(t)) })
}

// judgeCalls checks what a client that follows may be sent, in the order that it was sent: I2, I3,
// I4, I5 and I6.
func judgeCalls(t *testing.T, b *bench, calls []eltest.Seen, start common.Hash) {
	t.Helper()
	bodies := map[string][]uint64{}
	for _, e := range b.log.entries {
		if e.Request != nil && e.Request.Class == engineapi.ClassForkchoice {
			body, err := e.Request.Call().WithoutAttributes()
			require.NoError(t, err)
			bodies[string(body)] = append(bodies[string(body)], e.Request.Sequence)
		}
	}
	valid := map[common.Hash]bool{start: true}
	parents := map[common.Hash]common.Hash{}
	for _, block := range b.tree {
		parents[block.Hash] = block.Parent
	}
	for h := start; h != (common.Hash{}); h = parents[h] {
		valid[h] = true
	}
	last := uint64(0)
	above := map[common.Hash]int{}
	for _, s := range calls {
		switch s.Call.Class() {
		case engineapi.ClassPayload:
			require.Fail(t, "I2: getPayload was sent")
		case engineapi.ClassReplay:
			p, err := s.Call.Payload()
			require.NoError(t, err)
			require.True(t, valid[p.Parent], "I4: parent of block %d was not valid", p.Number)
			if engineapi.ParseResult(s.HTTPStatus, s.Answer).Verdict() == engineapi.Valid {
				if !valid[p.Hash] {
					above[p.Hash] = above[p.Parent] + 1
				}
				valid[p.Hash] = true
				require.LessOrEqual(t, above[p.Hash], chain.DefaultCheckpoint, "I6: payloads without a forkchoice")
			}
		case engineapi.ClassForkchoice:
			f, err := s.Call.Forkchoice()
			require.NoError(t, err)
			require.False(t, f.Attributes, "I2: attributes were sent")
			require.Equal(t, 2, f.Arity, "I2: arity")
			require.True(t, valid[f.Head], "I5: head was not valid")
			clear(above)
			if own := strings.Contains(string(s.Call.Raw), `"jsonrpc":"2.0","id":770007,`); own {
				at := slices.IndexFunc(bodies[string(s.Call.Raw)], func(n uint64) bool { return n >= last })
				require.GreaterOrEqual(t, at, 0, "I3: forkchoice out of order")
				last = bodies[string(s.Call.Raw)][at]
			}
		default:
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
