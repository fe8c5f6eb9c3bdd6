package subjects

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names of the Engine API's record and of what its replayers share.
const (
	// StreamEngine holds every recorded call and its outcome, oldest first, for record.engine.max_age or
	// until record.engine.max_bytes. One that is too slow finds it gone, and says so.
	StreamEngine = "ENGINE"
	// StreamDivergence holds what secondaries answered otherwise than the primary. It is a stream of its own
	// because it is evidence: it outlives the calls, and costs no replayer a message to skip.
	StreamDivergence = "DIVERGENCE"
	// BucketEngine holds cursors, modes, the epoch and the choice of the primary.
	BucketEngine = "ENGINE_STATE"

	// HeaderChunk is, on a part of a record that exceeds a message, "<index>/<count>", from one.
	HeaderChunk = "Mr-Chunk"

	// EngineDuplicates is how long a repeat of a record is not stored again.
	EngineDuplicates = 2 * time.Minute
	// EngineAckWait is how long a record in hand of a replayer that died waits; a living one says that it is
	// at work.
	EngineAckWait = time.Minute
	// EngineAckPending is how many records a replayer is handed at a time.
	EngineAckPending = 32

	// divergenceShare is the part of the engine's bytes that divergences get, up to divergenceMax.
	divergenceShare = 16
	divergenceMax   = 256 << 20

	// EnginePrimaryKey and EngineEpochKey are keys of BucketEngine.
	EnginePrimaryKey = "primary"
	EngineEpochKey   = "epoch"
	engineModes      = "mode."
	engineCursors    = "cursor."

	engineDurable  = "engine_"
	otherMethod    = "other"
	maxEngineMajor = 9 // versions above are of no subject of their own
)

// engineMethods are the methods with a subject of their own; those of the engine namespace without
// their version.
func engineMethods() (engine, plain []string) {
	return []string{
			"newPayload", "forkchoiceUpdated", "getPayload", "getPayloadBodiesByHash", "getPayloadBodiesByRange",
			"getBlobs", "getInclusionList", "getClientVersion", "exchangeTransitionConfiguration",
		}, []string{
			"engine_exchangeCapabilities",
			"eth_blockNumber", "eth_call", "eth_chainId", "eth_getBlockByHash", "eth_getBlockByNumber", "eth_getCode",
			"eth_getLogs", "eth_sendRawTransaction", "eth_syncing",
		}
}

// methodToken is the last token of a record's subject: a method that is known, or one for all others,
// because the client chooses what it calls.
func methodToken(method string) string {
	engine, plain := engineMethods()
	if slices.Contains(plain, method) {
		return method
	}
	base, ok := strings.CutPrefix(method, "engine_")
	if i := len(base) - 2; ok && i > 0 && base[i] == 'V' && base[i+1] >= '1' && base[i+1] <= '0'+maxEngineMajor &&
		slices.Contains(engine, base[:i]) {
		return method
	}
	return otherMethod
}

// EngineCall is where a call is recorded: engine.calls.<method>.
func EngineCall(method string) string { return "engine.calls." + methodToken(method) }

// EngineOutcome is where the primary's answer is recorded: engine.outcomes.<method>.
func EngineOutcome(method string) string { return "engine.outcomes." + methodToken(method) }

// Divergence is where the divergences of a secondary go.
func Divergence(secondary string) string { return "engine.divergence." + secondary }

// EngineKind says which of a call's two records is meant.
type EngineKind byte

// The two records of a call.
const (
	EngineRequestKind EngineKind = 'q'
	EngineOutcomeKind EngineKind = 'o'
)

// Valid reports whether k is one of the two.
func (k EngineKind) Valid() bool { return k == EngineRequestKind || k == EngineOutcomeKind }

// EngineMessage is what a message id on ENGINE says: <epoch>.<sequence>.<q|o>, and for a part of a
// record .<try>.<index> besides. It is never a hash of what was called: a consensus client may rightly say A,
// B, A (CORRECTNESS 22).
type EngineMessage struct {
	Epoch, Sequence uint64
	Kind            EngineKind
	// Try is zero for a whole record. A record in parts that was interrupted is sent once more as a whole,
	// under the next try, so that no reader mixes them.
	Try   int
	Index int // from one
}

// String is the Nats-Msg-Id.
func (m EngineMessage) String() string {
	var buf [64]byte
	b := strconv.AppendUint(buf[:0], m.Epoch, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, m.Sequence, 10)
	b = append(b, '.', byte(m.Kind))
	if m.Try > 0 {
		b = append(b, '.')
		b = strconv.AppendInt(b, int64(m.Try), 10)
		b = append(b, '.')
		b = strconv.AppendInt(b, int64(m.Index), 10)
	}
	return string(b)
}

