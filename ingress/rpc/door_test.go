package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// held makes the node hold its calls: each is told to came, and answered when release is closed.
func held(n *node) (came chan *rpcapi.Call, release chan struct{}) {
	came, release = make(chan *rpcapi.Call, 1000), make(chan struct{})
	n.set(func(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
		came <- c
		select {
		case <-release:
			return answered(under(c, `"late"`)), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	return came, release
}

func TestALeavingClientCancelsItsCallAtOnce(t *testing.T) {
	t.Parallel()
	for _, dialect := range []Dialect{DialectPrio, DialectJSONRPC} {
		for _, body := range []string{request("1", "eth_call", ""), ""} {
			if dialect == DialectJSONRPC && body == "" {
				continue
			}
			f := open(t, dialect)
			came := make(chan struct{})
			ended := make(chan error, 1)
			f.node.set(func(ctx context.Context, _ *rpcapi.Call) (*rpcapi.Answer, error) {
				close(came)
				<-ctx.Done()
				ended <- ctx.Err()
				return nil, ctx.Err()
			})
			ctx, leave := context.WithCancel(t.Context())
			left := make(chan error, 1)
			go func() {
				_, err := f.try(ctx, http.MethodPost, "/", strings.NewReader(body))
				left <- err
			}()
			<-came
			leave()
			require.ErrorIs(t, <-left, context.Canceled)
			select {
			case err := <-ended:
				require.ErrorIs(t, err, context.Canceled)
			case <-time.After(patience):
				require.Fail(t, "the call goes on")
			}
			f.settled()
		}
	}
}

func TestACallMayTakeLongerThanItsBodyMay(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"x", "", strings.Repeat("x", 500_000)} {
		f := made(t, DialectPrio)
		f.reading, f.writing = 150*time.Millisecond, 150*time.Millisecond
		f.run()
		f.node.set(func(ctx context.Context, _ *rpcapi.Call) (*rpcapi.Answer, error) {
			late := time.NewTimer(3 * f.reading)
			defer late.Stop()
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-late.C:
				return answered("late"), nil
			}
		})
		for range 2 { // on one connection
			require.Equal(t, "late", f.post("/", body).body)
		}
	}
}

func TestABodyThatDoesNotComeEnds(t *testing.T) {
	t.Parallel()
	f := made(t, DialectPrio)
	f.reading = 50 * time.Millisecond
	f.run()
	conn := f.dial()
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusRequestTimeout, resp.StatusCode)
	_, err = io.ReadAll(conn) // the server waits for the rest no longer
	require.NoError(t, err)
	f.settled()
	require.Empty(t, f.node.calls())
}

