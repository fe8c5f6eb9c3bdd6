package replay

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
	"millrace/internal/retry"
)

func TestSpacingIsKeptAndScaled(t *testing.T) {
	for _, c := range []struct {
		speed float64
		want  time.Duration
	}{{1, time.Hour}, {5, 12 * time.Minute}, {0.5, 2 * time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			to := &target{}
			begun := time.Now()
			rep := run(t, Config{Speed: c.speed}, tape{plain(t, 1, 0), plain(t, 2, time.Minute), plain(t, 3, time.Hour)}, to)
			require.Len(t, to.shots, 3)
			require.Equal(t, time.Duration(float64(time.Minute)/c.speed), to.shots[1].at.Sub(begun))
			require.Equal(t, c.want, to.shots[2].at.Sub(begun))
			require.Zero(t, rep.Late)
			require.Equal(t, c.want, rep.Elapsed)
			require.NoError(t, rep.Err())
		})
	}
}

func TestASlowTargetDelaysNoLaterOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &target{}
		to.answer = func(ctx context.Context, _ Request) Answer {
			retry.Pause(ctx, 30*time.Second)
			return Answer{Outcome: Accepted}
		}
		begun := time.Now()
		var in tape
		for i := range 20 {
			in = append(in, plain(t, uint64(i+1), time.Duration(i)*time.Second))
		}
		rep := run(t, Config{Speed: 1}, in, to)
		for i, s := range to.shots {
			require.Equal(t, time.Duration(i)*time.Second, s.at.Sub(begun))
		}
		require.Zero(t, rep.Late)
		require.Equal(t, 20, rep.Accepted)
		require.InDelta(t, 30e6, rep.Latency.P50, 30e6/500)
	})
}

func TestWhatFindsNoConnectionIsLateAndWaitsNoShorterForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &target{answer: func(ctx context.Context, _ Request) Answer {
			retry.Pause(ctx, 10*time.Second)
			return Answer{Outcome: Accepted}
		}}
		var in tape
		for i := range 4 {
			in = append(in, plain(t, uint64(i+1), time.Duration(i)*time.Second))
		}
		rep := run(t, Config{Speed: 1, Connections: 2}, in, to)
		require.Equal(t, 2, to.peak)
		require.Equal(t, 2, rep.Late)
		require.Equal(t, 8*time.Second, rep.MaxLag)
		require.InDelta(t, 18e6, rep.Latency.Max, 18e6/500, "from its time, not from its request")
		require.NoError(t, rep.Err(), "late is no loss")
	})
}

func TestMaxIsAsFastAsAnsweredOverBoundedConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &target{answer: func(ctx context.Context, _ Request) Answer {
			retry.Pause(ctx, time.Second)
			return Answer{Outcome: Accepted}
		}}
		var in tape
		for i := range 100 {
			in = append(in, plain(t, uint64(i+1), time.Duration(i)*time.Hour))
		}
		rep := run(t, Config{Connections: 10}, in, to)
		require.Equal(t, 10, to.peak)
		require.Equal(t, 10*time.Second, rep.Elapsed)
		require.Zero(t, rep.Late)
		require.InDelta(t, 1e6, rep.Latency.Max, 1e6/500)
	})
}

func TestClassesAreReplayedInTheOrderOfReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &target{}
		// High was copied into the record late.
		in := tape{plain(t, 1, 0), plain(t, 2, 20*time.Millisecond), plain(t, 3, 40*time.Millisecond), plain(t, 4, 10*time.Millisecond), plain(t, 5, 30*time.Millisecond)}
		run(t, Config{Speed: 1}, in, to)
		var got []time.Duration
		for _, s := range to.shots {
			got = append(got, s.order.ReceivedAt.Sub(epoch())/time.Millisecond)
		}
		require.Equal(t, []time.Duration{0, 10, 20, 30, 40}, got)
	})
}

func TestReorderingIsBounded(t *testing.T) {
	var got int
	r := reorder{to: func(order.Delivery) error { got++; return nil }}
	d := plain(t, 1, 0)
	for range maxHeld + 10 {
		require.NoError(t, r.add(d))
	}
	require.Equal(t, 10, got)
	d.Size = maxHeldBytes
	require.NoError(t, r.add(d))
	require.LessOrEqual(t, r.bytes, maxHeldBytes)
	require.NoError(t, r.flush())
	require.Equal(t, maxHeld+11, got)
	require.Zero(t, r.bytes)
}

func TestOneReplacementKeyGoesOutOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var nonces []uint64
		to := &target{}
		to.answer = func(ctx context.Context, r Request) Answer {
			// The first ones are the slowest.
			retry.Pause(ctx, time.Duration(10-r.Order.Nonce)*time.Second)
			if !r.Order.Replacement.IsZero() {
				to.mu.Lock()
				nonces = append(nonces, r.Order.Nonce)
				to.mu.Unlock()
			}
			return Answer{Outcome: Accepted, Hash: r.Order.Hash}
		}
		var in tape
		for i := range 8 {
			in = append(in, replacing(t, uint64(i+1), time.Duration(i)*time.Millisecond, i+1))
		}
		in = append(in, plain(t, 100, time.Second))
		rep := run(t, Config{Connections: 20}, in, to)
		require.Equal(t, []uint64{1, 2, 3, 4, 5, 6, 7, 8}, nonces)
		require.Equal(t, 9, rep.Accepted)
	})
}

func TestFinishedChainsAreForgotten(t *testing.T) {
	chains := map[key]chan struct{}{}
	for i := range 3 * maxChains {
		o := &order.Order{Signer: common.BigToAddress(common.Big1), Replacement: order.UUID{byte(i), byte(i >> 8), 1}}
		after, done := chain(chains, o)
		require.Nil(t, after)
		close(done)
	}
	require.LessOrEqual(t, len(chains), maxChains)
}

func TestOrdersWithoutAnAnswerAreSentAgainThenLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &target{}
		to.answer = func(_ context.Context, r Request) Answer {
			switch {
			case r.Order.ReceivedAt.Equal(epoch()):
				return Answer{Outcome: Lost, Reason: "no connection"}
			case r.Attempt < 3:
				return Answer{Outcome: Busy, Reason: "Overloaded", RetryAfter: time.Second}
			}
			return Answer{Outcome: Accepted}
		}
		rep := run(t, Config{Tries: 4}, tape{plain(t, 1, 0), plain(t, 2, time.Second)}, to)
		require.Equal(t, Counts{Read: 2, Chosen: 2, Sent: 2, Accepted: 1, Lost: 1, Resent: 5, Bytes: rep.Bytes}, rep.Counts)
		require.Equal(t, map[string]int{"no connection": 1}, rep.Losses)
		require.ErrorIs(t, rep.Err(), ErrLosses)
		require.True(t, rep.Complete)
	})
}

func TestRefusalsAreCountedByReasonWithinBounds(t *testing.T) {
	var in tape
	for i := range 3 * maxReasons {
		in = append(in, plain(t, uint64(i+1), 0))
	}
	n := 0
	to := &target{}
	to.answer = func(context.Context, Request) Answer {
		to.mu.Lock()
		defer to.mu.Unlock()
		n++
		return Answer{Outcome: Refused, Reason: fmt.Sprintf("reason %d\x1b[2J", n)}
	}
	rep := run(t, Config{}, in, to)
	require.Equal(t, 3*maxReasons, rep.Refused)
	require.Len(t, rep.Refusals, maxReasons+1)
	require.Equal(t, 2*maxReasons, rep.Refusals["other"])
	require.Contains(t, rep.Refusals, "reason 1.[2J")
	require.NoError(t, rep.Err(), "a refusal is an answer")
}

func TestBreakingOffSendsNothingMoreAndWaitsForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &target{answer: func(ctx context.Context, r Request) Answer {
			if r.Order.ReceivedAt.Equal(epoch()) && !retry.Pause(ctx, time.Hour) {
				return Answer{Outcome: Lost, Reason: "broken off"}
			}
			retry.Pause(ctx, 2*time.Second)
			return Answer{Outcome: Accepted}
		}}
		r, err := New(Config{As: AsIngress, Speed: 1}, tape{plain(t, 1, 0), plain(t, 2, time.Second), plain(t, 3, time.Minute)}, to, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		begun := time.Now()
		rep, err := r.Run(ctx)
		require.NoError(t, err)
		require.Equal(t, 1500*time.Millisecond+defaultDrain, time.Since(begun))
		require.Equal(t, 1, rep.Accepted)
		require.Equal(t, 1, rep.Lost)
		require.Len(t, to.shots, 2)
		require.False(t, rep.Complete)
		require.ErrorIs(t, rep.Err(), ErrInterrupted)
	})
}

