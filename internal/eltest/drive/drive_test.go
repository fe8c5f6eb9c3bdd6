package drive_test

import (
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/eltest/drive"
	"millrace/internal/engineapi"
)

func start(t *testing.T, cfg eltest.Config) (*eltest.Fake, drive.Endpoint) {
	t.Helper()
	secret, err := engineapi.ParseSecret("7365637265747365637265747365637265747365637265747365637265747365")
	require.NoError(t, err)
	cfg.Secret = &secret
	f := eltest.NewFake(cfg)
	require.NoError(t, f.Start())
	t.Cleanup(f.Stop)
	return f, drive.Endpoint{URL: f.URL(), Secret: secret}
}

func genesis(t *testing.T) drive.Genesis {
	t.Helper()
	g, err := drive.ReadGenesis("../testdata/genesis-mini.json")
	require.NoError(t, err)
	require.Equal(t, uint64(770077), g.ChainID)
	return g
}

func TestADriverGoesThroughEveryForkWithTheMethodsOfEach(t *testing.T) {
	f, e := start(t, eltest.Config{})
	d := drive.New(drive.Config{Target: e, Genesis: genesis(t), BuildWait: time.Microsecond})
	require.NoError(t, d.Sync(t.Context()))
	for range 14 {
		require.NoError(t, d.Step(t.Context()))
	}
	require.Equal(t, uint64(14), f.Head().Number)
	require.Equal(t, d.Head().Hash, f.Head().Hash)
	used := map[string]int{}
	for _, s := range f.Calls() {
		used[s.Call.Method]++
	}
	require.Equal(t, map[string]int{
		"eth_getBlockByNumber":       2,
		"engine_forkchoiceUpdatedV1": 4, "engine_forkchoiceUpdatedV2": 4, "engine_forkchoiceUpdatedV3": 12, "engine_forkchoiceUpdatedV4": 8,
		"engine_getPayloadV1": 2, "engine_getPayloadV2": 2, "engine_getPayloadV3": 2, "engine_getPayloadV4": 2, "engine_getPayloadV5": 2, "engine_getPayloadV6": 4,
		"engine_newPayloadV1": 2, "engine_newPayloadV2": 2, "engine_newPayloadV3": 2, "engine_newPayloadV4": 4, "engine_newPayloadV5": 4,
	}, used)
	safe, final := f.Anchors()
	require.NotZero(t, safe)
	require.NotZero(t, final)
}

func TestARandomNetworkEndsAtTheDriversHead(t *testing.T) {
	f, e := start(t, eltest.Config{})
	d := drive.New(drive.Config{Target: e, Genesis: genesis(t), BuildWait: time.Microsecond, Seed: 7})
	require.NoError(t, d.Sync(t.Context()))
	for range 200 {
		require.NoError(t, d.Random(t.Context()))
	}
	require.Equal(t, d.Head().Hash, f.Head().Hash)
	again := drive.New(drive.Config{Target: e, Genesis: genesis(t), BuildWait: time.Microsecond})
	require.NoError(t, again.Sync(t.Context()))
	require.Equal(t, d.Head(), again.Head())
	require.NoError(t, again.Step(t.Context()))
}

func TestANetworkGoesOnWithoutItsTarget(t *testing.T) {
	network, n := start(t, eltest.Config{Name: "NW"})
	target, e := start(t, eltest.Config{})
	d := drive.New(drive.Config{Target: e, Network: &n, Genesis: genesis(t), BuildWait: time.Microsecond})
	require.NoError(t, d.Sync(t.Context()))
	require.NoError(t, d.Step(t.Context()))
	require.Equal(t, network.Head(), target.Head())
	target.Stop()
	for range 5 {
		require.NoError(t, d.Step(t.Context()))
	}
	require.Equal(t, 15, d.Refused())
	require.Equal(t, uint64(6), network.Head().Number)
	require.Equal(t, uint64(1), target.Head().Number)
	for _, s := range target.CallsOf(engineapi.ClassForkchoice) {
		fc, err := s.Call.Forkchoice()
		require.NoError(t, err)
		require.False(t, fc.Attributes)
	}
}

func TestADriverSaysWhatItsClientDoesNotFindValid(t *testing.T) {
	f, e := start(t, eltest.Config{Snap: true})
	d := drive.New(drive.Config{Target: e, Genesis: genesis(t), BuildWait: time.Microsecond, Finality: drive.NoFinality})
	require.NoError(t, d.Sync(t.Context()))
	require.ErrorIs(t, d.Step(t.Context()), drive.ErrNotValid)
	f.Reject(common.Hash{})
	f.Stop()
	require.Error(t, d.Step(t.Context()))
}
