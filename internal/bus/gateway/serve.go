package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common/lru"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/retry"
	"millrace/internal/rpcapi"
	"millrace/subjects"
)

const (
	// lookAgain is when an idle gateway looks for calls though it heard of none: news may get lost, and of a call that
	// comes back there are none.
	lookAgain = 250 * time.Millisecond
	// atWork is how often who serves a call says so.
	atWork = subjects.GatewayAckWait / 3
	// maxGone is how many calls that were taken back are remembered; more than wait at a time hardly matter.
	maxGone = 1 << 14
)

func streamExists(err error) bool { return errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) }

// server is one call of Serve.
type server struct {
	q     *Queue
	nc    *nats.Conn
	order schedule
	news  chan struct{} // of one

	mu      sync.Mutex
	empty   [rpcapi.Classes + 1]bool // nothing was there, and no news since
	seen    [rpcapi.Classes + 1]uint64
	running map[callID]context.CancelFunc
	gone    lru.BasicLRU[callID, struct{}] // taken back before they were run, perhaps
}

// Serve takes calls and answers them with what do returns, which runs beside the others. Each time that free returns
// nil, do is called once, or Serve returns: free may take a place that do gives back. The context of do ends when the caller takes the call back, not with ctx. Serve returns when ctx has
// ended, or free has failed, and all that it took are answered.
func (q *Queue) Serve(ctx context.Context, free func(context.Context) error, do func(context.Context, *rpcapi.Call) (*rpcapi.Answer, error)) error {
	nc, err := q.open()
	if err != nil {
		return fmt.Errorf("serve calls: %w", err)
	}
	s := &server{
		q: q, nc: nc, news: make(chan struct{}, 1), running: make(map[callID]context.CancelFunc),
		gone: lru.NewBasicLRU[callID, struct{}](maxGone),
	}
	for subject, hear := range map[string]nats.MsgHandler{subjects.GatewayNews: s.hearNews, subjects.GatewayCancel: s.hearCancel} {
		sub, err := nc.Subscribe(subject, hear)
		if err != nil {
			return fmt.Errorf("serve calls: %w", err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	var work sync.WaitGroup
	defer work.Wait()
	for {
		if err := free(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		var t *taken
		for t == nil {
			m, class := s.next(ctx)
			if m == nil {
				return nil
			}
			t = s.take(context.WithoutCancel(ctx), m, class)
		}
		work.Go(func() { s.serve(context.WithoutCancel(ctx), t, do) })
	}
}

func (s *server) hearNews(m *nats.Msg) {
	if len(m.Data) != 1 || m.Data[0] < byte(rpcapi.FastTrack) || m.Data[0] > byte(rpcapi.Low) {
		return
	}
	s.mu.Lock()
	s.empty[m.Data[0]] = false
	s.seen[m.Data[0]]++
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *server) hearCancel(m *nats.Msg) {
	id, ok := decodeID(m.Data)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.running[id]; cancel != nil {
		cancel()
		return
	}
	s.gone.Add(id, struct{}{})
}

// next waits for a call, of the class whose turn it is; nil: ctx has ended.
func (s *server) next(ctx context.Context) (*nats.Msg, rpcapi.Class) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; {
		m, class, err := s.look(ctx)
		switch {
		case err != nil:
			s.q.m.interrupted.Inc()
			if n%20 == 0 && ctx.Err() == nil {
				s.q.log.LogAttrs(ctx, slog.LevelWarn, "calls can't be taken from the shared queue", slog.Any("error", err))
			}
			n++
			retry.Pause(ctx, retry.Backoff(n, retryLeast, retryMost))
			continue
		case m != nil:
			return m, class
		}
		n = 0
		select {
		case <-ctx.Done():
		case <-s.news:
		case <-tick.C:
			s.mu.Lock()
			clear(s.empty[:])
			s.mu.Unlock()
		}
	}
	return nil, 0
}

// look asks each class in turn that may have something.
func (s *server) look(ctx context.Context) (*nats.Msg, rpcapi.Class, error) {
	for _, class := range s.order.next(s.q.order.Load()) {
		s.mu.Lock()
		skip, seen := s.empty[class], s.seen[class]
		s.mu.Unlock()
		if skip {
			continue
		}
		m, err := s.pull(ctx, class)
		if err != nil {
			return nil, 0, err
		}
		if m != nil {
			s.order.served(class)
			return m, class, nil
		}
		s.mu.Lock()
		s.empty[class] = s.seen[class] == seen
		s.mu.Unlock()
		if class == rpcapi.FastTrack {
			s.order.fast = 0
		}
	}
	return nil, 0, nil
}

// pull takes a call of a class if there is one now. It does not end with ctx: a call that is on its way to here would
// be nobody's until its time is over.
func (s *server) pull(ctx context.Context, class rpcapi.Class) (*nats.Msg, error) {
	askCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout)
	defer cancel()
	m, err := s.nc.RequestWithContext(askCtx, "$JS.API.CONSUMER.MSG.NEXT."+subjects.StreamGateway(class.String())+"."+subjects.GatewayDurable,
		[]byte(`{"batch":1,"no_wait":true}`))
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, s.q.ensure(ctx)
	case err != nil:
		return nil, fmt.Errorf("take a call: %w", err)
	case m.Reply != "":
		return m, nil
	}
	const nothing = "404"
	if status := m.Header.Get("Status"); status != nothing && status != "408" {
		return nil, fmt.Errorf("take a call: status %.10s: %.80s", status, m.Header.Get("Description"))
	}
	return nil, nil //nolint:nilnil // nothing is there
}

// taken is a call that is to be run.
type taken struct {
	wireCall
	reply string          // of its acknowledgement
	run   uint32          // a name
	ctx   context.Context //nolint:containedctx // ends when the call is taken back
	end   func()
}

// take makes a message a call to be run; nil: it is not to be run, and what there was to say was said.
func (s *server) take(ctx context.Context, m *nats.Msg, class rpcapi.Class) *taken {
	w, err := decodeCall(m.Data)
	if err != nil {
		s.q.log.LogAttrs(ctx, slog.LevelWarn, "call can't be read", slog.Any("error", err))
		s.ack(ctx, m.Reply)
		return nil
	}
	t := &taken{wireCall: w, reply: m.Reply, run: rand.Uint32()} //nolint:gosec // a name
	if meta, err := m.Metadata(); err != nil || meta.NumDelivered > 1 {
		if w.repeat != repeatOnce {
			s.q.m.refused[class].Inc()
			s.answer(ctx, w.inbox, t.run, nil, rpcapi.ErrUnreachable)
			s.ack(ctx, m.Reply)
			return nil
		}
		s.q.m.repeated[class].Inc()
	}
	var cancel context.CancelFunc
	t.ctx, cancel = context.WithCancel(ctx)
	if !s.begin(w.id, cancel) {
		cancel()
		s.ack(ctx, m.Reply)
		return nil
	}
	t.end = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, w.id)
		cancel()
	}
	s.q.m.served[class].Inc()
	return t
}