// failing is a source that fails after what it has.
type failing struct {
	tape
	err error
}

func (s failing) Record(ctx context.Context, r Range, f func(order.Delivery) error) error {
	return errors.Join(s.tape.Record(ctx, r, f), s.err)
}

func TestARecordThatCanNotBeReadIsAnError(t *testing.T) {
	gone := errors.New("gone")
	r, err := New(Config{As: AsIngress}, failing{tape{plain(t, 1, 0)}, gone}, &target{}, nil)
	require.NoError(t, err)
	rep, err := r.Run(t.Context())
	require.ErrorIs(t, err, gone)
	require.False(t, rep.Complete)
}

func TestLimitAndFiltersChoose(t *testing.T) {
	var in tape
	for i := range 20 {
		in = append(in, plain(t, uint64(i+1), time.Duration(i)*time.Minute))
	}
	to := &target{}
	rep := run(t, Config{Limit: 5, Range: Range{From: 4}, Connections: 1}, in, to)
	require.Equal(t, 5, rep.Sent)
	require.True(t, to.shots[0].order.ReceivedAt.Equal(in[3].Order.ReceivedAt))
	var f Filters
	require.NoError(t, f.Add("signer="+in[2].Order.Signer.Hex()))
	rep = run(t, Config{Filters: f}, in, &target{})
	require.Equal(t, 20, rep.Read)
	require.Equal(t, 3, rep.Chosen)
	rep = run(t, Config{Range: Range{Since: epoch().Add(3 * time.Minute), Until: epoch().Add(5 * time.Minute)}}, in, &target{})
	require.Equal(t, 2, rep.Sent)
}

func TestDryRunSendsNothingAndTellsWhatWouldBe(t *testing.T) {
	batch := plain(t, 2, time.Hour)
	batch.Order.Batch = "0/2:abc"
	rep := run(t, Config{DryRun: true, Speed: 1}, tape{plain(t, 1, 0), batch}, nil)
	require.Equal(t, 2, rep.Chosen)
	require.Equal(t, 1, rep.Unsendable)
	require.Zero(t, rep.Sent)
	require.Less(t, rep.Elapsed, time.Minute, "the spacing is not waited for")
	require.ErrorIs(t, rep.Err(), ErrLosses)
}

func TestAnswersUnderAnotherHashAreTold(t *testing.T) {
	other := func(_ context.Context, _ Request) Answer { return Answer{Outcome: Accepted, Hash: common.Hash{9}} }
	chosen := replacing(t, 2, 0, 1)
	defaulted := replacing(t, 3, 0, 2)
	defaulted.Order.NonceDefaulted = true
	rep := run(t, Config{}, tape{plain(t, 1, 0), chosen, defaulted}, &target{answer: other})
	require.Equal(t, 2, rep.OtherHash, "of a nonce that the door chose, the hash is another at each door")
	require.ErrorIs(t, rep.Err(), ErrLosses)
	rep = run(t, Config{}, tape{plain(t, 1, 0)}, &target{answer: func(context.Context, Request) Answer { return Answer{Outcome: Accepted} }})
	require.NoError(t, rep.Err(), "doors that answer null have no hash to compare")
}

func TestBuilderGetsWhatAWorkerMakesAndNothingThatItRefuses(t *testing.T) {
	good := taped(t, 1, 0, order.MethodSendBundle, `[{"txs":["0x01"],"blockNumber":"0x10","maxTimestamp":1763672420,"extra":[1, 2]}]`)
	bad := taped(t, 2, 0, order.MethodSendBundle, `[{"txs":["0xbad0"],"blockNumber":"0x10"}]`)
	to := &target{}
	rep := run(t, Config{As: AsBuilder}, tape{good, bad}, to)
	require.Equal(t, 1, rep.Sent)
	require.Equal(t, 1, rep.Withheld)
	require.Equal(t, map[string]int{"invalid chain id for signer": 1}, rep.Held)
	require.NoError(t, rep.Err())
	sub, err := decode(good.Order, 0)
	require.NoError(t, err)
	want, err := sub.AppendBuilderBody(nil, good.Order)
	require.NoError(t, err)
	require.Equal(t, string(want), string(to.shots[0].order.Body))
	require.NotEqual(t, string(want), string(good.Order.Body), "the record is not touched")
}

