package ingress

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func zipped(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(body))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.String()
}

func TestHostileRequestsGetASpecificError(t *testing.T) {
	t.Parallel()
	d := open(t, newBus(), func(c *Config) { c.MaxBody = 1 << 20 })
	deep := `{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`
	for name, c := range map[string]struct {
		body   string
		status int
		text   string
	}{
		"oversized":           {strings.Repeat(" ", 1<<20+1), 413, "length limit exceeded"},
		"truncated JSON":      {rawTx(1)[:50], 400, "-32700"},
		"not JSON":            {"hello", 400, "-32700"},
		"trailing data":       {rawTx(1) + "{}", 400, "-32700"},
		"deeply nested":       {deep, 400, "-32602"},
		"duplicate key":       {bundle(1, `,"blockNumber":"0x11"`), 400, "duplicate"},
		"duplicate method":    {`{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}`, 400, "-32"},
		"wrong type":          {`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[7]}`, 400, "-32602"},
		"wrong params type":   {`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":{}}`, 400, "-32602"},
		"two params":          {`{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x00","0x00"]}`, 400, "-32602"},
		"object id":           {`{"jsonrpc":"2.0","id":{},"method":"a"}`, 400, "-32700"},
		"empty":               {"", 400, "-32700"},
		"long batch":          {"[" + strings.Repeat(rawTx(1)+",", 32) + rawTx(1) + "]", 400, "-32600"},
		"unknown long method": {`{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("m", 10_000) + `"}`, 404, "Method not found: m"},
	} {
		a := d.sent(keyOf(1), c.body)
		require.Equal(t, c.status, a.status, name+": "+a.body)
		require.Contains(t, a.body, c.text, name)
		require.Less(t, len(a.body), 1000, name)
	}
	require.Empty(t, d.bus.orders())
	require.Zero(t, d.inflight.used())
}

func TestBadSignaturesGetASpecificError(t *testing.T) {
	t.Parallel()
	d := open(t, newBus())
	good := signed(t, keyOf(1), rawTx(1))
	_, value, _ := strings.Cut(good, ": ")
	for name, headers := range map[string][]string{
		"unsigned":           nil,
		"empty":              {"X-Flashbots-Signature: "},
		"of another body":    {signed(t, keyOf(1), rawTx(2))},
		"no colon":           {"X-Flashbots-Signature: 0x00"},
		"no fallback":        {"X-BuilderNet-Signature: 0x00", good},
		"another's address":  {"X-Flashbots-Signature: 0x" + strings.Repeat("11", 20) + value[strings.Index(value, ":"):]},
		"very long":          {"X-Flashbots-Signature: " + strings.Repeat("a", 5000)},
		"empty but present ": {"X-BuilderNet-Signature: ", good},
	} {
		a := d.send(rawTx(1), headers...)
		require.Equal(t, http.StatusBadRequest, a.status, name)
		require.Contains(t, a.body, `"Invalid signature"`, name)
		require.Contains(t, a.body, `"id":null`, name)
	}
	require.Empty(t, d.bus.orders())
}

func TestGzipBombIsCutAtTheLimit(t *testing.T) {
	t.Parallel()
	d := open(t, newBus(), func(c *Config) { c.MaxBody = 1 << 20 })
	bomb := zipped(t, strings.Repeat(" ", 64<<20))
	require.Less(t, len(bomb), 1<<20)
	a := d.send(bomb, "Content-Encoding: gzip", "X-Flashbots-Signature: x")
	require.Equal(t, http.StatusRequestEntityTooLarge, a.status)
	for name, body := range map[string]string{"no gzip": "hello", "cut off": zipped(t, rawTx(1))[:20]} {
		a := d.send(body, "Content-Encoding: gzip", "X-Flashbots-Signature: x")
		require.Equal(t, http.StatusBadRequest, a.status, name)
		require.Contains(t, a.body, "-32700", name)
	}
	a = d.send(rawTx(1), "Content-Encoding: br", "X-Flashbots-Signature: x")
	require.Contains(t, a.body, "unsupported content encoding")
	require.Zero(t, d.inflight.used())
}

func TestTrickledBodiesLeaveSmallOrdersUnaffected(t *testing.T) {
	t.Parallel()
	d := open(t, newBus(), func(c *Config) { c.InflightBytes = 40 << 20; c.BodyTimeout = 20 * time.Second })
	chunk := bytes.Repeat([]byte(" "), 300<<10)
	refused := 0
	for range 100 {
		conn := d.dial()
		_, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nX-Flashbots-Signature: x\r\nContent-Length: %d\r\n\r\n", 10<<20)
		require.NoError(t, err)
		if _, err := conn.Write(chunk); err != nil {
			refused++
		}
	}
	require.Eventually(t, func() bool { return d.rejected("byte_budget") > 0 }, 10*time.Second, 5*time.Millisecond)
	require.LessOrEqual(t, d.inflight.used(), d.inflight.large+(100*smallBody))
	for i := range uint64(20) {
		require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(i)).status)
	}
	require.LessOrEqual(t, refused, 100)
}

