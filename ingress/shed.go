package ingress

import (
	"bytes"
	"log/slog"
	"sync/atomic"
	"time"

	"millrace/internal/order"
)

// cancelSize is the size in bytes up to which a body may be a cancel. Larger ones carry
// transactions.
const cancelSize = 1 << 10

// hintSize is how much of a body is looked at for what it may be.
const hintSize = 256

// mayCancel reports, before the body is parsed, whether it could be a cancel: those are not shed
// before what they cancel. It errs on the side of true.
func mayCancel(body []byte) bool {
	return len(body) <= cancelSize && !bytes.Contains(body, []byte("RawTransaction"))
}

// blobTransaction reports, before the body is parsed, whether it looks like one raw blob transaction,
// which is low whoever sends it. It looks at the beginning only and errs on the side of false.
func blobTransaction(body []byte) bool {
	head := body[:min(len(body), hintSize)]
	return bytes.Contains(head, []byte("RawTransaction")) && bytes.Contains(head, []byte(`["0x03`))
}

// shedder decides which classes are refused because the workers are behind.
type shedder struct {
	backlog Backlog
	log     *slog.Logger
	over    [len(order.Priorities) + 1]atomic.Bool // per class: over its age when last asked
}

// refuses reports whether class p is shed: its own or a more urgent class is over its age.
func (s *shedder) refuses(p order.Priority, ages ShedAge) bool {
	shed := false
	for _, c := range order.Priorities {
		if c > p {
			break
		}
		age := time.Duration(0)
		limit := ages.of(c)
		if limit > 0 {
			age = s.backlog.Oldest(c)
		}
		over := limit > 0 && age > limit
		if s.over[c].Load() != over && s.over[c].CompareAndSwap(!over, over) {
			s.note(c, age, limit)
		}
		shed = shed || over
	}
	return shed
}

// note logs a change of a class; single orders are counted, not logged.
func (s *shedder) note(c order.Priority, age, limit time.Duration) {
	attrs := []any{slog.String("priority", c.String()), slog.Duration("oldest", age), slog.Duration("limit", limit)}
	if age > limit {
		s.log.Warn("shedding started", attrs...)
		return
	}
	s.log.Info("shedding ended", attrs...)
}
