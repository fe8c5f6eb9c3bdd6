//go:build e2e && linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// warm is how many connections go idle, at the door as at the builder.
const warm = 48

// Senders with a warm connection each, and a warm pool of ours at the builder, stand idle for longer than either side
// keeps a connection; then all send at once. Nothing fails, and nothing is sent twice.
func TestABurstAfterAnIdleSpellFailsNothing(t *testing.T) {
	p := startNode(t)
	p.sink.SetServiceTime(250 * time.Millisecond) // so that each order of a burst needs a connection of its own
	corpus, err := loadtest.NewCorpus(loadtest.CorpusConfig{Seed: freshSeed(), Mix: loadtest.Only(loadtest.ShapeTransaction)})
	require.NoError(t, err)
	senders := make([]*http.Client, warm)
	for i := range senders {
		transport := &http.Transport{IdleConnTimeout: 90 * time.Second} // Go's default: the door closes first
		t.Cleanup(transport.CloseIdleConnections)
		senders[i] = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	}
	p.burst(t, senders, corpus, 0)
	idle := time.Now()
	eventually(t, time.Minute, func() bool { return p.closedConnections() >= warm }, "the door closes all idle connections")
	report(t, "the door closed %d idle connections after %s", warm, time.Since(idle).Round(time.Second))
	p.burst(t, senders, corpus, warm)

	rs := p.sink.Receipts()
	require.Len(t, rs, 2*warm)
	for _, r := range rs {
		require.True(t, r.Taken() && !r.Repeat, "%+v", r)
	}
	_, page := get(p.bus.admin + "/metrics")
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "millrace_egress_requests_total{") && !strings.Contains(line, `verdict="accepted"`) {
			require.True(t, strings.HasSuffix(line, " 0\n"), line)
		}
	}
}

// burst sends an order with each sender at once, from the first-th of a corpus on, and waits until the builder has
// all.
func (p *pipeline) burst(t *testing.T, senders []*http.Client, corpus *loadtest.Corpus, first uint64) {
	t.Helper()
	answers := make(chan error, len(senders))
	for i, client := range senders {
		o, err := corpus.Order(first + uint64(i))
		require.NoError(t, err)
		go func() { answers <- p.once(t.Context(), client, o) }()
	}
	for range senders {
		require.NoError(t, <-answers)
	}
	want := int(first) + len(senders)
	eventually(t, 20*time.Second, func() bool { return p.sink.Taken() >= want }, "the builder takes %d orders", want)
}

// once sends an order a single time.
func (p *pipeline) once(ctx context.Context, client *http.Client, o *loadtest.Order) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.doors[0], bytes.NewReader(o.Body))
	if err != nil {
		return err
	}
	req.GetBody = nil // the transport must not send it again by itself
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(loadtest.SignatureHeader, o.Header)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"result"`))) {
		err = fmt.Errorf("answered %d %s", resp.StatusCode, body)
	}
	return err
}

// closedConnections is how many connections of senders the door has seen end.
func (p *pipeline) closedConnections() int {
	_, page := get(p.bus.admin + "/metrics")
	n, _ := lineValue(page, `millrace_http_connections_total{listener="orders",state="closed"} `)
	return int(n)
}
