package engine

import (
	"context"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi"
	"millrace/internal/wire"
)

func TestRule22AReplayIsDroppedWhenALiveCallCameSinceItWasDecided(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	step := []byte(forkchoice("99", hashA, "null"))
	require.Zero(t, f.Generation())
	status, answer, date, err := f.Replay(t.Context(), f.Term(), 0, step)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":99,"result":null}`, string(answer))
	require.WithinDuration(t, time.Now(), date, time.Minute)
	require.NoError(t, p.secret.Verify(p.calls()[0].header.Get("Authorization"), time.Now()))
	require.Empty(t, f.book.asked(), "a replay is not the consensus client's")

	for _, live := range []string{forkchoice("1", hashB, "null"), newPayload("1", hashA, zero), "[" + newPayload("1", hashA, zero) + "]", `{"method":"a","method":"b"}`, "{"} {
		decided := f.Generation()
		f.call(live)
		require.Greater(t, f.Generation(), decided, live)
		sent := len(p.calls())
		_, _, _, err = f.Replay(t.Context(), f.Term(), decided, step)
		require.ErrorIs(t, err, ErrOvertaken, live)
		require.Len(t, p.calls(), sent)
		_, _, _, err = f.Replay(t.Context(), f.Term(), f.Generation(), step)
		require.NoError(t, err)
	}
	decided := f.Generation()
	f.call(rpc("1", "eth_syncing", "") + " ")
	require.Equal(t, decided, f.Generation(), "reads overtake nothing")
	status, _, _, err = f.Replay(t.Context(), f.Term(), decided-1, []byte(rpc("1", "eth_blockNumber", "")))
	require.NoError(t, err, "nor can they be overtaken")
	require.Equal(t, 200, status)
}

func TestRule22AReplayGivesWayToALiveCallUnderWay(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	came, goOn := make(chan struct{}), make(chan struct{})
	p.set(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		close(came)
		<-goOn
		_, _ = w.Write(results(body, "null"))
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = f.try(t.Context(), "POST", "/", strings.NewReader(newPayload("1", hashA, zero)))
	}()
	<-came
	_, _, _, err := f.Replay(t.Context(), f.Term(), f.Generation(), []byte(newPayload("2", hashB, hashA)))
	require.ErrorIs(t, err, ErrOvertaken)
	close(goOn)
	<-done
}

func TestRule22ALiveForkchoiceWaitsForTheReplayedOneInFlight(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	came, goOn := make(chan struct{}), make(chan struct{})
	p.set(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		if strings.Contains(string(body), `"id":99`) {
			close(came)
			<-goOn
		}
		_, _ = w.Write(results(body, "null"))
	})
	replayed := make(chan error, 1)
	go func() {
		_, _, _, err := f.Replay(t.Context(), f.Term(), 0, []byte(forkchoice("99", hashA, "null")))
		replayed <- err
	}()
	<-came
	live := make(chan int, 1)
	go func() {
		s, _ := f.try(t.Context(), "POST", "/", strings.NewReader(forkchoice("1", hashB, "null")))
		live <- s.status
	}()
	require.Eventually(t, func() bool { return f.Generation() == 1 }, patience, time.Millisecond)
	require.Equal(t, 200, f.call(rpc("2", "eth_syncing", "")).status, "reads do not wait")
	require.Len(t, p.calls(), 2, "the live forkchoice is not sent yet")
	close(goOn)
	require.NoError(t, <-replayed)
	require.Equal(t, 200, <-live)
	require.Len(t, p.calls(), 3)
}

func TestRule22AReplayedForkchoiceThatHangsIsCutOff(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	came := make(chan struct{})
	p.set(func(w http.ResponseWriter, r *http.Request, body []byte) {
		if strings.Contains(string(body), `"id":99`) {
			close(came)
			<-r.Context().Done()
			return
		}
		_, _ = w.Write(results(body, "null"))
	})
	replayed := make(chan error, 1)
	go func() {
		_, _, _, err := f.Replay(t.Context(), f.Term(), 0, []byte(forkchoice("99", hashA, "null")))
		replayed <- err
	}()
	<-came
	require.Equal(t, 200, f.call(forkchoice("1", hashB, "null")).status)
	require.ErrorIs(t, <-replayed, ErrOvertaken)
}

func TestTheRecordsOrderIsTheOrderOfDispatch(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	const callers, each = 8, 20
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				body := forkchoice(strconv.Itoa(c*each+i), hashA, "null")
				if i%3 == 0 {
					body = "[" + body + "," + rpc("1", "eth_syncing", "") + "]"
				}
				_, _ = f.try(t.Context(), "POST", "/", strings.NewReader(body))
			}
		})
	}
	wg.Wait()
	for i, r := range f.book.asked() {
		require.Equal(t, uint64(i+1), r.Sequence)
	}
	require.Len(t, f.book.asked(), int(f.Generation()), "the generation is the last call's sequence, of a batch its last")
}

// A client that takes its time to write shows that the next forkchoice is not written before.
type slowWriter struct {
	mu    sync.Mutex
	order []uint64
}

func (w *slowWriter) Do(_ context.Context, _ time.Time, r *wire.Request) (wire.Answer, wire.Sent, error) {
	calls, _, _ := engineapi.ParseCalls(r.Body)
	n, err := strconv.ParseUint(string(calls[0].ID), 10, 64)
	if err != nil {
		return wire.Answer{}, wire.Sent{}, err
	}
	runtime.Gosched()
	w.mu.Lock()
	w.order = append(w.order, n)
	w.mu.Unlock()
	r.Wrote()
	return wire.Answer{Status: http.StatusOK, Header: http.Header{}, Body: results(r.Body, "null")}, wire.Sent{Began: true}, nil
}