func TestNoByteBehindTheLimitIsRead(t *testing.T) {
	t.Parallel()
	small := func(c *Config, _ *Ports) { c.MaxBody = 300_000 }
	for _, dialect := range []Dialect{DialectPrio, DialectJSONRPC} {
		f := open(t, dialect, small)
		status, text := 400, "Payload too large\n"
		if dialect == DialectJSONRPC {
			status, text = 413, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"payload too large","data":{"reason":"too_large"}}}`
		}
		for _, header := range []string{"Content-Length: 300001", "Transfer-Encoding: chunked"} {
			conn := f.dial()
			_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n"+header+"\r\n\r\n")
			require.NoError(t, err)
			if header == "Transfer-Encoding: chunked" {
				_, err = fmt.Fprintf(conn, "%x\r\n%s", 300_001, strings.Repeat("x", 300_001))
				require.NoError(t, err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, status, resp.StatusCode)
			require.Equal(t, text, string(body))
			require.Equal(t, "too_large", resp.Header.Get("X-LB-Error"))
			require.True(t, resp.Close)
		}
		require.Empty(t, f.node.calls())
		f.settled()
	}
}

func TestABodyOfTheLargestSizeArrivesWhole(t *testing.T) {
	t.Parallel()
	f := open(t, DialectPrio, func(c *Config, _ *Ports) { c.MaxBody = 700_001 })
	f.node.set(func(_ context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) { return answered(string(c.Body)), nil })
	for _, size := range []int{1, 255 << 10, 256 << 10, 256<<10 + 1, 700_001} {
		body := strings.Repeat("abcdefg", size/7+1)[:size]
		require.Equal(t, body, f.post("/", body).body)
		s, err := f.try(t.Context(), http.MethodPost, "/", io.MultiReader(strings.NewReader(body))) // chunked
		require.NoError(t, err)
		require.Equal(t, body, s.body)
	}
	f.settled()
}

func TestBodiesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	f := open(t, DialectPrio, func(c *Config, _ *Ports) { c.MaxBody, c.InflightBytes = 100_000, 150_000 })
	came, release := held(f.node)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = f.try(t.Context(), http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 100_000)))
	})
	<-came
	s := f.post("/", strings.Repeat("x", 60_000))
	require.Equal(t, 500, s.status)
	require.Equal(t, "queue full\n", s.body)
	require.Equal(t, "queue_full", s.header.Get("X-LB-Error"))
	close(release)
	wg.Wait()
	f.settled()
	require.Equal(t, 200, f.post("/", strings.Repeat("x", 60_000)).status)
}

func TestAFormWithoutABodyAndAPathIsACall(t *testing.T) {
	t.Parallel()
	f := open(t, DialectPrio)
	conn := f.dial()
	_, err := fmt.Fprintf(conn, "POST http://%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n\r\n", f.Addr())
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	require.Len(t, f.node.calls(), 1)
}

func TestShutdownCutsNothing(t *testing.T) {
	t.Parallel()
	f := open(t, DialectPrio, func(c *Config, _ *Ports) { c.DrainDelay = 200 * time.Millisecond })
	came, release := held(f.node)
	require.NoError(t, f.Ready())
	answers := make(chan said, 1)
	go func() { answers <- f.post("/", "x") }()
	<-came
	ended := make(chan error, 1)
	go func() { ended <- f.stop() }()
	require.Eventually(t, func() bool { return f.Ready() != nil }, patience, time.Millisecond)
	// Not ready, and still serving: who has not looked yet loses nothing, and is told to go elsewhere.
	late := make(chan said, 1)
	go func() { late <- f.post("/", "y") }()
	<-came
	close(release)
	require.Contains(t, (<-answers).body, "late")
	s := <-late
	require.Contains(t, s.body, "late")
	require.NoError(t, <-ended)
	_, err := f.try(t.Context(), http.MethodPost, "/", strings.NewReader("z"))
	require.Error(t, err)
}

func TestWhatDoesNotEndIsToldThatItWasCutOff(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC, func(c *Config, _ *Ports) { c.Drain = 10 * time.Millisecond })
	came := make(chan struct{})
	f.node.set(func(ctx context.Context, _ *rpcapi.Call) (*rpcapi.Answer, error) {
		close(came)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	answers := make(chan said, 1)
	go func() {
		s, _ := f.try(t.Context(), http.MethodPost, "/", strings.NewReader(request("1", "a", "")))
		answers <- s
	}()
	<-came
	require.NoError(t, f.stop())
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"shutting down","data":{"reason":"stopping"}}}`, (<-answers).body)
	require.Contains(t, f.log.String(), "calls were cut off at shutdown")
}

func TestADoorRunsOnce(t *testing.T) {
	t.Parallel()
	f := open(t, DialectPrio)
	require.ErrorIs(t, f.Run(t.Context()), ErrRunning)
	_, err := New(DefaultConfig(DialectPrio), Ports{}, nil, nil)
	require.ErrorIs(t, err, ErrPort)
	g := made(t, DialectPrio, func(c *Config, _ *Ports) { c.Listen = f.Addr().String() })
	require.ErrorIs(t, g.Ready(), errClosed)
	require.Error(t, g.Run(t.Context()))
}

func TestEveryFaultOfAConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	require.NoError(t, new(DefaultConfig(DialectPrio)).Validate())
	require.NoError(t, new(DefaultConfig(DialectJSONRPC)).Validate())
	c := Config{Dialect: "x", TLS: TLS{Cert: "x"}, TrustedProxies: []string{"x"}, Methods: Methods{Deny: []string{"", "a*b"}}, LogEvery: -1}
	err := c.Validate()
	require.ErrorIs(t, err, ErrConfig)
	for _, key := range []string{
		"addr", "dialect", "tls.cert", "trusted_proxies", "methods.deny", "log_every", "max_body", "batch_max",
		"batch_parallel", "http_status", "nodes_writable", "node_header", "gzip", "max_connections", "inflight_bytes",
	} {
		require.ErrorContains(t, err, key)
	}
	c = DefaultConfig(DialectPrio)
	c.Methods.Allow = []string{"eth_*"}
	require.ErrorContains(t, c.Validate(), "does not read")
}

