package rpc

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/ingress/rpc/cache"
	"millrace/internal/rpcapi"
)

func TestNoRequestSeesAnothersBody(t *testing.T) {
	t.Parallel()
	for _, dialect := range []Dialect{DialectPrio, DialectJSONRPC} {
		f := open(t, dialect, kept(t))
		f.node.set(func(_ context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
			return answered(`{"jsonrpc":"2.0","id":1,"result":` + strings.TrimSpace(string(c.Body)) + `}`), nil
		})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 40 {
					// Bodies that grow and shrink, so that the memory of one is that of another.
					body := request("1", "eth_sendTransaction", fmt.Sprintf(`"%d %d %s"`, i, j, strings.Repeat("x", (i*j*37)%3000)))
					if got := f.post("/", body).body; !strings.Contains(got, body) {
						t.Errorf("%s: %s", body, got)
					}
					f.post("/", request("1", "eth_chainId", ""))
				}
			})
		}
		wg.Wait()
		f.settled()
	}
}

func TestALargeBodyIsNotKept(t *testing.T) {
	t.Parallel()
	f := made(t, DialectPrio)
	m := &message{}
	for _, size := range []int{100, keptBody, keptBody + 1} {
		m.carrier, m.body.data = overHTTP, make([]byte, size)
		f.recycle(m)
		require.Equal(t, min(size, keptBody), cap(m.body.room))
		require.Empty(t, m.body.data)
	}
	m.carrier, m.body.room, m.body.data = overSocket, nil, make([]byte, 100)
	f.recycle(m)
	require.Nil(t, m.body.room, "a WebSocket's message is somebody else's")
}

func TestACallThatWaitsForAnothersAnswerOutlastsTheDeadlineForItsBody(t *testing.T) {
	t.Parallel()
	f := made(t, DialectJSONRPC, func(_ *Config, p *Ports) {
		c, err := cache.New(cache.Config{Coalesce: true}, still{}, prometheus.NewRegistry())
		require.NoError(t, err)
		p.Cache = c
	})
	f.reading = 300 * time.Millisecond
	f.run()
	came := make(chan struct{}, 2)
	f.node.set(func(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
		came <- struct{}{}
		late := time.NewTimer(3 * f.reading)
		defer late.Stop()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-late.C:
			return answered(under(c, `"late"`)), nil
		}
	})
	var wg sync.WaitGroup
	ask := func() {
		if s := f.post("/", request("1", "eth_gasPrice", "")); !strings.Contains(s.body, "late") {
			t.Error(s.body)
		}
	}
	wg.Go(ask)
	<-came
	for range 3 {
		wg.Go(ask)
	}
	wg.Wait()
	require.Len(t, f.node.calls(), 1)
}
