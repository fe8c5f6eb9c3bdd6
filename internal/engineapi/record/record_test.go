package record

import (
	"bytes"
	"crypto/sha256"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi"
)

var (
	hashA = common.HexToHash("0x0e4e46e090644ca2d0b7ea2225a4676a19d2e249e34ff19c44f1e9aad899df71")
	hashB = common.HexToHash("0x5ecbbbaf8e1d289a1f1bc9b31b03cb4169fb72599f13a3c85a39a467cf0d1ca9")
)

func TestARequestIsWhatTheCallSays(t *testing.T) {
	f := engineapi.Forkchoice{Head: hashA, Safe: hashB, Arity: 2}
	calls, _, err := engineapi.ParseCalls(engineapi.AppendForkchoice(nil, 3, "engine_forkchoiceUpdatedV3", f))
	require.NoError(t, err)
	at := time.Unix(1_763_700_000, 123_456_789).UTC()
	r := NewRequest(ID{2, 9}, at, calls[0])
	require.Equal(t, &Request{
		ID: ID{2, 9}, Received: at, Method: "engine_forkchoiceUpdatedV3", Class: engineapi.ClassForkchoice,
		Forkchoice: &f, Raw: calls[0].Raw,
	}, r)
	require.Equal(t, calls[0].Method, r.Call().Method)

	calls, _, err = engineapi.ParseCalls([]byte(`{"id":1,"method":"engine_newPayloadV4","params":[{}]}`))
	require.NoError(t, err)
	r = NewRequest(ID{1, 1}, at, calls[0])
	require.Equal(t, engineapi.ClassReplay, r.Class)
	require.Nil(t, r.Payload)
	require.Nil(t, r.Forkchoice)
	require.Empty(t, (&Request{Raw: []byte("[]")}).Call().Method)
}

func requests() []*Request {
	return []*Request{
		{Class: engineapi.ClassRead},
		{ID: ID{1, 1}, Method: "eth_syncing", Class: engineapi.ClassRead, Raw: []byte(`{"id":1,"method":"eth_syncing"}`), Verified: true},
		{
			ID: ID{7, math.MaxUint64}, Received: time.Unix(1_763_700_000, 1).UTC(), Method: "engine_forkchoiceUpdatedV4",
			Class: engineapi.ClassForkchoice, Batch: 12, Verified: true, OmittedSize: 5, Raw: bytes.Repeat([]byte("0123456789"), 1000),
			Forkchoice: &engineapi.Forkchoice{Head: hashA, Safe: hashB, Finalized: hashA, Attributes: true, Arity: 3},
		},
		{
			ID: ID{1, 2}, Method: "engine_newPayloadV5", Class: engineapi.ClassReplay, Raw: []byte("not JSON at all"),
			Payload: &engineapi.Payload{Hash: hashA, Parent: hashB, Number: math.MaxUint64, Timestamp: 12},
		},
	}
}

func outcomes() []*Outcome {
	yes, no := true, false
	return []*Outcome{
		{},
		{ID: ID{1, 2}, Method: "engine_newPayloadV5", Unknown: "timeout", Duration: time.Minute},
		{
			ID: ID{3, 4}, Method: "engine_forkchoiceUpdatedV3", HTTPStatus: 200, Duration: 1234 * time.Microsecond, Size: 99,
			SHA256: sha256.Sum256([]byte("x")), Eligible: true,
			Result: engineapi.Result{HTTPStatus: 200, Status: "VALID", LatestValid: &hashA, PayloadID: "0x01", InclusionList: &yes},
		},
		{
			ID: ID{3, 5}, Method: "engine_newPayloadV3", HTTPStatus: 401,
			Result: engineapi.Result{HTTPStatus: 401, Code: -38002, Message: "stale token", Validation: "v", Malformed: true, InclusionList: &no, LatestValid: new(common.Hash)},
		},
		{
			ID: ID{3, 6}, Method: "engine_getPayloadV4", HTTPStatus: 200, Result: engineapi.Result{HTTPStatus: 200, Code: math.MinInt32},
			Built: &Built{PayloadID: "0x0408d16da8909b40", Hash: hashB, Number: 9, GasUsed: 21000, Transactions: 3, Value: *uint256.NewInt(0).SetAllOne()},
		},
	}
}