func (s *server) ack(ctx context.Context, reply string) {
	if err := s.nc.Publish(reply, []byte("+ACK")); err != nil {
		s.q.log.LogAttrs(ctx, slog.LevelDebug, "call could not be acknowledged", slog.Any("error", err))
	}
}

// serve runs one call.
func (s *server) serve(ctx context.Context, t *taken, do func(context.Context, *rpcapi.Call) (*rpcapi.Answer, error)) {
	defer t.end()
	stop := s.sayAtWork(t.reply, t.inbox, t.run)
	a, err := do(t.ctx, &t.call) //nolint:contextcheck // it is made from ctx
	stop()
	if t.ctx.Err() == nil && !s.answer(ctx, t.inbox, t.run, a, err) {
		return // it comes back to somebody who can say it
	}
	s.ack(ctx, t.reply)
}

// begin notes a call that is to be run; false: it was taken back.
func (s *server) begin(id callID, cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone.Remove(id) {
		return false
	}
	s.running[id] = cancel
	return true
}

// sayAtWork tells the server and the caller that the call is being served, now and again until stop is called.
func (s *server) sayAtWork(reply, inbox string, run uint32) (stop func()) {
	p := part{server: run}
	sign := p.append(nil)
	_ = s.nc.Publish(inbox, sign)
	var mu sync.Mutex
	var timer *time.Timer
	stopped := false
	say := func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		_ = s.nc.Publish(reply, []byte("+WPI"))
		_ = s.nc.Publish(inbox, sign)
		timer.Reset(atWork)
	}
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(atWork, say)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// answer sends how a call ended; false: it could not be sent.
func (s *server) answer(ctx context.Context, inbox string, run uint32, a *rpcapi.Answer, failure error) bool {
	if a != nil && int64(len(a.Body)) > s.q.cfg.MaxAnswer {
		a, failure = nil, rpcapi.ErrAnswerTooLarge
	}
	whole := encodeResult(a, failure)
	if len(whole) == errorLength && whole[1] == 0 {
		s.q.log.LogAttrs(ctx, slog.LevelWarn, "call of another gateway failed", slog.Any("error", failure))
	}
	size := int(s.nc.MaxPayload()) - partHead
	count := (len(whole) + size - 1) / size
	for i := range count {
		p := part{run, uint16(i), uint16(count), whole[i*size : min((i+1)*size, len(whole))]} //nolint:gosec // bounded by MaxAnswer
		if err := s.nc.Publish(inbox, p.append(make([]byte, 0, partHead+len(p.data)))); err != nil {
			s.q.log.LogAttrs(ctx, slog.LevelDebug, "answer could not be sent", slog.Any("error", err))
			return false
		}
	}
	return true
}
