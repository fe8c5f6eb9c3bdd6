package ingress

import (
	"crypto/ecdsa"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func TestInflightKeepsAShareForSmallBodies(t *testing.T) {
	t.Parallel()
	f := newInflight(4 << 20)
	require.True(t, f.grow(0, smallBody))
	require.True(t, f.grow(smallBody, 3<<20), "three quarters are for anyone")
	require.False(t, f.grow(0, smallBody+1), "the last quarter is for small bodies")
	require.True(t, f.grow(0, smallBody))
	require.False(t, f.grow(smallBody, 2*smallBody))
	require.Equal(t, int64(3<<20+smallBody), f.used(), "a refusal changes nothing")
	f.release(3 << 20)
	require.True(t, f.grow(smallBody, 2*smallBody))
	f.release(2 * smallBody)
	require.Zero(t, f.used())
	require.Zero(t, f.inUseByLarger.Load())
}

func TestClientIsBelievedBehindTrustedProxiesOnly(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		remote, forwarded, want string
	}{
		{"192.0.2.1:5", "1.1.1.1", "192.0.2.1"},
		{"10.0.0.1:5", "1.1.1.1", "1.1.1.1"},
		{"10.0.0.1:5", "9.9.9.9, 1.1.1.1, 10.0.0.7", "1.1.1.1"},
		{"10.0.0.1:5", "9.9.9.9, junk, 10.0.0.7", "10.0.0.7"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"[::ffff:192.0.2.1]:5", "", "192.0.2.1"},
		{"[2001:db8:1:2:3:4:5:6]:5", "", "2001:db8:1:2::"},
		{"10.0.0.1:5", "2001:db8:1:2:ffff::1", "2001:db8:1:2::"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{}}
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		require.Equal(t, netip.MustParseAddr(c.want), client(r, trusted), c)
	}
	require.False(t, client(&http.Request{RemoteAddr: "@"}, trusted).IsValid())
}

func TestSourceBudgetIsSpentBeforeAnythingIsHashed(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.now = time.Unix(1_730_000_000, 0)
	d := open(t, b, func(c *Config) { c.IPRate = IPRate{Window: time.Second, Count: 15} })
	require.Equal(t, http.StatusBadRequest, d.send(rawTx(1), "X-Flashbots-Signature: 0x00").status, "a wrong signature costs ten more")
	for i := range uint64(4) {
		require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(i)).status)
	}
	a := d.sent(keyOf(1), rawTx(9))
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.Contains(t, a.body, `"Rate limited"`)
	require.Equal(t, "1", a.header.Get("Retry-After"))
	b.set(func(b *bus) { b.now = b.now.Add(time.Second) })
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), rawTx(9)).status)
}

func TestRateLimitIsPerSignerAndReloads(t *testing.T) {
	t.Parallel()
	b := newBus()
	b.now = time.Unix(1_730_000_000, 0)
	limit := RateLimit{Enabled: true, Window: time.Second, Count: 2}
	d := open(t, b, func(c *Config) { c.RateLimit = limit })
	statuses := func(n byte) (got []int) {
		for i := range uint64(3) {
			got = append(got, d.sent(keyOf(n), rawTx(i)).status)
		}
		return got
	}
	require.Equal(t, []int{200, 200, 429}, statuses(1))
	require.Equal(t, []int{200, 200, 429}, statuses(2))
	batch := "[" + rawTx(5) + "," + rawTx(6) + "," + rawTx(7) + "]"
	require.Equal(t, http.StatusTooManyRequests, d.sent(keyOf(3), batch).status, "each element counts")

	cfg := d.policy.Load().Config
	cfg.RateLimit.Enabled = false
	require.NoError(t, d.Reload(cfg))
	require.Equal(t, []int{200, 200, 200}, statuses(1))
}

func TestSheddingRefusesLowFirstAndNeverACancel(t *testing.T) {
	t.Parallel()
	b := newBus()
	d := open(t, b)
	medium, high := bundle(1, ""), rawTx(1)
	statuses := func(p order.Priority, age time.Duration) []int {
		b.set(func(b *bus) { clear(b.oldest); b.oldest[p] = age })
		return []int{
			d.sent(keyOf(1), high).status, d.sent(keyOf(1), medium).status, d.sent(keyOf(1), cancel(someUUID)).status,
		}
	}
	require.Equal(t, []int{200, 200, 200}, statuses(order.PriorityLow, time.Minute))
	require.Equal(t, []int{200, 503, 200}, statuses(order.PriorityMedium, 4*time.Second+1))
	require.Equal(t, []int{503, 503, 200}, statuses(order.PriorityHigh, 10*time.Second+1))
	require.Equal(t, []int{200, 200, 200}, statuses(order.PriorityHigh, 10*time.Second))
}

func TestShedSignerKnownAsLowIsRefusedBeforeHashing(t *testing.T) {
	t.Parallel()
	b := newBus()
	d := open(t, b)
	spam(t, d, keyOf(1), 2000)
	b.set(func(b *bus) { b.oldest[order.PriorityLow] = 2 * time.Second })
	address := crypto.PubkeyToAddress(keyOf(1).PublicKey).Hex()
	forged := "X-Flashbots-Signature: " + address + ":0x00" // verification would say so
	a := d.send(rawTx(1), forged)
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "1", a.header.Get("Retry-After"))
	require.Equal(t, http.StatusOK, d.sent(keyOf(1), cancel(someUUID)).status, "a cancel still passes")
	require.Equal(t, http.StatusOK, d.sent(keyOf(2), rawTx(1)).status)
}

// spam makes key's signer Low: many requests, all invalid.
func spam(t *testing.T, d *door, key *ecdsa.PrivateKey, n int) {
	t.Helper()
	signer := crypto.PubkeyToAddress(key.PublicKey)
	e := recall(d.Server.memory.Load().entities, signer, func() *entity { return new(entity) })
	for range n {
		e.request(time.Now())
		e.invalid(time.Now())
	}
	require.GreaterOrEqual(t, e.standing(netip.Addr{}, time.Now()).score, float64(order.ScoreLow))
}

func TestClosedDoorRefusesEverythingAndIsNotReady(t *testing.T) {
	t.Parallel()
	b := newBus()
	d := open(t, b)
	b.set(func(b *bus) { b.closed = "volume is 91 % full" })
	a := d.sent(keyOf(1), cancel(someUUID))
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Contains(t, a.body, `"Disk full"`)
	require.Contains(t, a.body, "91 %")
	require.EqualError(t, d.ready(), "Disk full: volume is 91 % full")
	b.set(func(b *bus) { b.closed = "" })
	require.NoError(t, d.ready())
}