func TestI03ForkchoicesAreWrittenInTheOrderOfTheirSequence(t *testing.T) {
	f := made(t, "http://127.0.0.1:1")
	w := &slowWriter{}
	f.order.primary.client = w
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			x := f.exchange([]byte(forkchoice(strconv.Itoa(n), hashA, "null")))
			f.carry(context.Background(), x, func(reply) {})
		})
	}
	wg.Wait()
	require.Len(t, w.order, 200)
	for i, r := range f.book.asked() {
		require.Equal(t, strconv.FormatUint(w.order[i], 10), string(r.Call().ID))
	}
}

func TestACallThatIsNotTakenHoldsUpOthersForAMomentOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Door{ports: Ports{Recorder: &ledger{}}, epoch: epoch}
		d.order.order, d.order.primary = make(chan struct{}, 1), &target{}
		next := func() *exchange {
			x := &exchange{message: message{body: []byte(forkchoice("1", hashA, "null"))}}
			x.calls, _, _ = engineapi.ParseCalls(x.body)
			x.classify()
			return x
		}
		first, second := next(), next()
		start := time.Now()
		require.NoError(t, d.dispatch(t.Context(), first)) // and never written
		require.NoError(t, d.dispatch(t.Context(), second))
		require.Equal(t, sendHold, time.Since(start))
		d.order.ended(first)
		d.order.ended(second)
		d.order.ended(func() *exchange { x := next(); require.NoError(t, d.dispatch(t.Context(), x)); return x }())
		require.Equal(t, sendHold, time.Since(start), "what was answered holds nothing")
		late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.NoError(t, d.dispatch(t.Context(), first))
		require.ErrorIs(t, d.dispatch(late, second), context.DeadlineExceeded)
		d.order.ended(first)
	})
}

func TestCallsThatAreNotTakenTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dispatcher{order: make(chan struct{}, 1)}
		const waiting = 5
		start := time.Now()
		held, err := d.hold(t.Context())
		require.NoError(t, err)
		at := make(chan time.Duration, waiting)
		for range waiting {
			go func() {
				next, err := d.hold(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				at <- time.Since(start)
				next.soon()
			}()
		}
		<-time.After(10 * sendHold)
		require.Empty(t, at, "a turn is as long as it takes before its request is to be written")
		held.soon()
		<-time.After(20 * sendHold)
		for i := range waiting {
			require.Equal(t, time.Duration(11+i)*sendHold, <-at)
		}
		require.Len(t, d.order, 1)
		last := d.turn.Load()
		last.release()
		last.release()
		require.Empty(t, d.order)
	})
}

// A call that asks for a witness besides moves the client as its sibling does.
func TestCallsThatAskForAWitnessAreOrderedLikeTheirSiblings(t *testing.T) {
	p := newPrimary(t, primarySecret)
	p.set(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		_, _ = w.Write(results(body, `{"payloadStatus":`+valid+`,"payloadId":"0x0a"}`))
	})
	f := open(t, p)
	decided := f.Generation()
	f.call(strings.Replace(newPayload("1", hashA, zero), "newPayloadV", "newPayloadWithWitnessV", 1))
	require.Equal(t, Generation(1), f.Generation())
	_, _, _, err := f.Replay(t.Context(), f.Term(), decided, []byte(newPayload("1", hashB, zero)))
	require.ErrorIs(t, err, ErrOvertaken)
	f.call(strings.Replace(forkchoice("2", hashA, `{"timestamp":"0x1"}`), "UpdatedV", "UpdatedWithWitnessV", 1))
	require.Equal(t, Generation(2), f.Generation())
	require.NotNil(t, f.book.asked()[0].Payload)
	require.True(t, f.book.asked()[1].Forkchoice.Attributes)
	require.NotNil(t, f.issuers.of("0x0a"), "its payload id is known")
	x := classified([]byte(strings.Replace(forkchoice("2", hashA, "null"), "UpdatedV", "UpdatedWithWitnessV", 1)))
	require.True(t, x.moves && x.chooses)
}

func TestAForwardingDoorReplaysWithALiveTokenOrNotAtAll(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p, forwarding)
	_, _, _, err := f.Replay(t.Context(), f.Term(), 0, []byte(newPayload("1", hashA, zero)))
	require.ErrorIs(t, err, ErrNoToken)
	f.call(rpc("1", "eth_syncing", ""))
	live := p.calls()[0].header.Get("Authorization")
	_, _, _, err = f.Replay(t.Context(), f.Term(), 0, []byte(newPayload("1", hashA, zero)))
	require.NoError(t, err)
	require.Equal(t, live, p.calls()[1].header.Get("Authorization"))
}

func TestAReplayToAPrimaryThatIsGoneIsAnError(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := open(t, p)
	p.Close()
	_, _, _, err := f.Replay(t.Context(), f.Term(), 0, []byte(newPayload("1", hashA, zero)))
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrOvertaken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, _, err = f.Replay(ctx, f.Term(), 0, []byte(forkchoice("1", hashA, "null")))
	require.ErrorIs(t, err, context.Canceled)
}
