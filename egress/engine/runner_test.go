package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/egress/engine/compare"
	"millrace/internal/eltest"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

const sample = "../../internal/eltest/testdata/sample.jsonl"

// capture is the record of real calls over six forks.
func capture(t *testing.T) *memory {
	t.Helper()
	f, err := os.Open(sample)
	require.NoError(t, err)
	defer f.Close()
	log, n := newMemory(), uint64(0)
	for p, err := range record.ReadPairs(f) {
		require.NoError(t, err)
		calls, _, err := engineapi.ParseCalls(p.Request)
		require.NoError(t, err)
		n++
		request := record.NewRequest(record.ID{Epoch: 1, Sequence: n}, p.Time, calls[0])
		outcome := &record.Outcome{
			ID: request.ID, Method: request.Method, HTTPStatus: p.HTTPStatus, Eligible: true,
			Result: engineapi.ParseResult(p.HTTPStatus, p.Answer), Duration: time.Duration(p.Micros) * time.Microsecond,
		}
		if request.Class == engineapi.ClassPayload {
			outcome.Built = record.ParseBuilt(request.Call().PayloadID(), p.Answer)
		}
		log.append(request, nil)
		log.append(nil, outcome)
	}
	return log
}

func runner(t *testing.T, log Log, g Range, w *wire) *Runner {
	t.Helper()
	r, err := NewRunner(DefaultConfig(), g, log, Target{
		Name: "new", Role: Secondary, Address: "http://new:8551", Caller: w,
	}, wallClock{}, discard())
	require.NoError(t, err)
	return r
}

// geth answers the engine calls that a capture of geth holds with geth's own bytes.
func geth(t *testing.T) *wire {
	t.Helper()
	f := eltest.NewFake(eltest.Config{})
	all, err := os.ReadFile(sample)
	require.NoError(t, err)
	var script bytes.Buffer
	for line := range bytes.Lines(all) {
		if !bytes.Contains(line, []byte(`"method":"eth_`)) { // where the head is follows from the calls
			script.Write(line)
		}
	}
	require.NoError(t, f.Script(&script))
	return &wire{f: f}
}

func TestI14ACaptureReplayedToAFreshClientHasNoMismatch(t *testing.T) {
	for _, play := range []Play{PlayPath, PlayVerbatim, PlayPayloads, PlayBuild} {
		t.Run(play.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := geth(t)
				r := runner(t, capture(t), Range{Play: play}, w)
				var lines bytes.Buffer
				last, total := 0, 0
				r.Progress = func(done, of int) { last, total = done, of }
				r.Out = func(p Played) error {
					b, err := p.AppendTo(nil)
					lines.Write(b)
					return err
				}
				sum, err := r.Run(t.Context())
				require.NoError(t, err)
				require.Zero(t, sum.Mismatches(), "%v", sum.Classes)
				require.False(t, sum.Critical())
				require.Greater(t, w.f.Head().Number, uint64(10))
				require.Equal(t, sum.Want, w.f.Head().Hash)
				require.Equal(t, total, last)
				require.NotEmpty(t, sum.Latencies)
				n := 0
				for p, err := range record.ReadPairs(&lines) {
					require.NoError(t, err)
					require.Equal(t, "new", p.Target)
					require.NotContains(t, string(p.Request), "eyJ")
					n++
				}
				require.GreaterOrEqual(t, n, sum.Sent)
				switch play {
				case PlayVerbatim:
					require.Equal(t, sum.Recorded, sum.Sent)
					require.Equal(t, sum.Sent, sum.Classes["ok"])
				case PlayBuild:
					require.NotEmpty(t, sum.Built)
				default:
					require.Less(t, sum.Sent, sum.Recorded)
				}
				_, err = json.Marshal(sum)
				require.NoError(t, err)
			})
		})
	}
}

func TestI14ACaptureThroughALiveSecondaryHasNoMismatch(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		b.log = capture(t)
		b.epoch = 2
		k := newKit(b, eltest.Config{})
		k.start()
		defer k.stop()
		k.after(10 * time.Second)
		s := k.r.Status()
		require.Equal(t, Live, s.State, s.Reason)
		require.Equal(t, s.Want, k.client.f.Head().Hash)
		require.Empty(t, k.events.list())
	})
}

func TestARangeKeepsItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			rate float64
			want time.Duration
		}{{1, 7 * time.Second}, {10, 700 * time.Millisecond}, {0, 0}} {
			r := runner(t, capture(t), Range{Play: PlayVerbatim, Rate: c.rate}, geth(t))
			sum, err := r.Run(t.Context())
			require.NoError(t, err)
			require.InDelta(t, c.want.Seconds(), sum.Elapsed.Seconds(), max(c.want.Seconds()/10, 0.01))
		}
	})
}

