package engine

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi/record"
)

// blank is a recorder that keeps nothing.
type blank struct{}

func (blank) Request(*record.Request) {}
func (blank) Outcome(*record.Outcome) {}

// bodies are a forkchoice, and a payload of the size of a full block of today.
func bodies() map[string]string {
	big := `{"blockHash":` + hashA + `,"parentHash":` + hashB + `,"blockNumber":"0x1","timestamp":"0x2","transactions":["0x` +
		strings.Join(slices.Repeat([]string{strings.Repeat("ab", 500)}, 200), `","0x`) + `"]}`
	return map[string]string{
		"forkchoice":  forkchoice("1", hashA, "null"),
		"payload200k": rpc("1", "engine_newPayloadV4", big),
	}
}

// BenchmarkProxied compares a call through the door with the same call made directly; p50 is what
// to compare.
func BenchmarkProxied(b *testing.B) {
	p := newPrimary(b, primarySecret)
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":` + valid + `}`)
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})
	f := open(b, p)
	f.ports.Recorder = blank{}
	for name, body := range bodies() {
		for _, way := range []struct{ name, url, token string }{
			{"direct", p.URL + "/", p.secret.Authorization(time.Now())},
			{"door", f.url(), ""},
		} {
			b.Run(name+"/"+way.name, func(b *testing.B) {
				b.ReportAllocs()
				var took []time.Duration
				for b.Loop() {
					auth := way.token
					if auth == "" {
						auth = token()
					}
					start := time.Now()
					post(b, f.client, way.url, auth, body)
					took = append(took, time.Since(start))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			})
		}
	}
}

func post(b *testing.B, c *http.Client, url, auth, body string) {
	b.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(b, err)
	req.Header["Authorization"] = []string{auth}
	req.Header["Content-Type"] = []string{contentTypeJSON}
	resp, err := c.Do(req)
	require.NoError(b, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	require.Equal(b, 200, resp.StatusCode)
}

// BenchmarkExchange is the door's own part of a call, without sockets.
func BenchmarkExchange(b *testing.B) {
	for name, body := range bodies() {
		b.Run(name, func(b *testing.B) {
			f := made(b, "http://127.0.0.1:1")
			f.ports.Recorder = blank{}
			f.order.primary.client = &canned{drop: true, status: 200, body: []byte(`{"jsonrpc":"2.0","id":1,"result":` + valid + `}`)}
			raw := bytes.Clone([]byte(body))
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				f.carry(b.Context(), f.exchange(raw), func(reply) {})
			}
		})
	}
}
