package builder

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/egress/post"
	"millrace/internal/order"
)

const (
	stubInterval = 10 * time.Second
	stubMaxBody  = 32 << 20
)

// Stub is a builder that takes everything and only counts: what `millrace node` delivers to when no
// builder is configured. GET / shows the counts as JSON.
type Stub struct {
	log    *slog.Logger
	counts [order.PriorityLow + 1]atomic.Uint64 // by class; 0: none given
	repeat atomic.Uint64
	bytes  atomic.Uint64
}

// NewStub returns a stub that logs to log; nil is silent.
func NewStub(log *slog.Logger) *Stub {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Stub{log: log}
}

// Serve answers on l until ctx ends; one line per interval says what came.
func (s *Stub) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	tick := time.NewTicker(stubInterval)
	defer tick.Stop()
	var last uint64
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			last = s.report(ctx, last)
		case <-ctx.Done():
			s.report(context.WithoutCancel(ctx), last)
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			err := srv.Shutdown(closing)
			cancel()
			if err != nil {
				_ = srv.Close()
			}
			if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		}
	}
}

// report logs the counts when there is news.
func (s *Stub) report(ctx context.Context, last uint64) uint64 {
	c := s.Counts()
	if c.Orders != last {
		s.log.LogAttrs(ctx, slog.LevelInfo, "stub builder took orders",
			slog.Uint64("new", c.Orders-last), slog.Uint64("total", c.Orders), slog.Uint64("high", c.High),
			slog.Uint64("medium", c.Medium), slog.Uint64("low", c.Low))
	}
	return c.Orders
}

// Counts is what a stub has got.
type Counts struct {
	Orders  uint64 `json:"orders"`
	High    uint64 `json:"high"`
	Medium  uint64 `json:"medium"`
	Low     uint64 `json:"low"`
	Repeats uint64 `json:"repeats"` // marked as possible repeats
	Bytes   uint64 `json:"bytes"`
}

// Counts returns what came so far.
func (s *Stub) Counts() Counts {
	c := Counts{
		High: s.counts[order.PriorityHigh].Load(), Medium: s.counts[order.PriorityMedium].Load(),
		Low: s.counts[order.PriorityLow].Load(), Repeats: s.repeat.Load(), Bytes: s.bytes.Load(),
	}
	c.Orders = c.High + c.Medium + c.Low + s.counts[0].Load()
	return c
}

// ServeHTTP takes an order, or shows the counts.
func (s *Stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodPost {
		b, _ := json.Marshal(s.Counts())
		_, _ = w.Write(append(b, '\n'))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, stubMaxBody))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var call struct {
		ID     jsontext.Value `json:"id"`
		Method string         `json:"method"`
	}
	if err := json.Unmarshal(body, &call); err != nil {
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}`)
		return
	}
	s.count(r.Header, len(body))
	s.log.LogAttrs(r.Context(), slog.LevelDebug, "stub builder took an order", slog.String("method", call.Method), slog.Int("bytes", len(body)))
	if len(call.ID) == 0 {
		call.ID = jsontext.Value("null")
	}
	_, _ = w.Write(append(append([]byte(`{"jsonrpc":"2.0","id":`), call.ID...), `,"result":null}`...))
}

func (s *Stub) count(h http.Header, size int) {
	class := 0
	for _, p := range order.Priorities {
		if h.Get(post.HeaderPriority) == p.String() {
			class = int(p)
		}
	}
	s.counts[class].Add(1)
	s.bytes.Add(uint64(size)) //nolint:gosec // not negative
	if h.Get(post.HeaderRepeat) != "" {
		s.repeat.Add(1)
	}
}
