package workers

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/internal/signers"
	"millrace/subjects"
)

func cacheConfig() signers.Config { return signers.Config{Size: 1000, TTL: testMaxAge} }

func TestValidOrdersOfEveryTypeGoToOK(t *testing.T) {
	for name, raw := range map[string][]byte{
		"legacy":      sign(t, "a", legacyTx()),
		"access list": sign(t, "a", accessListTx()),
		"dynamic fee": sign(t, "a", dynamicTx(3)),
		"blob":        sign(t, "a", blobTx()),
		"set code":    sign(t, "a", setCodeTx()),
	} {
		for form, o := range map[string]*order.Order{
			"bundle":      acceptedBundle(t, raw),
			"transaction": accepted(t, order.MethodSendRawTransaction, rawBody(raw)),
		} {
			t.Run(name+" as "+form, func(t *testing.T) {
				s := newStore()
				p := start(t, s, 1, realRules(t))
				require.NoError(t, p.deliver(delivery(o, 1)))
				require.Equal(t, []string{"ok", "verdict"}, s.trail)
				got := s.ok[subjects.OKMsgID(o)]
				require.NotNil(t, got)
				require.Contains(t, string(got.Body), hex.EncodeToString(raw))
				if o.Kind == order.KindBundle {
					require.Contains(t, string(got.Body), `"signingAddress":"`+strings.ToLower(searcher.Hex()))
					require.Contains(t, string(got.Body), `"unknown":{"kept": 1}`)
				}
				want := *o
				want.Body = got.Body
				require.Equal(t, want, *got, "all but the body stays")
				require.Equal(t, []order.Verdict{{Accept: o.Accept, ID: o.ID, Signer: o.Signer}}, s.verdicts)
				require.InDelta(t, 1, testutil.ToFloat64(p.metrics.verdicts[0]), 0)
			})
		}
	}
}

func TestAnOrderThatNobodyWaitsForHasNoVerdict(t *testing.T) {
	s := newStore()
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	o.Ingress = ""
	require.NoError(t, start(t, s, 1, realRules(t)).deliver(delivery(o, 1)))
	require.Equal(t, []string{"ok"}, s.trail)
}

func TestALostVerdictChangesNothing(t *testing.T) {
	s := newStore()
	s.fail = func(effect string, _ bool) error {
		if effect == "verdict" {
			return errDown
		}
		return nil
	}
	p := start(t, s, 1, realRules(t))
	require.NoError(t, p.deliver(delivery(acceptedBundle(t, sign(t, "a", legacyTx())), 1)))
	require.InDelta(t, 1, testutil.ToFloat64(p.metrics.verdictErrors), 0)
}

func TestRule09AnOrderGoesBackUntilItsEndIsStored(t *testing.T) {
	valid := acceptedBundle(t, sign(t, "a", legacyTx()))
	bad := dynamicTx(1)
	bad.Gas = 20999
	invalid := acceptedBundle(t, sign(t, "a", bad))
	for effect, o := range map[string]*order.Order{"ok": valid, "refusal": invalid, "record": invalid} {
		t.Run(effect, func(t *testing.T) {
			s := newStore()
			s.fail = func(e string, _ bool) error {
				if e == effect {
					return errDown
				}
				return nil
			}
			p := start(t, s, 1, realRules(t))
			err := p.deliver(delivery(o, 1))
			require.ErrorIs(t, err, errDown)
			require.Nil(t, order.AsReason(err), "it must come back")
			require.Empty(t, s.verdicts, "nobody is told before")
			s.fail = nil
			err = p.deliver(delivery(o, 2))
			require.True(t, err == nil || order.AsReason(err) != nil)
			require.Len(t, s.verdicts, 1)
		})
	}
}

func TestRule09ExpiredOrderHasOneRecordAndNoOK(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	s.advance(testMaxAge)
	p := start(t, s, 1, rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) {
		t.Error("an expired order is not validated")
		return order.TxInfo{}, nil
	}))
	require.Equal(t, order.CodeExpired, order.AsReason(p.deliver(delivery(o, 1))).Code)
	require.Equal(t, []string{"claim", "record", "verdict"}, s.trail, "no refusal: the sender is not at fault")
	e := s.records[o.Accept]
	require.Equal(t, ledger.Expired, e.Outcome)
	require.Equal(t, o.ID, e.ID)
	require.True(t, e.DoneAt.Equal(s.now))
}

func TestRule02TheDeadlineIsCheckedAgainBeforeOK(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	p := start(t, s, 1, rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) {
		s.advance(testMaxAge) // validation takes for ever
		return order.TxInfo{}, nil
	}))
	require.Equal(t, order.CodeExpired, order.AsReason(p.deliver(delivery(o, 1))).Code)
	require.Empty(t, s.ok)
	require.Equal(t, ledger.Expired, s.records[o.Accept].Outcome)
}

