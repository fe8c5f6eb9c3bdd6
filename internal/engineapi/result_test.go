package engineapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
)

func TestBothShapesOfAStatusReadAlike(t *testing.T) {
	h := common.HexToHash(hashA)
	status := `{"status":"VALID","latestValidHash":"` + hashA + `","validationError":null}`
	r := ParseResult(http.StatusOK, []byte(`{"jsonrpc":"2.0","id":1,"result":`+status+`}`))
	require.Equal(t, Result{HTTPStatus: 200, Status: StatusValid, LatestValid: &h}, r)
	require.True(t, r.OK())
	require.Equal(t, Valid, r.Verdict())
	r = ParseResult(http.StatusOK, []byte(`{"jsonrpc":"2.0","id":1,"result":{"payloadStatus":`+status+`,"payloadId":"0x0408d16da8909b40"}}`))
	require.Equal(t, Result{HTTPStatus: 200, Status: StatusValid, LatestValid: &h, PayloadID: "0x0408d16da8909b40"}, r)
	yes := true
	r = ParseResult(http.StatusOK, []byte(`{"id":1,"result":{"status":"INVALID","latestValidHash":null,"validationError":"bad","inclusionListSatisfied":true,"witness":"0x"}}`))
	require.Equal(t, Result{HTTPStatus: 200, Status: StatusInvalid, Validation: "bad", InclusionList: &yes}, r)
}

func TestStatusesOfForksToComeAreUndetermined(t *testing.T) {
	for status, want := range map[Status]Verdict{
		StatusValid: Valid, StatusInvalid: Invalid, StatusInvalidBlockHash: Invalid, StatusSyncing: Undetermined,
		StatusAccepted: Undetermined, StatusMissing: Undetermined, "SOMETHING": Undetermined, "valid": Undetermined, "": Undetermined,
	} {
		r := ParseResult(http.StatusOK, []byte(`{"id":1,"result":{"status":"`+string(status)+`"}}`))
		require.Equal(t, status, r.Status)
		require.Equal(t, want, r.Verdict(), status)
	}
}

func TestAnErrorIsNeverSuccess(t *testing.T) {
	for body, code := range map[string]int{
		`{"id":1,"error":{"code":-38002,"message":"Invalid forkchoice state","data":{}}}`:         CodeInvalidForkchoice,
		`{"id":1,"error":{"code":0,"message":"x"}}`:                                               CodeInternal,
		`{"id":1,"error":{"code":"x"}}`:                                                           CodeInternal,
		`{"id":1,"error":"x"}`:                                                                    CodeInternal,
		`{"id":1,"result":{"status":"VALID"},"error":{"code":-38006,"message":"Too deep reorg"}}`: CodeTooDeepReorg,
	} {
		r := ParseResult(http.StatusOK, []byte(body))
		require.Equal(t, code, r.Code, body)
		require.False(t, r.OK())
		require.Equal(t, Undetermined, r.Verdict())
		require.False(t, r.Malformed)
	}
	require.True(t, ParseResult(http.StatusOK, []byte(`{"id":1,"result":null,"error":null}`)).OK())
	require.True(t, ParseResult(http.StatusOK, []byte(`{"id":1,"result":["engine_newPayloadV1"]}`)).OK())
}

func TestWhatIsNoAnswerIsMalformed(t *testing.T) {
	for _, body := range []string{``, ` `, `stale token`, `{}`, `[]`, `{"id":1}`, `{"id":1,"result":`, `{"result":1} x`} {
		r := ParseResult(http.StatusUnauthorized, []byte(body))
		require.True(t, r.Malformed, body)
		require.False(t, r.OK())
		require.Equal(t, Undetermined, r.Verdict())
		require.Equal(t, body, r.Message)
	}
	r := ParseResult(http.StatusOK, []byte(strings.Repeat("é", 1000)+"\xff"))
	require.LessOrEqual(t, len(r.Message), maxMessage)
}

func TestTextsOfAnAnswerAreBounded(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	r := ParseResult(http.StatusOK, []byte(`{"result":{"payloadStatus":{"status":"`+long+`","validationError":"`+long+`"},"payloadId":"`+long+`"}}`))
	require.LessOrEqual(t, len(r.Status), maxStatus)
	require.LessOrEqual(t, len(r.Validation), maxMessage)
	require.Empty(t, r.PayloadID)
	r = ParseResult(http.StatusOK, []byte(strings.Repeat(`{"result":`, 20_000)))
	require.True(t, r.Malformed)
	nested := strings.Repeat(`{"payloadStatus":`, 100_000) + `{}` + strings.Repeat(`}`, 100_000)
	require.Empty(t, ParseResult(http.StatusOK, []byte(`{"result":`+nested+`}`)).Status)
}

func TestABlockIsKnownByNumberAndHash(t *testing.T) {
	n, h, ok := BlockResult([]byte(`{"jsonrpc":"2.0","id":1,"result":{"hash":"` + hashA + `","number":"0x190","transactions":[]}}`))
	require.True(t, ok)
	require.Equal(t, uint64(400), n)
	require.Equal(t, common.HexToHash(hashA), h)
	for _, body := range []string{``, `{"result":null}`, `{"error":{"code":1}}`, `{"result":{"number":"0x1"}}`, `{"result":{"number":"0x1","hash":null}}`} {
		_, _, ok := BlockResult([]byte(body))
		require.False(t, ok, body)
	}
}

func FuzzParseResult(f *testing.F) {
	f.Add(200, []byte(`{"jsonrpc":"2.0","id":1,"result":{"payloadStatus":{"status":"VALID","latestValidHash":"`+hashA+`"},"payloadId":"0x01"}}`))
	f.Add(200, []byte(`{"error":{"code":-32000,"message":"\u0041"}}`))
	f.Add(401, []byte(`stale token`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := ParseResult(status, body)
		require.Equal(t, status, r.HTTPStatus)
		require.NotZero(t, r.Verdict())
		require.False(t, r.OK() && (r.Code != 0 || r.Malformed))
		_, _, _ = BlockResult(body)
	})
}