func TestRecordsReadBackAsTheyWere(t *testing.T) {
	for _, want := range requests() {
		e, err := Decode(want.Encode())
		require.NoError(t, err)
		require.Nil(t, e.Outcome)
		require.Equal(t, want.ID, e.ID())
		require.Empty(t, cmp.Diff(want, e.Request, cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })))
		var again Request
		require.NoError(t, again.Decode(want.Encode()))
		require.ErrorIs(t, new(Outcome).Decode(want.Encode()), ErrRecord)
	}
	for _, want := range outcomes() {
		e, err := Decode(want.Encode())
		require.NoError(t, err)
		require.Nil(t, e.Request)
		require.Equal(t, want.ID, e.ID())
		require.Empty(t, cmp.Diff(want, e.Outcome))
		var again Outcome
		require.NoError(t, again.Decode(want.Encode()))
		require.ErrorIs(t, new(Request).Decode(want.Encode()), ErrRecord)
	}
	require.Zero(t, Entry{}.ID())
}

func TestADecodedRecordSharesNoMemory(t *testing.T) {
	for _, want := range requests() {
		frame := want.Encode()
		e, err := Decode(frame)
		require.NoError(t, err)
		clear(frame)
		require.True(t, bytes.Equal(want.Raw, e.Request.Raw))
		require.Equal(t, want.Method, e.Request.Method)
	}
}

func TestARequestFromOneKilobyteOnIsCompressed(t *testing.T) {
	text := strings.Repeat("0f", 1<<20)
	frame := (&Request{Raw: []byte(text)}).Encode()
	require.Less(t, len(frame), 1<<18)
	random := sha256.Sum256([]byte("x"))
	noise := []byte(nil)
	for len(noise) < 4096 {
		random = sha256.Sum256(random[:])
		noise = append(noise, random[:]...)
	}
	frame = (&Request{Raw: noise}).Encode()
	require.Less(t, len(frame), len(noise)+16)
	require.Contains(t, string((&Request{Raw: []byte("short")}).Encode()), "short")
}

func TestAnOlderReaderPassesOverWhatItDoesNotKnow(t *testing.T) {
	for _, kind := range []byte{kindRequest, kindOutcome} {
		w := frame(kind, 0)
		w.head(ID{1, 2}, "engine_newPayloadV9")
		w.bytes(900, []byte("from the future"))
		w.number(tagSequence, 3)
		e, err := Decode(w.finish([]byte("x")))
		require.NoError(t, err)
		require.Equal(t, ID{1, 3}, e.ID())
	}
}

func TestWhatIsNoRecordIsRefused(t *testing.T) {
	good := requests()[2].Encode()
	for i := range good[:16] {
		_, err := Decode(good[:i])
		require.ErrorIs(t, err, ErrRecord, i)
	}
	bad := func(f func(w *writer)) []byte {
		w := frame(kindRequest, 0)
		f(w)
		return w.finish(nil)
	}
	compressed := append([]byte{version, kindRequest, flagS2, 0}, 0xff, 0xff, 0xff, 0xff, 0x0f)
	for _, b := range [][]byte{
		nil,
		{version + 1, kindRequest, 0, 0},
		{version, 'x', 0, 0},
		{version, kindRequest, 0, 9},
		compressed,
		{version, kindRequest, flagS2, 0, 5, 1},
		bad(func(w *writer) { w.bytes(tagSequence, []byte{0x80}) }),
		bad(func(w *writer) { w.number(tagReceived, math.MaxUint64) }),
		bad(func(w *writer) { w.bytes(tagForkchoice, []byte("short")) }),
		bad(func(w *writer) { w.bytes(tagPayload, []byte("short")) }),
		bad(func(w *writer) { w.bytes(tagPayload, make([]byte, 64)) }),
		bad(func(w *writer) { w.b = append(w.b, 1) }),
		bad(func(w *writer) { w.b = append(w.b, 1, 9, 1) }),
		bad(func(w *writer) { w.kind = kindOutcome; w.bytes(tagSHA256, []byte("short")) }),
		bad(func(w *writer) { w.kind = kindOutcome; w.bytes(tagBuilt, make([]byte, 64)) }),
		bad(func(w *writer) { w.kind = kindOutcome; w.number(tagHTTPStatus, math.MaxUint64) }),
	} {
		_, err := Decode(b)
		require.ErrorIs(t, err, ErrRecord, "%x", b)
	}
}