func (d *door) rejected(label string) float64 { return testutil.ToFloat64(d.metrics.rejected[label]) }

func TestSlowBodiesAreCutOff(t *testing.T) {
	t.Parallel()
	d := open(t, newBus(), func(c *Config) { c.BodyTimeout = 50 * time.Millisecond })
	conn := d.dial()
	_, err := conn.Write([]byte("POST / HTTP/1.1\r\nHost: x\r\nX-Flashbots-Signature: x\r\nContent-Length: 100\r\n\r\n{"))
	require.NoError(t, err)
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	require.NoError(t, err)
	require.Contains(t, string(buf[:n]), "408 Request Timeout")
	require.Contains(t, string(buf[:n]), "body came too slowly")
}

func TestUnknownSignersDoNotGrowAnything(t *testing.T) {
	t.Parallel()
	d := open(t, newBus(), func(c *Config) { c.MaxEntities = 8 })
	for i := range byte(64) {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"method_%d"}`, i)
		require.Equal(t, http.StatusNotFound, d.sent(keyOf(i), body).status)
	}
	m := d.Server.memory.Load()
	m.entities.CleanUp()
	require.LessOrEqual(t, m.entities.EstimatedSize(), 8)
	require.InDelta(t, 64, d.rejected("unknown_method"), 0)
}

func TestPanicInTheStoreIsAnInternalErrorAndFreesEverything(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.publish = func(*order.Order) error { panic("boom") }
	d := open(t, b)
	a := d.sent(keyOf(1), rawTx(1))
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.NotContains(t, a.body, "boom")
	b.set(func(b *bus) { b.publish = nil })
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(1)).status)
	require.Zero(t, d.inflight.used())
	require.Zero(t, d.waiters.len())
}

// Whatever number of unknown signers waits for a CPU, a known one goes first, and when no more may
// wait one of them is refused.
func TestRandomSignersWaitBehindAKnownEntity(t *testing.T) {
	t.Parallel()
	b := newBus()
	d := open(t, b, func(c *Config) { c.CPUSlots, c.GateQueue, c.GateWait = 1, 16, time.Minute })
	known := keyOf(0)
	require.Equal(t, http.StatusOK, d.sent(known, bundle(1, "")).status)

	require.True(t, d.gate.tryEnter(), "hold the only slot")
	var wg sync.WaitGroup
	var refused atomic.Int64
	flood := func(key *ecdsa.PrivateKey, body string) {
		header := signed(t, key, body)
		wg.Go(func() {
			if a, err := d.try(t.Context(), body, header); err == nil && a.status == http.StatusServiceUnavailable {
				refused.Add(1)
			}
		})
	}
	for i := range byte(16) {
		flood(keyOf(i+1), bundle(uint64(i), ""))
	}
	require.Eventually(t, func() bool { return d.gate.waiting() == 16 }, 10*time.Second, time.Millisecond)
	flood(known, bundle(99, ""))
	require.Eventually(t, func() bool { return refused.Load() == 1 }, 10*time.Second, time.Millisecond)
	good := func() int {
		d.gate.mu.Lock()
		defer d.gate.mu.Unlock()
		return len(d.gate.lots[lotGood].queue)
	}
	require.Equal(t, 1, good())
	d.gate.leave()
	// The slot is given on at once; that its order is stored first as well is up to the scheduler.
	require.Zero(t, good(), "the known entity has it")
	wg.Wait()
	require.Len(t, b.orders(), 17)
	require.InDelta(t, 1, d.rejected("cpu"), 0)
}

func TestForgedClaimsLoseTheirRank(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	var e entity
	e.accepted(now)
	e.forged(here, now)
	require.Equal(t, standing{}, e.standing(here, now.Add(time.Second)))
	require.Equal(t, now, e.standing(there, now.Add(time.Second)).known)
	require.Equal(t, now, e.standing(here, now.Add(forgeryPenalty)).known)
}