func TestShiftedOrdersAreSignedAnewUnderTheirOwnHash(t *testing.T) {
	k, err := crypto.GenerateKey()
	require.NoError(t, err)
	d := taped(t, 1, 0, order.MethodSendBundle, `[{"txs":["0x01"],"blockNumber":"0x10","maxTimestamp":1763672420}]`)
	synctest.Test(t, func(t *testing.T) {
		to := &target{answer: func(context.Context, Request) Answer { return Answer{Outcome: Accepted, Hash: common.Hash{1}} }}
		// synctest's clock begins in 2000, before the recording: time is shifted back.
		later := int64(time.Since(epoch()) / time.Second)
		rep := run(t, Config{Key: k, ShiftTime: true, ShiftBlocks: 16}, tape{d}, to)
		require.NoError(t, rep.Err())
		o := to.shots[0].order
		require.Contains(t, string(o.Body), `"blockNumber":"0x20"`)
		require.Contains(t, string(o.Body), fmt.Sprintf(`"maxTimestamp":%d`, 1763672420+later))
		signer, err := order.RecoverSigner(o.Signature[len(HeaderSignature)+2:], o.Body)
		require.NoError(t, err)
		require.Equal(t, crypto.PubkeyToAddress(k.PublicKey), signer)
	})
}

func TestOriginalBytesAreSentAsTheyWere(t *testing.T) {
	d := plain(t, 1, 0)
	to := &target{}
	run(t, Config{}, tape{d}, to)
	require.Equal(t, string(d.Order.Body), string(to.shots[0].order.Body))
	require.Equal(t, d.Order.Signature, to.shots[0].order.Signature)

	d.Order.Batch = "0/2:abc"
	unsigned := plain(t, 2, 0)
	unsigned.Order.Signature = ""
	rep := run(t, Config{}, tape{d, unsigned}, to)
	require.Equal(t, 2, rep.Unsendable)
	k, err := crypto.GenerateKey()
	require.NoError(t, err)
	rep = run(t, Config{Key: k}, tape{d, unsigned}, &target{})
	require.Equal(t, 2, rep.Accepted)
}

func TestConfigNamesEveryFault(t *testing.T) {
	err := (&Config{Speed: -1, Tries: -1, Range: Range{Since: epoch(), Until: epoch()}}).Validate()
	require.ErrorIs(t, err, ErrConfig)
	for _, part := range []string{"neither", "speed", "negative", "before it begins"} {
		require.ErrorContains(t, err, part)
	}
	require.ErrorContains(t, (&Config{As: AsIngress, ShiftTime: true}).Validate(), "--resign")
	require.NoError(t, (&Config{As: AsBuilder, ShiftTime: true}).Validate())
	_, err = New(Config{As: AsIngress}, tape{}, nil, nil)
	require.ErrorIs(t, err, ErrConfig)
	_, err = New(Config{As: AsBuilder}, tape{}, &target{}, nil)
	require.ErrorIs(t, err, ErrConfig)
	for text, want := range map[string]float64{"1x": 1, "0.5x": 0.5, "20x": 20, "max": 0} {
		got, err := ParseRate(text)
		require.NoError(t, err)
		require.InDelta(t, want, got, 0)
	}
	for _, text := range []string{"", "1", "x", "0x", "-1x", "NaNx", "Infx", "fast"} {
		_, err := ParseRate(text)
		require.ErrorIs(t, err, ErrConfig, text)
	}
	for text, want := range map[string]As{"ingress": AsIngress, "builder": AsBuilder} {
		got, err := ParseAs(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = ParseAs("peer")
	require.ErrorIs(t, err, ErrConfig)
}

func TestProgressTellsHowFarItIs(t *testing.T) {
	r, err := New(Config{As: AsIngress}, tape{plain(t, 1, 0), plain(t, 9, time.Second)}, &target{}, nil)
	require.NoError(t, err)
	require.Zero(t, r.Progress().Elapsed)
	_, err = r.Run(t.Context())
	require.NoError(t, err)
	p := r.Progress()
	require.Equal(t, uint64(9), p.Sequence)
	require.True(t, p.Reached.Equal(epoch().Add(time.Second)))
	require.Equal(t, 2, p.Accepted)
}
