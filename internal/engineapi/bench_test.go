package engineapi

import (
	"strings"
	"testing"
)

func newPayloadBody(transactions int) []byte {
	tx := `"0x` + strings.Repeat("0f", 500) + `"`
	return []byte(`{"jsonrpc":"2.0","id":1,"method":"engine_newPayloadV4","params":[{"parentHash":"` + hashB + `","blockNumber":"0x2","transactions":[` +
		strings.Repeat(tx+",", transactions) + tx + `],"timestamp":"0x1","blockHash":"` + hashA + `"},[],"` + hash0 + `",[]]}`)
}

func BenchmarkParseCalls(b *testing.B) {
	for name, n := range map[string]int{"2kB": 1, "300kB": 300} {
		b.Run(name, func(b *testing.B) {
			body := newPayloadBody(n)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = ParseCalls(body)
			}
		})
	}
}

func BenchmarkPayload(b *testing.B) {
	calls, _, _ := ParseCalls(newPayloadBody(300))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = calls[0].Payload()
	}
}

func BenchmarkWithoutAttributes(b *testing.B) {
	calls, _, _ := ParseCalls([]byte(`{"jsonrpc":"2.0","id":1,"method":"engine_forkchoiceUpdatedV3","params":[` + state + `,{"timestamp":"0x1","withdrawals":[]}]}`))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = calls[0].WithoutAttributes()
	}
}

func BenchmarkParseResult(b *testing.B) {
	body := []byte(`{"jsonrpc":"2.0","id":1,"result":{"payloadStatus":{"status":"VALID","latestValidHash":"` + hashA + `","validationError":null},"payloadId":null}}`)
	b.ReportAllocs()
	for b.Loop() {
		_ = ParseResult(200, body)
	}
}

func BenchmarkVerify(b *testing.B) {
	var s Secret
	auth := s.Authorization(now)
	b.ReportAllocs()
	for b.Loop() {
		_ = s.Verify(auth, now)
	}
}

func BenchmarkMint(b *testing.B) {
	var s Secret
	b.ReportAllocs()
	for b.Loop() {
		_ = s.Mint(now)
	}
}
