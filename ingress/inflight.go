package ingress

import "sync/atomic"

// smallBody is the size up to which a body may use the share of memory that is kept for small
// ones. The published distribution has its 99th percentile at 40 kB.
const smallBody = 64 << 10

// inflight bounds the bytes of all bodies between the first byte read and the answer. Nobody waits
// for it: when it is exhausted the request is refused at once. Bodies above smallBody may only use
// three quarters, so a thousand large or trickling ones leave small orders unaffected.
type inflight struct {
	total, large         int64 // bounds in bytes
	inUse, inUseByLarger atomic.Int64
}

func newInflight(total int64) *inflight {
	return &inflight{total: total, large: total / 4 * 3}
}

// used is the number of bytes reserved.
func (f *inflight) used() int64 { return f.inUse.Load() }

// grow turns a reservation of from bytes into one of to > from; false leaves it as it was.
func (f *inflight) grow(from, to int64) bool {
	if !add(&f.inUse, to-from, f.total) {
		return false
	}
	if to <= smallBody {
		return true
	}
	counted := from
	if from <= smallBody {
		counted = 0
	}
	if !add(&f.inUseByLarger, to-counted, f.large) {
		f.inUse.Add(from - to)
		return false
	}
	return true
}

// release gives back a reservation of n bytes.
func (f *inflight) release(n int64) {
	f.inUse.Add(-n)
	if n > smallBody {
		f.inUseByLarger.Add(-n)
	}
}

// add adds n to v unless that exceeds limit.
func add(v *atomic.Int64, n, limit int64) bool {
	if v.Add(n) <= limit {
		return true
	}
	v.Add(-n)
	return false
}