func TestCheckpointsOfOurOwnDoNotWaitForTheRangesEnd(t *testing.T) {
	inBubble(t, func(b *bench) {
		t := b.t
		block := b.head
		for range 6 {
			block = b.child(block)
			b.payload(block)
			time.Sleep(time.Second) // the bubble's time
		}
		b.choose(block)
		cfg := DefaultConfig()
		cfg.Checkpoint = 2
		k := newKit(b, eltest.Config{})
		r, err := NewRunner(cfg, Range{Play: PlayPath, Rate: 1}, b.log, k.target, wallClock{}, discard())
		require.NoError(t, err)
		begun := time.Now()
		var at []time.Duration
		k.client.hook(func(c engineapi.Call) error {
			if c.Class() == engineapi.ClassReplay {
				at = append(at, time.Since(begun))
			}
			return nil
		}, nil)
		_, err = r.Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, []time.Duration{0, 1 * time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second}, at)
	})
}

func TestPreconditionsAreCheckedBeforeTheFirstWrite(t *testing.T) {
	log := capture(t)
	for name, c := range map[string]struct {
		prepare func(w *wire)
		cfg     eltest.Config
		reach   Range
		want    error
	}{
		"another chain":  {cfg: eltest.Config{ChainID: 5}, reach: Range{Play: PlayPath, Identity: &Identity{ChainID: eltest.DefaultChainID, Genesis: eltest.GenesisBlock.Hash}}, want: ErrWrongChain},
		"another base":   {cfg: eltest.Config{Genesis: eltest.Block{Hash: common.Hash{1}}}, reach: Range{Play: PlayVerbatim}, want: ErrBase},
		"an empty range": {reach: Range{Play: PlayPath, Until: 2}, want: ErrEmptyRange},
		"a gap":          {reach: Range{Play: PlayPath, From: 40}, want: ErrBase},
		"nobody there":   {prepare: func(w *wire) { w.setDown(true) }, reach: Range{Play: PlayPath}, want: errUnreachable},
		"another writer": {prepare: func(w *wire) {
			n := 0
			w.hook(func(c engineapi.Call) error {
				if c.Method == "eth_getBlockByNumber" {
					if n++; n == 3 {
						alien := eltest.Child(eltest.GenesisBlock, 5)
						w.f.Add(alien)
						w.f.SetHead(alien.Hash)
					}
				}
				return nil
			}, nil)
		}, reach: Range{Play: PlayPath}, want: ErrForeignWriter},
	} {
		t.Run(name, func(t *testing.T) {
			w := &wire{f: eltest.NewFake(c.cfg)}
			if c.prepare != nil {
				c.prepare(w)
			}
			_, err := runner(t, log, c.reach, w).Run(t.Context())
			require.ErrorIs(t, err, c.want)
			require.Empty(t, w.f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice))
		})
	}
}

func TestARangeThatBeginsBelowTheClientsHeadIsReplayed(t *testing.T) {
	log := capture(t)
	w := geth(t)
	_, err := runner(t, log, Range{Play: PlayPath}, w).Run(t.Context())
	require.NoError(t, err)
	sum, err := runner(t, log, Range{Play: PlayVerbatim}, w).Run(t.Context())
	require.NoError(t, err)
	require.Zero(t, sum.Mismatches())
	require.True(t, sum.EqualHeads())
}

func TestACriticalDifferenceIsListedAndReproducedByItsPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := capture(t)
		w := &wire{f: eltest.NewFake(eltest.Config{})}
		var bad common.Hash
		for _, e := range log.entries {
			if e.Request != nil && e.Request.Payload != nil && e.Request.Payload.Number == 5 {
				bad = e.Request.Payload.Hash
			}
		}
		w.f.Reject(bad)
		sum, err := runner(t, log, Range{Play: PlayVerbatim}, w).Run(t.Context())
		require.NoError(t, err)
		require.True(t, sum.Critical())
		require.False(t, sum.EqualHeads())
		first := sum.Divergences[0]
		require.Equal(t, compare.Critical, first.Class)
		require.Equal(t, bad, first.Root)
		for _, d := range sum.Divergences {
			require.Equal(t, bad, d.Root, "one root")
		}
		again, err := runner(t, log, Range{Play: PlayVerbatim, From: first.Sequence, Until: first.Sequence}, w).Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, again.Sent)
		require.True(t, again.Critical())

		_, err = runner(t, log, Range{Play: PlayPath}, w).Run(t.Context())
		require.ErrorIs(t, err, ErrStopped)
	})
}

func TestAWriterThatFailsEndsTheReplay(t *testing.T) {
	full := errors.New("disk full")
	r := runner(t, capture(t), Range{Play: PlayVerbatim}, geth(t))
	r.Out = func(Played) error { return full }
	sum, err := r.Run(t.Context())
	require.ErrorIs(t, err, full)
	require.Equal(t, 1, sum.Sent)
}

func TestFaultsOfARangeAreNamedAtOnce(t *testing.T) {
	now := time.Now()
	g := Range{Rate: -1, From: 7, Until: 3, After: now, Before: now}
	err := g.Validate()
	for _, want := range []string{"mode", "rate", "ends at 3", "before it begins"} {
		require.ErrorContains(t, err, want)
	}
	var p Play
	require.NoError(t, p.UnmarshalText([]byte("payload-only")))
	require.Equal(t, PlayPayloads, p)
	require.Error(t, p.UnmarshalText([]byte("x")))
}
