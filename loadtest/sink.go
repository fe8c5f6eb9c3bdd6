package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// SinkMode is how a sink behaves.
type SinkMode uint8

// The modes.
const (
	SinkUp     SinkMode = iota + 1 // answers a result
	SinkDown                       // refuses connections
	SinkFails                      // answers 500
	SinkHangs                      // reads the request and answers nothing until the mode changes
	SinkErrors                     // answers a JSON-RPC error with status 200
)

// maxSinkBody bounds what the sink reads of one request, bytes.
const maxSinkBody = 64 << 20

// Sink is the builder of a load test: it records every order that reaches it and answers as its mode
// says. It is an http.Handler; Run serves it on a loopback port that stays the same while the mode
// goes through SinkDown.
type Sink struct {
	service atomic.Int64 // time.Duration

	mu       sync.Mutex // guards what follows
	mode     SinkMode
	changed  chan struct{} // closed and replaced when mode changes
	receipts []Receipt
	taken    int
	addr     string
}

// NewSink returns a sink that is up and takes no time.
func NewSink() *Sink { return &Sink{mode: SinkUp, changed: make(chan struct{})} }

// SetMode changes the behaviour from the next request on; hanging requests end.
func (s *Sink) SetMode(m SinkMode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = m
	close(s.changed)
	s.changed = make(chan struct{})
}

// SetServiceTime sets how long an answer takes from now on.
func (s *Sink) SetServiceTime(d time.Duration) { s.service.Store(int64(d)) }

// Receipts returns what arrived up to now, a copy, in order of arrival.
func (s *Sink) Receipts() []Receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Receipt(nil), s.receipts...)
}

// Taken returns how many orders got a success up to now, repeats included.
func (s *Sink) Taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// Reset forgets the receipts.
func (s *Sink) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipts, s.taken = nil, 0
}

// Forget lets go of the receipts from before a time; Taken still counts them.
func (s *Sink) Forget(before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipts = slices.DeleteFunc(s.receipts, func(r Receipt) bool { return r.At.Before(before) })
}

// ServeHTTP records and answers one order; GET answers 200, so the sink is its own ready URL.
func (s *Sink) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		w.WriteHeader(http.StatusOK)
		return
	}
	body, err := readSized(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	at := time.Now()
	r := scanReceipt(body)
	r.At, r.Priority, r.Repeat = at, req.Header.Get("X-Buildernet-Priority"), req.Header.Get(RepeatHeader) != ""
	if d := time.Duration(s.service.Load()); d > 0 {
		pause(req.Context(), d)
	}
	s.answer(w, req, r)
}

func readSized(req *http.Request) ([]byte, error) {
	if n := req.ContentLength; n >= 0 && n <= maxSinkBody {
		b := make([]byte, n)
		_, err := io.ReadFull(req.Body, b)
		return b, err
	}
	return io.ReadAll(io.LimitReader(req.Body, maxSinkBody))
}

func (s *Sink) answer(w http.ResponseWriter, req *http.Request, r Receipt) {
	s.mu.Lock()
	mode, changed := s.mode, s.changed
	switch mode {
	case SinkUp:
		r.Status = http.StatusOK
		s.taken++
	case SinkFails:
		r.Status = http.StatusInternalServerError
	case SinkErrors:
		r.Status, r.Refused = http.StatusOK, true
	case SinkDown, SinkHangs:
	}
	s.receipts = append(s.receipts, r)
	s.mu.Unlock()

	switch {
	case r.Status == 0:
		select {
		case <-changed:
		case <-req.Context().Done():
		}
		panic(http.ErrAbortHandler) // closes the connection without an answer
	case r.Refused:
		w.Header()["Content-Type"] = []string{"application/json"}
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"refused by the sink"}}`)
	case r.Status == http.StatusOK:
		w.Header()["Content-Type"] = []string{"application/json"}
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":null}`)
	default:
		w.WriteHeader(r.Status)
	}
}

// Bind listens on addr ("127.0.0.1:0" chooses a port) and returns the sink's URL; Run serves there.
func (s *Sink) Bind(ctx context.Context, addr string) (net.Listener, string, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, "", fmt.Errorf("listen: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr = ln.Addr().String()
	return ln, "http://" + s.addr, nil
}

// Run serves on ln, and again on the same port after each SinkDown, until ctx ends.
func (s *Sink) Run(ctx context.Context, ln net.Listener) error {
	for {
		if ln != nil {
			if err := s.serve(ctx, ln); err != nil {
				return err
			}
		}
		mode, changed := s.current()
		for mode == SinkDown && ctx.Err() == nil {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			mode, changed = s.current()
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of the run is no error
		}
		var err error
		if ln, err = s.listenAgain(ctx); err != nil {
			return err
		}
	}
}

func (s *Sink) current() (SinkMode, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode, s.changed
}

// listenAgain takes the old port back; for a moment another process may have it.
func (s *Sink) listenAgain(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	for try := 0; ; try++ {
		ln, err := lc.Listen(ctx, "tcp", s.addr)
		if err == nil || try == 50 {
			return ln, err
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// serve serves until ctx ends or the sink goes down; either way its connections are closed.
func (s *Sink) serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	for {
		mode, changed := s.current()
		if mode == SinkDown || ctx.Err() != nil {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case err := <-ended:
			return err
		}
	}
	_ = srv.Close()
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
