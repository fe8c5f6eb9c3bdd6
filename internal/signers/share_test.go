package signers

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func TestOneProcessLearnsFromAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		there := &countingRules{}
		receiver := newCache(t, sharing(), there, nowhere)
		sender := newCache(t, sharing(), &countingRules{}, wire(func(b []byte) error {
			receiver.Receive(b)
			return nil
		}))
		run(t, sender)
		for i := range byte(100) {
			_, err := sender.Check([]byte{i}, order.KindBundle, now)
			require.NoError(t, err)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		receiver.oneIn = 1 << 31
		for i := range byte(100) {
			tx, err := receiver.Check([]byte{i}, order.KindBundle, now)
			require.NoError(t, err)
			require.Equal(t, truth([]byte{i}), tx)
		}
		require.Zero(t, there.calls.Load())
		require.InDelta(t, 100, testutil.ToFloat64(receiver.metrics.hitShared), 0)
		require.InDelta(t, 100, testutil.ToFloat64(sender.metrics.sent), 0)
	})
}

func TestABatchGoesAtSixtyFourEntriesOrAfterAMillisecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type sent struct {
			at      time.Duration
			entries int
		}
		var got []sent
		start := time.Now()
		c := newCache(t, sharing(), &countingRules{}, wire(func(b []byte) error {
			d, err := decodeBatch(b)
			got = append(got, sent{time.Since(start), len(d.records) / recordSize})
			return err
		}))
		for i := range byte(150) {
			_, err := c.Check([]byte{i}, order.KindBundle, now)
			require.NoError(t, err)
		}
		run(t, c)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []sent{{0, 64}, {0, 64}, {time.Millisecond, 22}}, got)
	})
}

func TestPendingEntriesAreBoundedAndDropsAreCounted(t *testing.T) {
	c := newCache(t, sharing(), &countingRules{}, nowhere)
	const extra = 10
	for i := range maxPending + extra {
		_, err := c.Check([]byte{byte(i), byte(i >> 8)}, order.KindBundle, now)
		require.NoError(t, err)
	}
	require.InDelta(t, extra, testutil.ToFloat64(c.metrics.dropped), 0)
}

func TestAFailedBroadcastIsCountedAndNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := newCache(t, sharing(), &countingRules{}, wire(func([]byte) error {
			calls++
			return errors.New("no servers")
		}))
		run(t, c)
		_, err := c.Check([]byte("x"), order.KindBundle, now)
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, calls)
		require.InDelta(t, 1, testutil.ToFloat64(c.metrics.unsent), 0)
	})
}

func TestNothingIsSharedWithoutSecretOrBroadcaster(t *testing.T) {
	for _, c := range []*Cache{
		newCache(t, config(), &countingRules{}, nowhere),
		newCache(t, sharing(), &countingRules{}, nil),
	} {
		require.False(t, c.Sharing())
		raw := []byte("x")
		c.Receive(told(1, 1, raw, truth(raw)))
		require.InDelta(t, 1, testutil.ToFloat64(c.metrics.batches[resultOff]), 0)
		require.Zero(t, c.entries.EstimatedSize())
	}
}

func TestEveryTamperedByteIsNoticed(t *testing.T) {
	c := newCache(t, sharing(), &countingRules{}, nowhere)
	raw := []byte("x")
	good := told(1, 1, raw, truth(raw))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x01
		c.Receive(bad)
	}
	for cut := range good {
		c.Receive(good[:cut])
	}
	require.Zero(t, testutil.ToFloat64(c.metrics.batches[resultAccepted]))
	require.InDelta(t, 1, testutil.ToFloat64(c.metrics.batches[resultVersion]), 0, "the first byte")
	require.InDelta(t, len(good)-1, testutil.ToFloat64(c.metrics.batches[resultForged]), 0, "all others")
	require.Zero(t, c.entries.EstimatedSize())
	c.Receive(good)
	require.InDelta(t, 1, testutil.ToFloat64(c.metrics.batches[resultAccepted]), 0)
}

func TestSecretsAndChainsAreKeptApart(t *testing.T) {
	c := newCache(t, sharing(), &countingRules{}, nowhere)
	records := []record{{tx: truth([]byte("x"))}}
	for _, s := range []sealer{
		newSealer([]byte("another secret of workers"), testChain),
		newSealer([]byte(testSecret), testChain+1),
	} {
		require.Equal(t, resultForged, c.receive(appendBatch(nil, originID{1}, 1, records, s)))
	}
}

func TestBatchesOfANewerVersionAreIgnoredAndCounted(t *testing.T) {
	c := newCache(t, sharing(), &countingRules{}, nowhere)
	b := told(1, 1, []byte("x"), truth([]byte("x")))
	b[0] = batchVersion + 1
	c.Receive(b)
	require.InDelta(t, 1, testutil.ToFloat64(c.metrics.batches[resultVersion]), 0)
}

