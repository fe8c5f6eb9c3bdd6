package post

import (
	"bytes"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/egress"
	"millrace/internal/order"
)

const benchAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Fri, 20 Nov 2026 21:00:05 GMT\r\nContent-Length: 38\r\n\r\n" +
	`{"jsonrpc":"2.0","id":1,"result":null}`

// bareServer answers every request at once, with as little work of its own as there can be.
func bareServer(b *testing.B) string {
	b.Helper()
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go bareAnswers(c)
		}
	}()
	return "http://" + l.Addr().String()
}

func bareAnswers(c net.Conn) {
	defer c.Close()
	buf, n := make([]byte, 1<<20), 0
	for {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
		head, body, whole := bytes.Cut(buf[:n], []byte("\r\n\r\n"))
		if !whole {
			continue
		}
		_, length, _ := bytes.Cut(head, []byte("\r\nContent-Length: "))
		length, _, _ = bytes.Cut(length, []byte("\r\n"))
		if size, err := strconv.Atoi(string(length)); err != nil || len(body) < size {
			continue
		}
		if _, err := c.Write([]byte(benchAnswer)); err != nil {
			return
		}
		n = 0
	}
}

// cpu is what this process has used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchSend sends one order of a usual size again and again, so that its signature is known.
func benchSend(b *testing.B, loop func(b *testing.B, send func())) {
	b.Helper()
	to := newPoster(b, bareServer(b))
	o := anOrder()
	o.Body = append(o.Body, bytes.Repeat([]byte("x"), 7<<10)...)
	require.Equal(b, egress.Accepted, to.Send(b.Context(), egress.Attempt{Order: o, Number: 1}).Verdict)
	b.ReportAllocs()
	before := cpu(b)
	loop(b, func() {
		if r := to.Send(b.Context(), egress.Attempt{Order: o, Number: 1}); r.Verdict != egress.Accepted {
			b.Error(r.Verdict, r.Text)
		}
	})
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkSend is one request after the other; cpu-ns/op includes the server's side.
func BenchmarkSend(b *testing.B) {
	benchSend(b, func(b *testing.B, send func()) {
		b.Helper()
		for b.Loop() {
			send()
		}
	})
}

func BenchmarkSendAtOnce(b *testing.B) {
	benchSend(b, func(b *testing.B, send func()) {
		b.Helper()
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				send()
			}
		})
	})
}

// BenchmarkSign is what a new order costs: two digests and a signature.
func BenchmarkSign(b *testing.B) {
	s, err := NewSigner("")
	require.NoError(b, err)
	o := anOrder()
	o.Body = append(o.Body, bytes.Repeat([]byte("x"), 7<<10)...)
	b.ReportAllocs()
	for b.Loop() {
		o.Accept = order.NewAcceptID(o.ReceivedAt)
		if _, err := s.Sign(o.Accept, FormBuilder, o.Body); err != nil {
			b.Fatal(err)
		}
	}
}