// ParseEngineMessage reads a message id of ENGINE.
func ParseEngineMessage(s string) (m EngineMessage, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 && len(parts) != 5 || len(parts[2]) != 1 {
		return m, false
	}
	m.Kind = EngineKind(parts[2][0])
	var err error
	if m.Epoch, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return m, false
	}
	if m.Sequence, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return m, false
	}
	if len(parts) == 5 {
		m.Try, err = strconv.Atoi(parts[3])
		if err != nil || m.Try < 1 {
			return m, false
		}
		if m.Index, err = strconv.Atoi(parts[4]); err != nil || m.Index < 1 {
			return m, false
		}
	}
	return m, m.Kind.Valid() && m.String() == s
}

// Chunk is a HeaderChunk.
func Chunk(index, count int) string { return strconv.Itoa(index) + "/" + strconv.Itoa(count) }

// MaxChunks bounds the parts of a record.
const MaxChunks = 4096

// ParseChunk reads a HeaderChunk.
func ParseChunk(s string) (index, count int, ok bool) {
	a, b, found := strings.Cut(s, "/")
	index, err1 := strconv.Atoi(a)
	count, err2 := strconv.Atoi(b)
	ok = found && err1 == nil && err2 == nil && index >= 1 && index <= count && count <= MaxChunks
	return index, count, ok
}

// EngineModeKey is a secondary's key of BucketEngine for its mode, EngineModeOf its inverse.
func EngineModeKey(secondary string) string { return engineModes + secondary }

// EngineModeOf is the secondary that a key of BucketEngine is the mode of.
func EngineModeOf(key string) (secondary string, ok bool) { return strings.CutPrefix(key, engineModes) }

// EngineModeKeys matches every EngineModeKey.
const EngineModeKeys = engineModes + "*"

// EngineCursorKey is an execution client's key of BucketEngine for how far its replayer is.
func EngineCursorKey(target string) string { return engineCursors + target }

// EngineDoorLease is the lease of whoever passes calls to the primary of this name; EngineLease that of
// the replayer of an execution client. No delivery target's lease has a dot.
func EngineDoorLease(primary string) string { return "engine.door." + primary }

// EngineLease is the lease of the replayer of an execution client.
func EngineLease(target string) string { return "engine.replay." + target }

// EngineDurable is the name of an execution client's consumer on ENGINE.
func EngineDurable(target string) string { return engineDurable + target }

// EngineConsumer is that consumer: the live tail. How far it has acknowledged is a hint for metrics; where
// replaying resumes is for the execution client's own head to say.
func EngineConsumer(target string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       EngineDurable(target),
		DeliverPolicy: jetstream.DeliverAllPolicy, // the only policy that can be reset to any place
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       EngineAckWait,
		MaxDeliver:    -1,
		MaxAckPending: EngineAckPending,
		Metadata:      map[string]string{MetaSchema: SchemaVersion},
	}
}

// engineStreams are the streams of the Engine API; none without bytes for them.
func engineStreams(o Options) []jetstream.StreamConfig {
	if o.EngineMaxBytes <= 0 {
		return nil
	}
	share := min(o.EngineMaxBytes/divergenceShare, divergenceMax)
	calls := ledger(o, StreamEngine, "", o.EngineMaxBytes-share)
	calls.Subjects = []string{"engine.calls.*", "engine.outcomes.*"}
	calls.MaxAge = o.EngineMaxAge
	calls.Duplicates = EngineDuplicates
	if o.EngineMaxAge > 0 {
		calls.Duplicates = min(calls.Duplicates, o.EngineMaxAge)
	}
	divergence := ledger(o, StreamDivergence, Divergence("*"), share)
	divergence.MaxAge = max(divergence.MaxAge, o.EngineMaxAge)
	divergence.Duplicates = EngineDuplicates
	return []jetstream.StreamConfig{calls, divergence}
}

// engineBuckets is the bucket of the Engine API.
func engineBuckets(o Options) []jetstream.KeyValueConfig {
	if o.EngineMaxBytes <= 0 {
		return nil
	}
	return []jetstream.KeyValueConfig{{
		Bucket: BucketEngine, History: 1, MaxBytes: 1 << 20,
		Storage: jetstream.FileStorage, Replicas: max(o.Replicas, 1),
		Metadata: map[string]string{MetaSchema: SchemaVersion},
	}}
}
