//go:build e2e && linux

package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/jsonrpc"
	"millrace/loadtest"
)

// small is a flow of orders that hostile traffic must not disturb.
func small(rate float64, d time.Duration) loadtest.Flow {
	return loadtest.Flow{
		Name: "small", Rate: rate, Duration: d, Connections: 32, Timeout: 10 * time.Second, Spacing: loadtest.SpacingPoisson,
		Corpus: loadtest.CorpusConfig{Mix: loadtest.Mix{{Shape: loadtest.ShapeTransaction, Weight: 1}, {Shape: loadtest.ShapeReplacement, Weight: 1}}, SizeScale: 0.5, Signers: 8},
	}
}

// A thousand connections trickle bodies of 10 MiB.
func TestTricklingBodiesAreBoundedAndDisturbNobody(t *testing.T) {
	p := startNode(t)
	before := p.startLoad(t, small(100, 4*time.Second))
	before.wait(t)
	p.verify(t, before, 20*time.Second, 0)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var tricklers sync.WaitGroup
	outcomes := make(chan string, 1000)
	for i := range 1000 {
		tricklers.Go(func() { outcomes <- trickle(ctx, strings.TrimPrefix(p.doors[0], "http://"), i) })
	}
	nap(t, 2*time.Second)
	during := p.startLoad(t, small(100, short(6*time.Second, 30*time.Second)))
	during.wait(t)
	peak := p.peakRSS(t)
	stop()
	tricklers.Wait()
	close(outcomes)
	counts := map[string]int{}
	for o := range outcomes {
		counts[o]++
	}
	p.verify(t, during, 20*time.Second, 0)
	quiet := loadtest.Summarize([]string{"small"}, before.journal.Results(), nil).Flows[0]
	loud := loadtest.Summarize([]string{"small"}, during.journal.Results(), nil).Flows[0]
	report(t, "trickling: %v; small orders p99 %d µs before, %d µs during, answers %v; peak RSS %d MB", counts, quiet.Answer.P99, loud.Answer.P99, loud.Answers, peak>>20)
	require.Less(t, peak, int64(1<<30))
	require.Equal(t, loud.Sent, loud.Answers["accepted"], "small orders are all accepted: %v", firstAnswers(during))
	require.Less(t, counts["open"], 1000, "the byte budget refuses some of 10 GB")
}

// trickle sends a body of 10 MiB slowly and says how it ended: a status, "closed", or "open".
func trickle(ctx context.Context, addr string, i int) string {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "not connected"
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s: 0x%040x:0x%0130x\r\n\r\n", 10<<20, loadtest.SignatureHeader, i, i)
	answered := make(chan string, 1)
	go func() {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			answered <- "closed"
			return
		}
		resp.Body.Close()
		answered <- resp.Status
	}()
	chunk := bytes.Repeat([]byte{' '}, 8<<10)
	for {
		select {
		case a := <-answered:
			if ctx.Err() != nil && a == "closed" {
				return "open"
			}
			return a
		case <-ctx.Done():
			return "open"
		case <-time.After(100 * time.Millisecond):
			_, _ = c.Write(chunk)
		}
	}
}

// A thousand signers that nobody knows send as fast as they can; a known one goes on.
func TestRandomSignersDoNotDisturbAKnownOne(t *testing.T) {
	p := startNode(t)
	known := small(100, short(4*time.Second, 15*time.Second))
	known.Corpus.Signers = 1
	alone := p.startLoad(t, known)
	alone.wait(t)
	p.verify(t, alone, 20*time.Second, 0)

	known.Corpus.Seed = freshSeed()
	strangers := loadtest.Flow{
		Name: "strangers", Rate: 300, Duration: known.Duration, Connections: 64, Preload: 2000,
		Corpus: loadtest.CorpusConfig{Seed: known.Corpus.Seed, FirstSigner: 1, Signers: 1000},
	}
	both := p.startLoad(t, known, strangers)
	both.wait(t)
	v := p.verify(t, both, 30*time.Second, 0)
	a := loadtest.Summarize([]string{"known"}, alone.journal.Results(), nil).Flows[0].Answer
	b := loadtest.Summarize([]string{"known", "strangers"}, both.journal.Results(), nil).Flows
	ratio := float64(b[0].Answer.P99) / float64(max(a.P99, 1))
	report(t, "known entity p99 %d µs alone, %d µs beside 1000 strangers (x%.1f); known %v, strangers %v; %d accepted",
		a.P99, b[0].Answer.P99, ratio, b[0].Answers, b[1].Answers, v.Accepted)
	require.Equal(t, b[0].Sent, b[0].Answers["accepted"])
	if soak() {
		require.LessOrEqual(t, ratio, 2.0)
	}
}

// Each way to send nonsense has its own answer.
func TestNonsenseGetsASpecificError(t *testing.T) {
	p := startNode(t)
	s := newSender(t, freshSeed())
	sign := func(body []byte) string {
		h, err := s.s.Sign(body)
		require.NoError(t, err)
		return h
	}
	good := orderOf(t, loadtest.ShapeBundle).Body
	deep := []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `]}`)
	big := append(append([]byte(nil), good...), bytes.Repeat([]byte{' '}, 11<<20)...)
	twice := bytes.Replace(good, []byte(`"blockNumber"`), []byte(`"blockNumber":"0x1","blockNumber"`), 1)
	typed := bytes.Replace(good, []byte(`"blockNumber":"0x3b9aca00"`), []byte(`"blockNumber":{"a":1}`), 1)
	for name, c := range map[string]struct {
		body         []byte
		header       string
		status, code int
	}{
		"unsigned":       {good, "", 400, jsonrpc.CodeInternal},
		"wrongly signed": {good, sign([]byte("other")), 400, jsonrpc.CodeInternal},
		"truncated":      {good[:len(good)/2], sign(good[:len(good)/2]), 400, jsonrpc.CodeParse},
		"deeply nested":  {deep, sign(deep), 400, 0},
		"duplicate keys": {twice, sign(twice), 400, 0},
		"wrong type":     {typed, sign(typed), 400, jsonrpc.CodeInvalidParams},
		"oversized":      {big, sign(big), 413, 0},
	} {
		r := send(t, p.doors[0], c.header, c.body)
		require.Equal(t, c.status, r.status, "%s: %s", name, r.Result)
		if c.code != 0 {
			require.NotNil(t, r.Error, name)
			require.Equal(t, c.code, r.Error.Code, name)
		} else {
			require.True(t, r.Error != nil && (r.Error.Code == jsonrpc.CodeParse || r.Error.Code == jsonrpc.CodeInvalidParams) || c.status == 413, name)
		}
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 64 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	require.NoError(t, z.Close())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.doors[0], &bomb)
	require.NoError(t, err)
	req.Header.Set("Content-Encoding", "gzip")
	req.Header.Set(loadtest.SignatureHeader, sign(good))
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode, "a gzip bomb")
	require.Empty(t, p.sink.Receipts())
	require.Equal(t, http.StatusOK, s.send(p.doors[0], good).status, "and then an order is taken as usual")
}
