package record

import (
	"strings"
	"testing"
	"time"

	"millrace/internal/engineapi"
)

func BenchmarkEncodeRequest(b *testing.B) {
	r := &Request{
		ID: ID{1, 2}, Received: time.Unix(1_763_700_000, 0), Method: "engine_newPayloadV4", Class: engineapi.ClassReplay,
		Payload: &engineapi.Payload{Hash: hashA, Parent: hashB, Number: 7, Timestamp: 9}, Raw: []byte(strings.Repeat("0123456789abcdef", 1<<14)),
	}
	b.SetBytes(int64(len(r.Raw)))
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Encode()
	}
}

func BenchmarkDecodeRequest(b *testing.B) {
	frame := (&Request{Method: "engine_newPayloadV4", Raw: []byte(strings.Repeat("0123456789abcdef", 1<<14))}).Encode()
	b.SetBytes(1 << 18)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Decode(frame)
	}
}

func BenchmarkEncodeOutcome(b *testing.B) {
	o := outcomes()[2]
	b.ReportAllocs()
	for b.Loop() {
		_ = o.Encode()
	}
}
