package signers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func TestRepeatedTransactionIsCheckedOnce(t *testing.T) {
	rules := &countingRules{}
	c := newCache(t, config(), rules, nil)
	raw := []byte("one transaction")
	for range 3 {
		tx, err := c.Check(raw, order.KindBundle, now)
		require.NoError(t, err)
		require.Equal(t, truth(raw), tx)
	}
	require.EqualValues(t, 1, rules.calls.Load())
	require.InDelta(t, 1, testutil.ToFloat64(c.metrics.misses), 0)
	require.InDelta(t, 2, testutil.ToFloat64(c.metrics.hitLocal), 0)
}

func TestCacheAnswersWhatTheRulesAnswer(t *testing.T) {
	rules, err := order.NewRules(testChain)
	require.NoError(t, err)
	c := newCache(t, config(), rules, nil)
	raw := transfer(t, 7)
	want, err := rules.Check(raw, order.KindBundle, now)
	require.NoError(t, err)
	for range 2 {
		got, err := c.Check(raw, order.KindBundle, now)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = c.Check(raw[:len(raw)-1], order.KindBundle, now)
	require.NotNil(t, order.AsReason(err))
}

func TestRefusalIsNotRemembered(t *testing.T) {
	rules := &countingRules{refuse: order.Refuse(order.CodeGasLimit, "too much")}
	c := newCache(t, config(), rules, nil)
	for range 2 {
		_, err := c.Check([]byte("x"), order.KindBundle, now)
		require.Equal(t, rules.refuse, order.AsReason(err))
	}
	require.EqualValues(t, 2, rules.calls.Load())
}

func TestAnEntryHoldsForOneForkOnly(t *testing.T) {
	rules := &countingRules{}
	c := newCache(t, config(), rules, nil)
	osaka := time.Unix(int64(*params.MainnetChainConfig.OsakaTime), 0)
	for _, at := range []time.Time{osaka.Add(-time.Second), osaka, osaka.Add(time.Second)} {
		_, err := c.Check([]byte("a transaction around a fork"), order.KindBundle, at)
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, rules.calls.Load())
}

func TestForkBytesDifferBetweenForks(t *testing.T) {
	s := params.MainnetChainConfig
	seen := make(map[byte]bool)
	times := []*uint64{s.ShanghaiTime, s.CancunTime, s.PragueTime, s.OsakaTime, s.BPO1Time, s.BPO2Time}
	for _, at := range times {
		require.NotNil(t, at)
		fork := forksOf(1).at(time.Unix(int64(*at), 0))
		require.False(t, seen[fork], "fork at %d shares its byte with another", *at)
		seen[fork] = true
	}
	require.Equal(t, forksOf(424242).at(now), forksOf(424242).at(now.Add(10000*time.Hour)), "no schedule, no forks")
}

func TestABlobTransactionInABundleIsNotOneThatStandsAlone(t *testing.T) {
	rules := &countingRules{}
	c := newCache(t, config(), rules, nil)
	blob, plain := []byte{types.BlobTxType, 1, 2}, []byte{types.DynamicFeeTxType, 1, 2}
	for _, raw := range [][]byte{blob, plain} {
		for _, kind := range []order.Kind{order.KindTransaction, order.KindBundle, order.KindShareBundle} {
			_, err := c.Check(raw, kind, now)
			require.NoError(t, err)
		}
	}
	require.EqualValues(t, 3, rules.calls.Load(), "blob twice, plain once")
}

func TestAnEntryLivesSinceItsLastUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := &countingRules{}
		c := newCache(t, config(), rules, nil)
		check := func() {
			t.Helper()
			_, err := c.Check([]byte("again and again"), order.KindBundle, now)
			require.NoError(t, err)
		}
		for range 5 {
			check()
			time.Sleep(30 * time.Second)
		}
		require.EqualValues(t, 1, rules.calls.Load())
		time.Sleep(37 * time.Second)
		check()
		require.EqualValues(t, 2, rules.calls.Load())
	})
}

func TestCacheStaysWithinItsSize(t *testing.T) {
	cfg := config()
	cfg.Size = 64
	c := newCache(t, cfg, &countingRules{}, nil)
	for i := range 10 * cfg.Size {
		_, err := c.Check([]byte{byte(i), byte(i >> 8)}, order.KindBundle, now)
		require.NoError(t, err)
	}
	c.entries.CleanUp()
	require.LessOrEqual(t, c.entries.EstimatedSize(), cfg.Size)
}

func TestExpiredEntriesAreLetGoWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, config(), &countingRules{}, nil)
		run(t, c)
		_, err := c.Check([]byte("x"), order.KindBundle, now)
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Zero(t, c.entries.EstimatedSize())
	})
}

func TestConfigReportsEveryFault(t *testing.T) {
	err := Config{Size: 0, TTL: -1, Secret: "short", SecretFile: "x"}.Validate()
	require.ErrorIs(t, err, ErrConfig)
	require.ErrorIs(t, err, ErrSecret)
	require.Len(t, strings.Split(err.Error(), "\n"), 4)
	require.NotContains(t, err.Error(), "short\"")
	require.NoError(t, config().Validate())
}

func TestSecretComesFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	cfg := config()
	cfg.SecretFile = file
	_, err := New(cfg, testChain, &countingRules{}, nowhere, nil, nil)
	require.ErrorIs(t, err, ErrSecret)
	require.NoError(t, os.WriteFile(file, []byte("too short \n"), 0o600))
	_, err = New(cfg, testChain, &countingRules{}, nowhere, nil, nil)
	require.ErrorIs(t, err, ErrSecret)
	require.NoError(t, os.WriteFile(file, []byte(testSecret+"\n"), 0o600))
	c := newCache(t, cfg, &countingRules{}, nowhere)
	require.True(t, c.Sharing())
	require.Equal(t, newSealer([]byte(testSecret), testChain), c.seal)
}

func TestWarmingTheCacheWarmsItsRules(t *testing.T) {
	rules := &countingRules{}
	newCache(t, config(), rules, nil).Warm()
	require.EqualValues(t, 1, rules.warmed.Load())
}