func TestReloadChangesWhatItCan(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC)
	cfg := f.policy.Load().Config
	cfg.Methods.Allow = []string{"eth_*", "net_version"}
	require.NoError(t, f.Reload(cfg))
	require.Contains(t, f.post("/", request("1", "debug_x", "")).body, "method not allowed")
	require.NotContains(t, f.post("/", request("1", "eth_x", "")).body, "not allowed")
	require.NotContains(t, f.post("/", request("1", "net_version", "")).body, "not allowed")
	cfg.Listen, cfg.MaxConnections, cfg.Methods = "127.0.0.1:1", 7, Methods{}
	err := f.Reload(cfg)
	require.ErrorIs(t, err, ErrNeedsRestart)
	require.ErrorContains(t, err, "addr, max_connections")
	require.NotContains(t, f.post("/", request("1", "debug_x", "")).body, "not allowed")
	cfg.InflightBytes = cfg.MaxBody + 1
	_ = f.Reload(cfg)
	require.Equal(t, cfg.InflightBytes, f.budget.total.Load())
	cfg.MaxBody = 0
	require.ErrorIs(t, f.Reload(cfg), ErrConfig)
	require.NotContains(t, f.post("/", request("1", "debug_x", "")).body, "not allowed")
}

func TestAPanicBehindThePortCostsOneCall(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC)
	f.node.set(func(_ context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
		if c.Method == "bad" {
			panic("secret")
		}
		return answered(under(c, "1")), nil
	})
	s := f.post("/", `[`+request("1", "bad", "")+`,`+request("2", "good", "")+`]`)
	require.JSONEq(t, `[{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error","data":{"reason":"internal"}}},{"jsonrpc":"2.0","id":2,"result":1}]`, s.body)
	f.node.set(func(context.Context, *rpcapi.Call) (*rpcapi.Answer, error) { panic("secret") })
	require.Equal(t, "Internal error\n", f.post("/sim", "x").body)
	require.Contains(t, f.log.String(), "a call panicked")
}

func TestTheLogHasPrioLoadBalancersNames(t *testing.T) {
	t.Parallel()
	f := open(t, DialectPrio, func(c *Config, _ *Ports) { c.LogEvery = 2 })
	f.post("/", "not logged")
	f.post("/", "logged", "X-Request-Id: abc", "X-Fast-Track: true")
	f.node.fails(errors.Join(errors.New("http://user:secret@node"), rpcapi.ErrUnreachable))
	f.post("/", "not logged")
	f.post("/", "failed")
	f.settled()
	text := f.log.String()
	require.Equal(t, 2, strings.Count(text, "level=INFO"), text)
	for _, want := range []string{
		`msg="Request completed" reqID=abc requestIsHighPrio=false requestIsFastTrack=true payloadSize=6 durationMs=`,
		"statusCode=200 requestTries=2 nodeURI=node.example:8545 simDurationUs=5000 queueDurationUs=3000 startQueueSize=4 endQueueSize=1",
		`msg="Request proxying failed" requestIsHighPrio=false requestIsFastTrack=false payloadSize=6`,
		"err=node_unreachable",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "secret")
}

func TestRequestsAreCounted(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC)
	f.post("/", request("1", "eth_call", ""), "X-Fast-Track: true")
	f.post("/", request("1", "made_up", ""))
	f.post("/sim", "xx")
	f.node.fails(rpcapi.ErrNoNode)
	f.post("/", request("1", "eth_call", ""))
	f.settled()
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.requests[dialectJSONRPC][rpcapi.FastTrack][2]), 0)
	require.InDelta(t, 2, testutil.ToFloat64(f.metrics.requests[dialectJSONRPC][rpcapi.Low][2]), 0)
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.requests[dialectPrio][rpcapi.Low][2]), 0)
	require.InDelta(t, 2, testutil.ToFloat64(f.metrics.in[dialectPrio]), 0)
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.errors[dialectJSONRPC][rpcapi.ReasonNoNode]), 0)
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.calls["eth_call"][callAnswered]), 0)
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.calls["eth_call"][callFailed]), 0)
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.calls[rpcapi.LabelOther][callAnswered]), 0)
	n, err := testutil.GatherAndCount(f.reg, "millrace_gateway_request_seconds")
	require.NoError(t, err)
	require.Equal(t, 6, n)
}

func TestDoorsOfTwoAddressesShareARegistry(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	for _, listen := range []string{"127.0.0.1:1", "127.0.0.1:2"} {
		cfg := DefaultConfig(DialectPrio)
		cfg.Listen = listen
		_, err := New(cfg, Ports{Caller: &node{}}, nil, reg)
		require.NoError(t, err)
	}
}
