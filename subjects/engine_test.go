package subjects

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func engineOptions() Options {
	o := options()
	o.EngineMaxAge, o.EngineMaxBytes = 24*time.Hour, 10<<30
	return o
}

func TestTheEngineHasStreamsOnlyWhenItIsConfigured(t *testing.T) {
	plain := len(Streams(options()))
	require.Len(t, Buckets(engineOptions()), len(Buckets(options()))+1)
	streams := Streams(engineOptions())
	require.Len(t, streams, plain+2)
	var sum int64
	for _, c := range streams {
		switch c.Name {
		case StreamEngine:
			require.Equal(t, 24*time.Hour, c.MaxAge)
			require.Equal(t, EngineDuplicates, c.Duplicates)
			sum += c.MaxBytes
		case StreamDivergence:
			require.GreaterOrEqual(t, c.MaxAge, Backstop, "evidence outlives the calls")
			sum += c.MaxBytes
		default:
			continue
		}
		require.Equal(t, jetstream.DiscardOld, c.Discard, "CORRECTNESS 22")
		require.Equal(t, jetstream.LimitsPolicy, c.Retention)
		require.Equal(t, jetstream.S2Compression, c.Compression)
		require.Equal(t, jetstream.FileStorage, c.Storage)
	}
	require.Equal(t, engineOptions().EngineMaxBytes, sum, "together they take what is configured")
}

func TestAShortEngineRecordHasAWindowThatFits(t *testing.T) {
	o := engineOptions()
	o.EngineMaxAge = time.Minute
	for _, c := range Streams(o) {
		if c.Name == StreamEngine {
			require.Equal(t, time.Minute, c.Duplicates)
		}
	}
}

func TestEveryEngineSubjectBelongsToExactlyOneStream(t *testing.T) {
	want := map[string]string{
		EngineCall("engine_newPayloadV4"):           StreamEngine,
		EngineOutcome("engine_forkchoiceUpdatedV3"): StreamEngine,
		EngineCall("no.such.method"):                StreamEngine,
		Divergence("besu"):                          StreamDivergence,
	}
	for s, stream := range want {
		var owners []string
		for _, c := range Streams(engineOptions()) {
			if slices.ContainsFunc(c.Subjects, func(filter string) bool { return matches(filter, s) }) {
				owners = append(owners, c.Name)
			}
		}
		require.Equal(t, []string{stream}, owners, s)
	}
}

func TestAClientsMethodNameIsNoSubject(t *testing.T) {
	for _, method := range []string{
		"engine_newPayloadV1", "engine_newPayloadV9", "engine_getPayloadBodiesByRangeV2", "engine_exchangeCapabilities",
		"engine_getClientVersionV1", "eth_syncing",
	} {
		require.Equal(t, "engine.calls."+method, EngineCall(method))
		require.Equal(t, "engine.outcomes."+method, EngineOutcome(method))
	}
	for _, method := range []string{
		"", "engine_", "engine_V1", "engine_newPayloadV0", "engine_newPayloadV10", "engine_newPayloadWithWitnessV4",
		"engine_newPayload", "newPayloadV4", "eth_accounts", "engine_newPayloadV4.>", "*", "a b", strings.Repeat("x", 1<<16),
	} {
		require.Equal(t, "engine.calls.other", EngineCall(method))
	}
}

func TestRule22EngineMessageIDsAreEpochAndSequence(t *testing.T) {
	for want, m := range map[string]EngineMessage{
		"1.2.q":                         {Epoch: 1, Sequence: 2, Kind: EngineRequestKind},
		"1.2.o":                         {Epoch: 1, Sequence: 2, Kind: EngineOutcomeKind},
		"7.18446744073709551615.q.1.18": {Epoch: 7, Sequence: 1<<64 - 1, Kind: EngineRequestKind, Try: 1, Index: 18},
	} {
		require.Equal(t, want, m.String())
		got, ok := ParseEngineMessage(want)
		require.True(t, ok, want)
		require.Equal(t, m, got)
	}
	for _, s := range []string{
		"", "1.2", "1.2.x", "1.2.q.1", "1.2.q.0.1", "1.2.q.1.0", "01.2.q", "1.2.qq", "-1.2.q", "1.2.q.1.2.3", "a.b.q", "1.2.",
	} {
		_, ok := ParseEngineMessage(s)
		require.False(t, ok, s)
	}
}

func TestChunksAreCounted(t *testing.T) {
	index, count, ok := ParseChunk(Chunk(3, 18))
	require.True(t, ok)
	require.Equal(t, []int{3, 18}, []int{index, count})
	for _, s := range []string{"", "1", "0/3", "4/3", "1/", "/1", "1/100000", "-1/3", "a/b"} {
		_, _, ok := ParseChunk(s)
		require.False(t, ok, s)
	}
}

func TestTheReplayersConsumerNeverGivesUpAndCanGoBack(t *testing.T) {
	c := EngineConsumer("geth")
	require.Equal(t, "engine_geth", c.Durable)
	require.Equal(t, -1, c.MaxDeliver)
	require.Equal(t, jetstream.AckExplicitPolicy, c.AckPolicy)
	require.Equal(t, jetstream.DeliverAllPolicy, c.DeliverPolicy)
	require.Positive(t, c.MaxAckPending)
	require.False(t, c.MemoryStorage)
	require.Zero(t, c.InactiveThreshold)
}

func TestEngineKeysAreApart(t *testing.T) {
	secondary, ok := EngineModeOf(EngineModeKey("geth"))
	require.True(t, ok)
	require.Equal(t, "geth", secondary)
	_, ok = EngineModeOf(EngineCursorKey("geth"))
	require.False(t, ok)
	require.NotEqual(t, EngineDoorLease("geth"), EngineLease("geth"))
}

func FuzzParseEngineMessage(f *testing.F) {
	for _, s := range []string{"1.2.q", "1.2.o.1.3", "..", "1.2.q.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, ok := ParseEngineMessage(s); ok {
			require.Equal(t, s, m.String())
			require.True(t, m.Kind.Valid())
		}
	})
}

func FuzzParseChunk(f *testing.F) {
	for _, s := range []string{"1/1", "2/18", "0/0", "1/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if index, count, ok := ParseChunk(s); ok {
			require.LessOrEqual(t, index, count)
			require.Positive(t, index)
		}
	})
}
