package listener

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/certificate/selfsigned"
	"millrace/internal/doortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// door is the least that a door is: one listener, and a way to leave.
type door struct {
	*Listener
	srv      *http.Server
	conns    int
	visits   *Visits
	farewell Farewell
	parts    []func(context.Context) error
	root     context.Context // of the requests
	cut      context.CancelFunc
}

func newDoor(t *testing.T, h http.HandlerFunc) *door {
	t.Helper()
	d := &door{Listener: New("tests"), srv: NewServer(h, slog.New(slog.DiscardHandler)), conns: 100, visits: NewVisits()}
	d.root, d.cut = context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(d.cut)
	d.srv.ReadTimeout = patience
	d.srv.BaseContext = func(net.Listener) context.Context { return d.root }
	d.farewell = Farewell{Patience: patience, Visits: d.visits, Cut: d.cut}
	return d
}

func (d *door) Run(ctx context.Context) error {
	if err := d.Open(ctx, "127.0.0.1:0", d.conns, d.srv); err != nil {
		return err
	}
	return Run(ctx, func(context.Context) error { return d.Drain(d.root, d.farewell) }, append(d.parts, d.Serve)...)
}

// get makes a request on a connection of its own, which is in the reader after the answer's head was read.
func get(t *testing.T, d *door) (*bufio.Reader, *http.Response, error) {
	t.Helper()
	conn := doortest.Dial(t, d)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err == nil {
		resp.Body.Close()
	}
	return r, resp, err
}

func TestWhoIsInsideFinishesBeforeTheEnd(t *testing.T) {
	came, goOn := make(chan struct{}), make(chan struct{})
	d := newDoor(t, func(http.ResponseWriter, *http.Request) { close(came); <-goOn })
	ended := make(chan struct{})
	d.parts = append(d.parts, func(ctx context.Context) error {
		<-ctx.Done()
		close(ended)
		return nil
	})
	stop := doortest.Run(t, d)
	status := make(chan int, 1)
	go func() {
		resp, err := http.Get("http://" + d.Addr().String())
		if err == nil {
			resp.Body.Close()
			status <- resp.StatusCode
		}
		close(status)
	}()
	<-came
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	require.Eventually(t, func() bool {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	}, patience, time.Millisecond, "the address is closed first")
	select {
	case <-ended:
		require.Fail(t, "what helps to serve ended before the last request")
	default:
	}
	close(goOn)
	require.Equal(t, http.StatusOK, <-status)
	require.NoError(t, <-stopped)
	<-ended
	http.DefaultClient.CloseIdleConnections()
}

func TestWhoDoesNotFinishIsCutOffAndMayStillAnswer(t *testing.T) {
	came := make(chan struct{})
	d := newDoor(t, func(w http.ResponseWriter, r *http.Request) {
		close(came)
		<-r.Context().Done()
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	d.farewell.Patience, d.farewell.Grace = time.Millisecond, patience
	stop := doortest.Run(t, d)
	go func() {
		<-came
		_ = stop() // the test's end wants it to be nil
	}()
	_, resp, err := get(t, d)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.NoError(t, stop())
}

func TestWithoutGraceConnectionsAreClosedAtOnce(t *testing.T) {
	came, goOn := make(chan struct{}), make(chan struct{})
	d := newDoor(t, nil)
	d.srv.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		d.visits.Enter()
		defer d.visits.Leave()
		close(came)
		<-goOn
	})
	d.farewell.Patience = time.Millisecond
	stop := doortest.Run(t, d)
	go func() {
		<-came
		_ = stop() // the test's end wants it to be nil
	}()
	_, _, err := get(t, d)
	require.Error(t, err)
	close(goOn) // the server does not know of the handler any more; its visit is waited for
	require.NoError(t, stop())
	require.False(t, d.visits.Enter())
}

func TestAPartThatFailsEndsAll(t *testing.T) {
	d := newDoor(t, func(http.ResponseWriter, *http.Request) {})
	broken := errors.New("broken")
	d.parts = append(d.parts, func(context.Context) error { return broken })
	require.ErrorIs(t, d.Run(t.Context()), broken)

	// And nobody waits for load balancers then.
	lingered := errors.New("lingered")
	require.ErrorIs(t, Run(t.Context(), func(failed context.Context) error {
		Linger(failed, time.Hour)
		return lingered
	}, func(context.Context) error { return broken }), broken)
}

