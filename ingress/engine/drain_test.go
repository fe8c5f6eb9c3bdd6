package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi"
)

func TestACallOutlivesTheCallersConnection(t *testing.T) {
	p := newPrimary(t, primarySecret)
	came, goOn := make(chan struct{}), make(chan struct{})
	p.set(func(w http.ResponseWriter, r *http.Request, body []byte) {
		close(came)
		select {
		case <-goOn:
			_, _ = w.Write(results(body, valid))
		case <-r.Context().Done():
		}
	})
	f := open(t, p)
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := f.try(ctx, "POST", "/", strings.NewReader(newPayload("1", hashA, zero)))
		gone <- err
	}()
	<-came
	leave()
	require.Error(t, <-gone)
	close(goOn)
	require.Equal(t, engineapi.StatusValid, f.book.outcome(t, 1).Result.Status)
}

func TestWhatIsInFlightIsAnsweredBeforeTheDoorCloses(t *testing.T) {
	p := newPrimary(t, primarySecret)
	came, goOn := make(chan struct{}), make(chan struct{})
	p.set(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		close(came)
		<-goOn
		_, _ = w.Write(results(body, "7"))
	})
	f := open(t, p)
	answered := make(chan said, 1)
	go func() {
		s, _ := f.try(t.Context(), "POST", "/", strings.NewReader(rpc("1", "x", "")))
		answered <- s
	}()
	<-came
	require.NoError(t, f.Healthy())
	stopped := make(chan error, 1)
	go func() { stopped <- f.stop() }()
	require.Eventually(t, func() bool { return f.Healthy() != nil }, patience, time.Millisecond)
	close(goOn)
	require.Contains(t, (<-answered).body, `"result":7`)
	require.NoError(t, <-stopped)
	require.Equal(t, 200, f.book.outcome(t, 1).HTTPStatus)
}

func TestWhatDoesNotEndIsCutOffAndRecordedAsUnknown(t *testing.T) {
	p := newPrimary(t, primarySecret)
	came := make(chan struct{})
	p.set(func(_ http.ResponseWriter, r *http.Request, _ []byte) { close(came); <-r.Context().Done() })
	f := open(t, p, func(c *Config) { c.DrainTimeout = 20 * time.Millisecond })
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = f.try(t.Context(), "POST", "/", strings.NewReader(newPayload("1", hashA, zero)))
	}()
	<-came
	require.NoError(t, f.stop())
	require.Equal(t, unknownStopped, f.book.outcome(t, 1).Unknown)
	<-answered
	require.ErrorIs(t, f.Run(t.Context()), ErrRunning)
}

func TestACallMayTakeLongerThanReadingIt(t *testing.T) {
	p := newPrimary(t, primarySecret)
	f := made(t, p.URL)
	f.reading = 50 * time.Millisecond
	f.run()
	p.set(func(w http.ResponseWriter, r *http.Request, body []byte) {
		slow := time.NewTimer(3 * f.reading)
		defer slow.Stop()
		select {
		case <-slow.C:
		case <-r.Context().Done():
		}
		_, _ = w.Write(results(body, "null"))
	})
	conn := f.dial()
	r := bufio.NewReader(conn)
	for range 3 { // on one connection
		body := rpc("1", "x", "")
		_, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", token(), len(body), body)
		require.NoError(t, err)
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
	}
	c := f.socket()
	for range 3 {
		write(t, c, rpc("1", "x", ""))
		require.Contains(t, read(t, c), `"result":null`)
	}
}