func TestIDsReadBackAndOrderByDispatch(t *testing.T) {
	for _, id := range []ID{{}, {1, 2}, {math.MaxUint64, math.MaxUint64}} {
		again, err := ParseID(id.String())
		require.NoError(t, err)
		require.Equal(t, id, again)
	}
	for _, s := range []string{"", "1", "1.", ".1", "1.2.3", "-1.2", "a.b"} {
		_, err := ParseID(s)
		require.ErrorIs(t, err, ErrRecord, s)
	}
	require.Negative(t, ID{1, 9}.Compare(ID{2, 1}))
	require.Negative(t, ID{2, 1}.Compare(ID{2, 2}))
	require.Positive(t, ID{2, 2}.Compare(ID{2, 1}))
	require.Zero(t, ID{2, 2}.Compare(ID{2, 2}))
}

func TestWhatWasBuiltIsReadFromTheCapture(t *testing.T) {
	var found int
	for p := range capture(t) {
		calls, _, err := engineapi.ParseCalls(p.Request)
		require.NoError(t, err)
		if calls[0].Class() != engineapi.ClassPayload {
			continue
		}
		found++
		b := ParseBuilt(calls[0].PayloadID(), p.Answer)
		require.NotNil(t, b, p.Seq)
		require.NotZero(t, b.Hash)
		require.Regexp(t, "^0x[0-9a-f]{16}$", b.PayloadID)
	}
	require.Equal(t, 12, found)
	require.Nil(t, ParseBuilt("0x01", []byte(`{"error":{"code":-38001,"message":"Unknown payload"}}`)))
}

func TestEveryCallOfTheCaptureIsReplayable(t *testing.T) {
	var n int
	for p := range capture(t) {
		n++
		calls, _, err := engineapi.ParseCalls(p.Request)
		require.NoError(t, err)
		r := NewRequest(ID{1, p.Seq}, p.Time, calls[0])
		require.Equal(t, p.Method, r.Method)
		require.Equal(t, r.Class == engineapi.ClassForkchoice, r.Forkchoice != nil)
		require.Equal(t, r.Class == engineapi.ClassReplay, r.Payload != nil)
		e, err := Decode(r.Encode())
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(r, e.Request))
		if result := engineapi.ParseResult(p.HTTPStatus, p.Answer); r.Forkchoice != nil || r.Payload != nil {
			require.Equal(t, engineapi.Valid, result.Verdict())
		}
	}
	require.Equal(t, 53, n)
}

func capture(t *testing.T) func(func(Pair) bool) {
	t.Helper()
	b, err := os.ReadFile("../../eltest/testdata/sample.jsonl")
	require.NoError(t, err)
	return func(yield func(Pair) bool) {
		for p, err := range ReadPairs(bytes.NewReader(b)) {
			require.NoError(t, err)
			if !yield(p) {
				return
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range requests() {
		f.Add(r.Encode())
	}
	for _, o := range outcomes() {
		f.Add(o.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Decode(b)
		if err != nil {
			require.ErrorIs(t, err, ErrRecord)
			return
		}
		var again Entry
		if e.Request != nil {
			again, err = Decode(e.Request.Encode())
		} else {
			again, err = Decode(e.Outcome.Encode())
		}
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(e, again, cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })))
	})
}
