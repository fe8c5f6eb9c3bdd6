package limit

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestNothingIsLimitedByDefault(t *testing.T) {
	l := limiter(t, Config{}, nil)
	require.Equal(t, 10_000, burst(l, 10_000))
}

func TestEachLimitThatIsSetApplies(t *testing.T) {
	cfg := Config{
		Budget: Budget{Total: rate(t, "10"), Method: map[string]Rate{"eth_getLogs": rate(t, "2")}},
		IP:     map[string]Budget{"192.0.2.9": {Total: rate(t, "1")}, "2001:db8::1": {Total: rate(t, "3")}},
		PerKey: Budget{Total: rate(t, "5"), Method: map[string]Rate{"eth_call": rate(t, "4")}},
		All:    Budget{Total: rate(t, "30")},
	}
	other, own, v6 := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::")
	for name, c := range map[string]struct {
		ip          netip.Addr
		key, method string
		want        int
	}{
		"an address in all":             {client, "", "eth_call", 10},
		"an address's method":           {client, "", "eth_getLogs", 2},
		"a key in all":                  {client, "k", "eth_chainId", 5},
		"a key's method":                {client, "k", "eth_call", 4},
		"an address of its own":         {own, "", "eth_call", 1},
		"its entry replaces everything": {own, "", "eth_getLogs", 1},
		"a /64 of its own":              {v6, "", "eth_call", 3},
		"no address":                    {netip.Addr{}, "", "eth_call", 30},
	} {
		t.Run(name, func(t *testing.T) {
			l := limiter(t, cfg, nil)
			admitted := 0
			for range 50 {
				if _, ok := l.Allow(c.ip, c.key, c.method, 1); ok {
					admitted++
				}
			}
			require.Equal(t, c.want, admitted)
			_, ok := l.Allow(other, "", "eth_chainId", 1)
			require.Equal(t, c.want < 30, ok, "others are none the worse for it")
		})
	}
}

func TestWhatOneLimitRefusesCountsForNone(t *testing.T) {
	l := limiter(t, Config{Budget: Budget{Total: rate(t, "10")}, PerKey: Budget{Total: rate(t, "2")}, All: Budget{Total: rate(t, "11")}}, nil)
	for range 100 {
		l.Allow(client, "k", "eth_call", 1)
	}
	require.Equal(t, 8, burst(l, 100), "98 of the 100 did not count")
	require.InDelta(t, 98, testutil.ToFloat64(l.m.refused[scopeKey][0]), 0)
	other := netip.MustParseAddr("192.0.2.2")
	_, ok := l.Allow(other, "", "eth_call", 2)
	require.False(t, ok)
	_, ok = l.Allow(other, "", "eth_call", 1)
	require.True(t, ok)
}

func TestABatchIsAdmittedAsAWholeOrNotAtAll(t *testing.T) {
	l := limiter(t, Config{Budget: Budget{Total: rate(t, "10/s")}}, nil)
	_, ok := l.Allow(client, "", "eth_call", 8)
	require.True(t, ok)
	_, ok = l.Allow(client, "", "eth_call", 3)
	require.False(t, ok)
	_, ok = l.Allow(client, "", "eth_call", 2)
	require.True(t, ok)
	retry, ok := l.Allow(client, "", "eth_call", 11)
	require.False(t, ok)
	require.Equal(t, time.Second, retry, "more than the limit never fits")
}

func TestACallIsAdmittedWhenItWasSaidItWouldBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, Config{Budget: Budget{Total: rate(t, "10/s")}}, nil)
		for range 10 {
			require.Equal(t, 1, burst(l, 1))
			time.Sleep(30 * time.Millisecond)
		}
		retry, ok := l.Allow(client, "", "eth_call", 1)
		require.False(t, ok)
		time.Sleep(retry - 2*time.Nanosecond)
		require.Zero(t, burst(l, 1))
		time.Sleep(2 * time.Nanosecond)
		require.Equal(t, 1, burst(l, 1))
	})
}

func TestAWindowNeverHoldsMoreThanItsLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Uint32Range(1, 50).Draw(t, "limit")
		w := window{rule: rule{limit, 50 * time.Millisecond}}
		const span = slots * 50 * time.Millisecond
		type admitted struct {
			at time.Duration
			n  uint32
		}
		var all []admitted
		now := time.Duration(1)
		for range rapid.IntRange(1, 200).Draw(t, "calls") {
			now += time.Duration(rapid.Int64Range(0, int64(150*time.Millisecond)).Draw(t, "pause"))
			n := rapid.Uint32Range(1, limit).Draw(t, "n")
			w.roll(now)
			if !w.fits(n, limit) {
				retry := w.retry(now, n, limit)
				if retry <= 0 || retry > span+50*time.Millisecond {
					t.Fatalf("retry after %s", retry)
				}
				now += retry
				w.roll(now)
				if !w.fits(n, limit) {
					t.Fatalf("not admitted after %s", retry)
				}
			}
			w.add(n)
			if rapid.IntRange(0, 5).Draw(t, "undo") == 0 {
				w.remove(n)
				continue
			}
			all = append(all, admitted{now, n})
			var sum uint32
			for _, a := range all {
				if now-a.at < span {
					sum += a.n
				}
			}
			if sum > limit {
				t.Fatalf("%d of %d", sum, limit)
			}
		}
	})
}

func TestStrangersCannotGrowIt(t *testing.T) {
	l := limiter(t, Config{Budget: Budget{Total: rate(t, "1/h")}, PerKey: Budget{Total: rate(t, "1/h")}, Clients: 64}, nil)
	for i := range 10_000 {
		l.Allow(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), fmt.Sprint("a very long key that is nobody's and has no business here, nor has it any end ", i), "eth_call", 1)
	}
	require.LessOrEqual(t, l.ips.forget(0), 64)
	require.LessOrEqual(t, l.keys.forget(0), 64)
	require.Positive(t, testutil.ToFloat64(l.m.evicted))
}

func TestIdleClientsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, Config{Budget: Budget{Total: rate(t, "10/s")}}, nil)
		defer run(t, l)()
		require.Equal(t, 1, burst(l, 1))
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, 1, l.ips.forget(0))
		time.Sleep(2 * time.Second)
		require.Zero(t, l.ips.forget(0))
	})
}

func TestAReloadKeepsWhatWasUsedOfLimitsThatStay(t *testing.T) {
	cfg := Config{Budget: Budget{Total: rate(t, "10"), Method: map[string]Rate{"eth_call": rate(t, "5")}}}
	l := limiter(t, cfg, nil)
	require.Equal(t, 5, burst(l, 7))
	cfg.Budget = Budget{Total: rate(t, "20"), Method: map[string]Rate{"a": rate(t, "1"), "eth_call": rate(t, "5")}}
	require.NoError(t, l.Reload(cfg))
	require.Zero(t, burst(l, 1))
	require.NoError(t, l.Reload(Config{}))
	require.Equal(t, 100, burst(l, 100))
	require.Error(t, l.Reload(Config{IP: map[string]Budget{"x": {}}}))
}

func TestRatesAreReadAsTheyAreWritten(t *testing.T) {
	for s, want := range map[string]Rate{
		"":        {},
		"0":       {},
		"0/s":     {},
		"100":     {100, time.Minute},
		"100/s":   {100, time.Second},
		"6000/m":  {6000, time.Minute},
		" 5 / h ": {5, time.Hour},
		"20/10s":  {20, 10 * time.Second},
	} {
		r, err := ParseRate(s)
		require.NoError(t, err, s)
		require.Equal(t, want, r, s)
		back, err := ParseRate(r.String())
		require.NoError(t, err)
		require.Equal(t, r, back)
	}
	for _, s := range []string{"x", "-1", "1/", "1/x", "1/1ms", "1/9000h", "99999999999", "1/-1s", "/s"} {
		_, err := ParseRate(s)
		require.ErrorIs(t, err, ErrRate, s)
	}
}

func TestEveryFaultOfAConfigurationIsReported(t *testing.T) {
	err := (&Config{
		Budget: Budget{Total: Rate{Count: -1}}, PerKey: Budget{Method: map[string]Rate{"": rate(t, "1")}}, Clients: 1,
		IP: map[string]Budget{"nobody": {}},
	}).Validate()
	for _, s := range []string{"rate_limit.clients", "rate_limit: ", "without a name", "nobody"} {
		require.ErrorContains(t, err, s)
	}
}

func FuzzParseRate(f *testing.F) {
	f.Add("100/s")
	f.Add("20/1h30m")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRate(s)
		if err != nil {
			return
		}
		back, err := ParseRate(r.String())
		require.NoError(t, err)
		require.Equal(t, r, back)
	})
}