func TestATakenAddressIsAnErrorThatSaysWhatFor(t *testing.T) {
	d := newDoor(t, func(http.ResponseWriter, *http.Request) {})
	doortest.Run(t, d)
	l := New("tests")
	require.Nil(t, l.Addr())
	require.ErrorContains(t, l.Open(t.Context(), d.Addr().String(), 1, d.srv), "listen for tests: ")
	require.Nil(t, l.Addr())
	require.NoError(t, l.Open(t.Context(), "127.0.0.1:0", 1, d.srv))
	require.NoError(t, l.Close())
}

func TestNoMoreConnectionsAreOpenThanTheBound(t *testing.T) {
	d := newDoor(t, func(http.ResponseWriter, *http.Request) {})
	d.conns = 1
	doortest.Run(t, d)
	first, _, err := get(t, d) // it stays open, and idle
	require.NoError(t, err)
	second := doortest.Dial(t, d)
	_, err = io.WriteString(second, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	answered := make(chan error, 1)
	go func() {
		b, err := io.ReadAll(second)
		if err == nil && !strings.HasPrefix(string(b), "HTTP/1.1 200") {
			err = errors.New(string(b))
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		require.Fail(t, "answered beyond the bound", "%v", err)
	case <-time.After(50 * time.Millisecond): // absence shows by waiting alone
	}
	require.Zero(t, first.Buffered())
	require.NoError(t, d.Shutdown(t.Context())) // closes the idle one
	require.Error(t, <-answered)                // was never accepted
}

func TestShutdownThatTakesTooLongIsAnErrorThatSaysOfWhat(t *testing.T) {
	came := make(chan struct{})
	d := newDoor(t, func(_ http.ResponseWriter, r *http.Request) { close(came); <-r.Context().Done() })
	stop := doortest.Run(t, d)
	failed := make(chan error, 1)
	go func() {
		<-came
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		failed <- d.Shutdown(ctx)
	}()
	_, _, err := get(t, d)
	require.Error(t, err)
	require.ErrorContains(t, <-failed, "drain tests: ")
	require.NoError(t, stop())
}

func TestStatesOfConnectionsAreCounted(t *testing.T) {
	conns := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "connections_total", Help: "State changes."}, []string{"listener", "state"})
	d := newDoor(t, func(http.ResponseWriter, *http.Request) {})
	d.srv.ConnState = CountStates(conns.MustCurryWith(prometheus.Labels{"listener": "tests"}))
	require.Equal(t, 5, testutil.CollectAndCount(conns), "every state exists from the start")
	stop := doortest.Run(t, d)
	_, _, err := get(t, d)
	require.NoError(t, err)
	require.NoError(t, stop())
	for _, state := range []string{"new", "active", "idle", "closed"} {
		c := conns.WithLabelValues("tests", state)
		require.Eventually(t, func() bool { return testutil.ToFloat64(c) == 1 }, patience, time.Millisecond, state)
	}
}

func TestTheCertificateIsServedFollowedAndCounted(t *testing.T) {
	dir := t.TempDir()
	log := &doortest.Log{}
	reloads := map[string]prometheus.Counter{}
	for _, outcome := range []string{"ok", "failed"} {
		reloads[outcome] = prometheus.NewCounter(prometheus.CounterOpts{Name: outcome})
	}
	pair := NewCertificate("cert", "key", log.Logger(), reloads)
	require.NoError(t, pair.Load(selfsigned.Write(t, dir, 1)))
	d := newDoor(t, func(http.ResponseWriter, *http.Request) {})
	d.srv.TLSConfig = pair.Config(0)
	d.parts = append(d.parts, Follow(pair))
	doortest.Run(t, d)
	doortest.FollowsItsCertificate(t, d, dir, pair.Refresh)
	require.InDelta(t, 1, testutil.ToFloat64(reloads["ok"]), 0)
	require.InDelta(t, 1, testutil.ToFloat64(reloads["failed"]), 0)
	require.Contains(t, log.String(), "certificate not reloaded")
}
