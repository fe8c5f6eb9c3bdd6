// Package scripted is a server for tests whose every byte the test writes itself: what no HTTP library would send can be
// sent by it.
package scripted

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Conn is one connection that the server accepted.
type Conn struct {
	*net.TCPConn
	Reader *bufio.Reader // of the connection
	Number int           // counts the connections from 1
}

// Request reads one whole request, nil at the end of the connection.
func (c *Conn) Request() *http.Request {
	r, err := http.ReadRequest(c.Reader)
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r
}

// Say writes s, for whoever is still there.
func (c *Conn) Say(s string) { _, _ = io.WriteString(c, s) }

// UntilEnd reads until the other side closes.
func (c *Conn) UntilEnd() { _, _ = io.Copy(io.Discard, c) }

// Serve is the address of a server of which each connection runs play, and is closed after it. All end with the test.
func Serve(tb testing.TB, play func(c *Conn)) (url string) {
	tb.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(tb, err)
	var mu sync.Mutex
	var all []net.Conn
	var playing sync.WaitGroup
	playing.Go(func() {
		for n := 1; ; n++ {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			playing.Go(func() {
				defer func() { _ = c.Close() }()
				play(&Conn{TCPConn: c, Reader: bufio.NewReader(c), Number: n})
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range all {
			c.Close()
		}
		mu.Unlock()
		playing.Wait()
	})
	return "http://" + l.Addr().String()
}