func TestReplaysAndEchoesAreRefusedAndGapsCounted(t *testing.T) {
	c := newCache(t, sharing(), &countingRules{}, nowhere)
	raw := []byte("x")
	require.Equal(t, resultAccepted, c.receive(told(1, 7, raw, truth(raw))))
	require.Equal(t, resultReplayed, c.receive(told(1, 7, raw, truth(raw))))
	require.Equal(t, resultReplayed, c.receive(told(1, 6, raw, truth(raw))))
	require.Equal(t, resultAccepted, c.receive(told(1, 11, raw, truth(raw))))
	require.Equal(t, resultAccepted, c.receive(told(2, 1, raw, truth(raw))), "another origin counts for itself")
	require.InDelta(t, 3, testutil.ToFloat64(c.metrics.missed), 0)
	own := appendBatch(nil, c.self, 1, []record{{}}, c.seal)
	require.Equal(t, resultEcho, c.receive(own))
}

func TestWhatWasCheckedHereIsNotReplacedByWhatIsTold(t *testing.T) {
	c := newCache(t, sharing(), &countingRules{}, nowhere)
	raw := []byte("x")
	_, err := c.Check(raw, order.KindBundle, now)
	require.NoError(t, err)
	c.Receive(told(1, 1, raw, order.TxInfo{From: common.Address{6, 6, 6}}))
	tx, err := c.Check(raw, order.KindBundle, now)
	require.NoError(t, err)
	require.Equal(t, truth(raw), tx)
}

func TestAWrongEntryPutsItsOriginInQuarantine(t *testing.T) {
	var logged bytes.Buffer
	rules := &countingRules{}
	c, err := New(sharing(), testChain, rules, nowhere, slog.New(slog.NewTextHandler(&logged, nil)), prometheus.NewRegistry())
	require.NoError(t, err)
	first, second, other := []byte("first"), []byte("second"), []byte("other")
	forged := order.TxInfo{From: common.Address{6, 6, 6}}
	c.Receive(told(1, 1, first, forged))
	c.Receive(told(1, 2, second, forged))
	c.Receive(told(2, 1, other, truth(other)))

	c.oneIn = 1 << 31 // the sample misses it
	tx, err := c.Check(first, order.KindBundle, now)
	require.NoError(t, err)
	require.Equal(t, forged, tx)

	c.oneIn = 1 // the sample hits it
	tx, err = c.Check(first, order.KindBundle, now)
	require.NoError(t, err)
	require.Equal(t, truth(first), tx)

	c.oneIn = 1 << 31
	tx, err = c.Check(second, order.KindBundle, now)
	require.NoError(t, err)
	require.Equal(t, truth(second), tx, "all entries of the origin are forgotten")
	require.Equal(t, resultQuarantined, c.receive(told(1, 3, []byte("third"), forged)), "and its batches refused")

	calls := rules.calls.Load()
	_, err = c.Check(other, order.KindBundle, now)
	require.NoError(t, err)
	require.Equal(t, calls, rules.calls.Load(), "other origins are still believed")
	require.InDelta(t, 1, testutil.ToFloat64(c.metrics.quarantined), 0)
	require.Equal(t, 1, bytes.Count(logged.Bytes(), []byte("level=ERROR")))
}

func TestAnEntryForAnInvalidTransactionPutsItsOriginInQuarantine(t *testing.T) {
	rules := &countingRules{refuse: order.Refuse(order.CodeChainID, "wrong chain")}
	c := newCache(t, sharing(), rules, nowhere)
	c.oneIn = 1
	raw := []byte("x")
	c.Receive(told(1, 1, raw, truth(raw)))
	for range 2 {
		_, err := c.Check(raw, order.KindBundle, now)
		require.Equal(t, rules.refuse, order.AsReason(err))
	}
	require.Equal(t, resultQuarantined, c.receive(told(1, 2, raw, truth(raw))))
}

func TestARightEntryIsTakenOverWhenItWasCheckedAgain(t *testing.T) {
	rules := &countingRules{}
	c := newCache(t, sharing(), rules, nowhere)
	c.oneIn = 1
	raw := []byte("x")
	c.Receive(told(1, 1, raw, truth(raw)))
	for range 3 {
		_, err := c.Check(raw, order.KindBundle, now)
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, rules.calls.Load())
	require.Equal(t, resultAccepted, c.receive(told(1, 2, raw, truth(raw))))
}

func TestOriginsAreBoundedAndQuarantineIsNeverForgotten(t *testing.T) {
	o := origins{byID: make(map[originID]*origin)}
	id := func(i int) originID { return originID{byte(i), byte(i >> 8), 1} }
	bad, _, _ := o.admit(id(0), 1, now)
	require.True(t, o.quarantine(bad))
	require.False(t, o.quarantine(bad), "once is enough")
	for i := 1; i < 2*maxOrigins; i++ {
		from, _, res := o.admit(id(i), 1, now.Add(time.Duration(i)*time.Second))
		require.NotNil(t, from, res)
		require.LessOrEqual(t, len(o.byID), maxOrigins)
	}
	_, _, res := o.admit(id(0), 2, now)
	require.Equal(t, resultQuarantined, res)
	for _, from := range o.byID {
		o.quarantine(from)
	}
	from, _, res := o.admit(id(9999), 1, now)
	require.Nil(t, from)
	require.Equal(t, resultQuarantined, res)
}