func TestPublishingEndsSoonAfterTheDeadline(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	b := &deadlineBus{fakeBus: &fakeBus{store: s, life: 1}}
	ports := b.ports()
	ports.Publisher = b
	w, err := New(Config{SignerCache: cacheConfig()}, ports, anything, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	s.advance(testMaxAge - time.Second)
	require.NoError(t, process{w, b.fakeBus}.deliver(delivery(o, 1)))
	require.InDelta(t, (time.Second + graceAfterDeadline).Seconds(), b.left.Seconds(), 0.5)
}

// deadlineBus notes how much time a publish is given.
type deadlineBus struct {
	*fakeBus
	left time.Duration
}

func (b *deadlineBus) PublishOK(ctx context.Context, o *order.Order) (order.Receipt, error) {
	at, _ := ctx.Deadline()
	b.left = time.Until(at)
	return b.fakeBus.PublishOK(ctx, o)
}

// An order whose publish timed out may be in OK (CORRECTNESS 4): a record for all targets beside the
// targets' own would be a second end.
func TestRule04ExpiredOrderThatIsInOKHasNoRecord(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	s.fail = func(effect string, done bool) error {
		if effect == "ok" && done {
			s.now = s.now.Add(testMaxAge)
			return errDown // stored, but who knows
		}
		return nil
	}
	p := start(t, s, 1, realRules(t))
	require.ErrorIs(t, p.deliver(delivery(o, 1)), errDown)
	s.fail = nil
	require.NoError(t, p.deliver(delivery(o, 2)))
	require.Len(t, s.ok, 1)
	require.Empty(t, s.records)
	require.InDelta(t, 1, testutil.ToFloat64(p.metrics.repeats), 0)
}

func TestRule09AnOrderThatOKNeverTakesEndsAtItsDeadline(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	errTooLarge := errors.New("maximum payload exceeded")
	s := newStore()
	s.fail = func(effect string, done bool) error {
		if effect == "ok" && !done {
			return errTooLarge
		}
		return nil
	}
	p := start(t, s, 1, realRules(t))
	require.ErrorIs(t, p.deliver(delivery(o, 1)), errTooLarge)
	require.ErrorIs(t, p.deliver(delivery(o, 2)), errTooLarge)
	require.Empty(t, s.records)
	s.advance(testMaxAge)
	require.Equal(t, order.CodeExpired, order.AsReason(p.deliver(delivery(o, 3))).Code)
	require.Equal(t, ledger.Expired, s.records[o.Accept].Outcome)
	require.Empty(t, s.ok)
}

func TestRule10ARetryHasTheSameBytesAndTheSameMessageID(t *testing.T) {
	bodies := []string{
		bundleBody("", sign(t, "a", dynamicTx(1))),
		bundleBody(`,"replacementUuid":"`+testUUID+`"`, sign(t, "a", dynamicTx(1))),
		bundleBody(`,"replacementUuid":"` + testUUID + `"`),
	}
	for _, body := range bodies {
		o := accepted(t, order.MethodSendBundle, body)
		var first, second *order.Order
		for i, into := range []**order.Order{&first, &second} {
			s := newStore()
			s.advance(time.Duration(i) * time.Second)
			require.NoError(t, start(t, s, i, realRules(t)).deliver(delivery(o, i+1)))
			*into = s.ok[subjects.OKMsgID(o)]
			require.NotNil(t, *into)
			(*into).Trail = nil // tells of the attempt; the store keeps the first one's
		}
		require.Equal(t, first, second)
	}
}

func TestAHeaderThatDoesNotFitTheBytesIsRefused(t *testing.T) {
	for name, tamper := range map[string]func(*order.Order){
		"id":          func(o *order.Order) { o.ID[5] ^= 1 },
		"key":         func(o *order.Order) { o.Key[5] ^= 1 },
		"hash":        func(o *order.Order) { o.Hash[5] ^= 1 },
		"kind":        func(o *order.Order) { o.Kind = order.KindTransaction },
		"method":      func(o *order.Order) { o.Method = order.MethodSendShareBundle },
		"replacement": func(o *order.Order) { o.Replacement[5] ^= 1 },
		"signer":      func(o *order.Order) { o.Signer[5] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			s := newStore()
			p := start(t, s, 1, realRules(t))
			p.log = slog.New(slog.NewTextHandler(&logged, nil))
			o := accepted(t, order.MethodSendBundle, bundleBody(`,"replacementUuid":"`+testUUID+`"`, sign(t, "a", legacyTx())))
			tamper(o)
			require.Equal(t, order.CodeMalformed, order.AsReason(p.deliver(delivery(o, 1))).Code)
			require.Equal(t, ledger.Invalid, s.records[o.Accept].Outcome)
			require.Empty(t, s.ok)
			require.InDelta(t, 1, testutil.ToFloat64(p.metrics.mismatches), 0)
			require.Contains(t, logged.String(), "level=ERROR")
		})
	}
}

