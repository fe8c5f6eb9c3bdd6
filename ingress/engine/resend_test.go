package engine

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// flaky is a server that closes each connection silently after its first answer, as one does whose
// idle timeout is shorter than ours; until it is gone altogether.
type flaky struct {
	net.Listener
	bodies atomic.Int64
	second chan struct{} // if set, waited for before a second request's connection is closed
}

func newFlaky(t *testing.T) *flaky {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &flaky{Listener: l}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return s
}

func (s *flaky) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for first := true; ; first = false {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		s.bodies.Add(1)
		if !first {
			if s.second != nil {
				<-s.second
			}
			return
		}
		a := results(body, "null")
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(a), a)
	}
}

func TestACallThatFindsItsConnectionClosedIsSentOnceMore(t *testing.T) {
	s := newFlaky(t)
	f := made(t, "http://"+s.Addr().String()).run()
	for n := range 4 {
		require.Equal(t, 200, f.call(forkchoice("1", hashA, "null")).status)
		require.Empty(t, f.book.outcome(t, uint64(n+1)).Unknown)
	}
	require.Len(t, f.book.asked(), 4, "recorded once")
	require.Greater(t, s.bodies.Load(), int64(4))
	require.Equal(t, 502, f.call(rpc("1", "eth_sendRawTransaction", `"0x"`)).status, "a second sending would be answered otherwise")
}

func TestOnlyWhatIsSafeIsSentAgain(t *testing.T) {
	s := newFlaky(t)
	f := made(t, "http://"+s.Addr().String()).run()
	sent := func(method, body string, headers ...string) (status int, times int64) {
		require.Equal(t, 200, f.call(rpc("1", "eth_chainId", "")).status) // leaves a connection behind
		before := s.bodies.Load()
		a, err := f.try(t.Context(), method, "/", strings.NewReader(body), headers...)
		require.NoError(t, err)
		return a.status, s.bodies.Load() - before
	}
	for _, body := range []string{
		rpc("1", "eth_sendTransaction", "{}"), rpc("1", "eth_sendRawTransaction", `"0x"`), rpc("1", "eth_sendRawTransactionConditional", `"0x",{}`),
		rpc("1", "eth_sendBundle", "{}"), rpc("1", "personal_sendTransaction", "{}"), rpc("1", "admin_addPeer", `""`),
		rpc("1", "debug_setHead", `"0x1"`), rpc("1", "miner_start", ""), rpc("1", "unheard_of", ""),
		"[" + rpc("1", "eth_syncing", "") + "," + rpc("2", "eth_sendTransaction", "{}") + "]", "what is this",
	} {
		for _, method := range []string{"POST", "OPTIONS"} {
			status, times := sent(method, body, "Idempotency-Key: x", "X-Idempotency-Key: x")
			require.Equal(t, 502, status, body)
			require.Equal(t, int64(1), times, body)
		}
	}
	for _, body := range []string{newPayload("1", hashA, zero), rpc("1", "engine_getPayloadV4", `"0x1"`), rpc("1", "eth_getLogs", "{}")} {
		status, times := sent("POST", body)
		require.Equal(t, 200, status, body)
		require.Equal(t, int64(2), times, body)
	}
}

func TestAForkchoiceIsNotSentAgainBehindALaterOne(t *testing.T) {
	s := newFlaky(t)
	s.second = make(chan struct{})
	f := made(t, "http://"+s.Addr().String()).run()
	require.Equal(t, 200, f.call(rpc("1", "x", "")).status) // leaves a connection behind
	first := make(chan int, 1)
	go func() {
		a, err := f.try(t.Context(), "POST", "/", strings.NewReader(forkchoice("1", hashA, "null")))
		if err != nil {
			a.status = -1
		}
		first <- a.status
	}()
	require.Eventually(t, func() bool { return s.bodies.Load() == 2 }, patience, time.Millisecond)
	require.Equal(t, 200, f.call(forkchoice("2", hashB, "null")).status)
	close(s.second)
	require.Equal(t, 502, <-first, "a stale forkchoice would rewind the client")
	require.Equal(t, int64(3), s.bodies.Load())
}
