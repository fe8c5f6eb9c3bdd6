package ingress

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"millrace/internal/clientip"
)

// badSignatureCost is how many requests of its source's budget a wrong signature costs: about
// what its verification costs in CPU, compared with an early refusal.
const badSignatureCost = 10

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

// client is the address that r's budget belongs to.
func client(r *http.Request, trusted []netip.Prefix) netip.Addr {
	return clientip.Of(r.RemoteAddr, r.Header["X-Forwarded-For"], trusted)
}
