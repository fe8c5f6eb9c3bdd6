package ingress

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// badSignatureCost is how many requests of its source's budget a wrong signature costs: about
// what its verification costs in CPU, compared with an early refusal.
const badSignatureCost = 10

// ipv6Site is the prefix that one IPv6 client can use at will.
const ipv6Site = 64

// source is one client address's budgets (an IPv6 /64 counts as one).
type source struct {
	mu       sync.Mutex
	made     sourceLimits
	requests *rate.Limiter
	stored   *rate.Limiter
}

// sourceLimits are the bounds of one source. Zero counts are unlimited.
type sourceLimits struct {
	rate   IPRate
	bytes  int64
	window time.Duration // in which bytes may be stored
}

// apply makes the limiters fit want. The caller holds mu.
func (s *source) apply(want sourceLimits) {
	if s.made == want {
		return
	}
	s.made, s.requests, s.stored = want, nil, nil
	if want.rate.Count > 0 {
		s.requests = rate.NewLimiter(rate.Limit(float64(want.rate.Count)/want.rate.Window.Seconds()), want.rate.Count)
	}
	if want.bytes > 0 {
		s.stored = rate.NewLimiter(rate.Limit(float64(want.bytes)/want.window.Seconds()), int(want.bytes))
	}
}

// request takes n requests from the budget.
func (s *source) request(now time.Time, n int, lim sourceLimits) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply(lim)
	return s.requests == nil || s.requests.AllowN(now, n)
}

// store takes n bytes from the budget of stored bytes (CORRECTNESS 6).
func (s *source) store(now time.Time, n int, lim sourceLimits) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply(lim)
	return s.stored == nil || s.stored.AllowN(now, n)
}

// refund gives back n bytes that were not stored after all.
func (s *source) refund(now time.Time, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored != nil {
		s.stored.AllowN(now, -n)
	}
}

// client is the address that r's budget belongs to: the peer of the connection, or, behind
// trusted proxies only, the last X-Forwarded-For entry that is not one of them.
func client(r *http.Request, trusted []netip.Prefix) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // not TCP; all of those share one budget
	}
	addr := ap.Addr().Unmap()
	if within(addr, trusted) {
		addr = forwardedFor(r.Header["X-Forwarded-For"], addr, trusted)
	}
	if addr.Is6() {
		if site, err := addr.WithZone("").Prefix(ipv6Site); err == nil {
			return site.Addr()
		}
	}
	return addr
}

// forwardedFor walks the chain from its end, where our own proxies wrote.
func forwardedFor(lines []string, addr netip.Addr, trusted []netip.Prefix) netip.Addr {
	for _, rest := range slices.Backward(lines) {
		for rest != "" {
			entry := rest
			if cut := strings.LastIndexByte(rest, ','); cut >= 0 {
				rest, entry = rest[:cut], rest[cut+1:]
			} else {
				rest = ""
			}
			next, err := netip.ParseAddr(strings.TrimSpace(entry))
			if err != nil {
				return addr // what lies before can't be believed
			}
			if addr = next.Unmap(); !within(addr, trusted) {
				return addr
			}
		}
	}
	return addr
}

func within(addr netip.Addr, nets []netip.Prefix) bool {
	for _, n := range nets {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}
