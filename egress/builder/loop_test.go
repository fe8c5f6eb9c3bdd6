package builder

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/egress"
	"millrace/internal/ledger"
	"millrace/internal/order"
)

// shelf is a store of medium orders for one target, and its ledger.
type shelf struct {
	orders []*order.Order
	mu     sync.Mutex
	acked  map[uint64]bool
	batch  []byte
}

func (*shelf) Hold(ctx context.Context, _ string, f func(context.Context, func() bool) error) error {
	return f(ctx, func() bool { return true })
}
func (*shelf) Open(context.Context) error   { return nil }
func (*shelf) Remove(context.Context) error { return nil }

func (s *shelf) delivery(sequence uint64) order.Delivery {
	o := s.orders[sequence-1]
	return order.Delivery{Order: o, Sequence: sequence, StoredAt: time.Now(), Deliveries: 1, Size: len(o.Body)}
}

func (s *shelf) Receive(ctx context.Context, p order.Priority, h func(order.Delivery)) error {
	for i := range s.orders {
		if p == order.PriorityMedium {
			h(s.delivery(uint64(i) + 1))
		}
	}
	<-ctx.Done()
	return nil
}

func (s *shelf) Ack(_ order.Priority, sequence uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked[sequence] = true
	return nil
}

func (s *shelf) Body(_ context.Context, _ order.Priority, sequence uint64) (order.Delivery, error) {
	return s.delivery(sequence), nil
}

func (s *shelf) Append(_ context.Context, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batch = append(s.batch, b...)
	return nil
}
func (*shelf) Tail(context.Context, time.Time, func([]byte) error) error { return nil }

func (s *shelf) done() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}

// The loop and the builder together, over real HTTP: a builder that is busy every third time still
// gets every order, and each has one record.
func TestLoopDeliversEverythingToABuilderThatIsOftenBusy(t *testing.T) {
	var mu sync.Mutex
	requests, taken := 0, map[string]int{}
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if requests++; requests%3 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		taken[string(body)]++
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":null}`)
	})
	s := &shelf{acked: map[uint64]bool{}}
	for n := range 300 {
		o := anOrder()
		o.Priority = order.PriorityMedium
		o.ID, o.Key = order.ID{byte(n), byte(n >> 8), 1}, order.ID{byte(n), byte(n >> 8), 2}
		o.Body = []byte(o.ID.String())
		s.orders = append(s.orders, o)
	}
	b := newBuilder(t, srv.URL)
	d, err := egress.New(egress.Config{}, egress.Ports{
		Clock: wallClock{}, Lease: s,
		Feed: func(string, string, order.Scope) egress.Feed { return s }, Log: func(string) egress.Log { return s },
	}, []egress.Destination{{Name: "b", Fingerprint: Fingerprint(srv.URL), Sender: b}}, nil, prometheus.NewRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	require.Eventually(t, func() bool { return s.done() == len(s.orders) }, 20*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)

	audit := ledger.NewAudit()
	for _, o := range s.orders {
		audit.Owe(o.Accept)
		require.Equal(t, 1, taken[string(o.Body)])
	}
	require.NoError(t, audit.Add("b", s.batch))
	require.Empty(t, audit.Violations("b"))
	require.Equal(t, map[ledger.Outcome]int{ledger.Delivered: 300}, audit.Counts())
}