func TestRunConsumesWithTheConfiguredSlots(t *testing.T) {
	for configured, want := range map[int]int{0: runtime.GOMAXPROCS(0), 3: 3} {
		b := &fakeBus{store: newStore()}
		errGone := errors.New("connection gone")
		b.consume = func(_ context.Context, slots int, _ handler) error {
			require.Equal(t, want, slots)
			return errGone
		}
		cfg := Config{Concurrency: configured, SignerCache: cacheConfig()}
		w, err := New(cfg, b.ports(), anything, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		require.NoError(t, err)
		require.ErrorIs(t, w.Run(t.Context()), errGone)
	}
}

func TestNewReportsEveryMissingPart(t *testing.T) {
	good := Config{SignerCache: cacheConfig()}
	_, err := New(good, Ports{}, anything, nil, nil)
	require.ErrorIs(t, err, ErrConfig)
	for _, port := range []string{"source", "publisher", "recorder", "ends", "refusals", "verdicts", "suspects", "clock"} {
		require.ErrorContains(t, err, port)
	}
	_, err = New(good, (&fakeBus{store: newStore()}).ports(), nil, nil, nil)
	require.ErrorIs(t, err, ErrConfig)
	bad := Config{Concurrency: -1, Limits: order.Limits{MaxTxs: -1}}
	_, err = New(bad, Ports{}, anything, nil, nil)
	require.ErrorContains(t, err, "concurrency")
	require.ErrorContains(t, err, "transactions")
	require.ErrorIs(t, err, signers.ErrConfig)
}

func TestMetricsShowZeroAtStart(t *testing.T) {
	reg := prometheus.NewRegistry()
	_, err := New(Config{SignerCache: cacheConfig()}, (&fakeBus{store: newStore()}).ports(), anything, slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err)
	n, err := testutil.GatherAndCount(reg, "millrace_worker_validated_total", "millrace_order_stage_seconds")
	require.NoError(t, err)
	require.Equal(t, 1+len(order.Codes())+2*len(order.Priorities), n)
}

// The wait of a tapped order counts from its hand-over: it has no time of storing yet.
func TestEveryOrderIsInTheQueueStage(t *testing.T) {
	reg, b := prometheus.NewRegistry(), &fakeBus{store: newStore()}
	w, err := New(Config{SignerCache: cacheConfig()}, b.ports(), anything, slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err)
	stored, tapped := acceptedBundle(t, sign(t, "a", legacyTx())), acceptedBundle(t, sign(t, "a", legacyTx()))
	for _, d := range []order.Delivery{
		delivery(stored, 1),
		{Order: tapped, Deliveries: 1, Size: len(tapped.Body), TappedAt: time.Now().Add(-3 * time.Second)},
	} {
		require.NoError(t, process{w, b}.deliver(d))
	}
	waits, seconds := stageTotal(t, reg, "queue_in")
	require.Equal(t, uint64(2), waits)
	require.GreaterOrEqual(t, seconds, 3.0)
}

// stageTotal is how often a stage was observed and for how long, over all classes.
func stageTotal(t *testing.T, reg *prometheus.Registry, stage string) (n uint64, seconds float64) {
	t.Helper()
	fams, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range fams {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "millrace_order_stage_seconds" && l.GetName() == "stage" && l.GetValue() == stage {
					n, seconds = n+m.GetHistogram().GetSampleCount(), seconds+m.GetHistogram().GetSampleSum()
				}
			}
		}
	}
	return n, seconds
}

func TestTheStageHistogramIsSharedInOneProcess(t *testing.T) {
	reg := prometheus.NewRegistry()
	first, second := stageSeconds(reg), stageSeconds(reg)
	require.Same(t, first, second)
}

func TestPanicIsNotARefusal(t *testing.T) {
	s := newStore()
	p := start(t, s, 1, rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) { panic("bad input") }))
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	err := p.deliver(delivery(o, 1))
	require.ErrorIs(t, err, ErrPanic)
	require.Nil(t, order.AsReason(err))
	d, ok := retry.Delay(err)
	require.True(t, ok)
	require.Equal(t, panicDelay, d)
	require.Empty(t, s.trail)
	require.InDelta(t, 1, testutil.ToFloat64(p.metrics.panics), 0)
	require.Zero(t, testutil.ToFloat64(p.metrics.inSlot))
}

func TestTheDoorsReadingIsTaken(t *testing.T) {
	t.Parallel()
	p := start(t, newStore(), 1, realRules(t))
	o := acceptedBundle(t, sign(t, "a", dynamicTx(1)), sign(t, "b", legacyTx()))
	want, err := p.validateShared(t.Context(), o, func() {})
	require.NoError(t, err)
	read := readByTheDoor(t, o)
	read.ID[0]++ // which only who reads by himself compares
	got, err := p.validateShared(t.Context(), read, func() {})
	require.NoError(t, err)
	require.Equal(t, string(want.Body), string(got.Body))
	require.Nil(t, got.Reading, "it is another body's")
	refused := readByTheDoor(t, acceptedBundle(t, []byte{0x7f}))
	_, err = p.validateShared(t.Context(), refused, func() {})
	require.NotNil(t, order.AsReason(err), "the rules are the worker's")
}
