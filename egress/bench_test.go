package egress

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

// BenchmarkLoop is one order from the feed to its record and its acknowledgement, by a target that
// answers at once; what the fakes cost is in it.
func BenchmarkLoop(b *testing.B) {
	s := newStore()
	to := &counting{}
	r := run(b, s, to, Config{MaxAge: time.Minute})
	orders := make([]*order.Order, 0, 1<<20)
	for n := range min(b.N+1, 1<<16) {
		orders = append(orders, spec{content: n, age: time.Minute}.order())
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		o := *orders[n%len(orders)]
		o.Accept = order.NewAcceptID(time.Now())
		o.ID[0], o.ID[1], o.ID[2], o.ID[3] = byte(n), byte(n>>8), byte(n>>16), 1
		s.put(&o)
		n++
	}
	require.Eventually(b, func() bool { return s.unacked() == 0 }, time.Minute, time.Millisecond)
	r.stop()
}

type counting struct{}

func (counting) Send(context.Context, Attempt) Result { return taken }
