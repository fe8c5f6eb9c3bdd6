package cache

import (
	"context"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/rpcapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// chain is what a test says that the head is.
type chain struct {
	mu   sync.Mutex
	head rpcapi.Head
}

func (c *chain) Head() rpcapi.Head {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head
}

func (c *chain) at(number, finalized uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head = rpcapi.Head{Number: number, Finalized: finalized, Hash: [32]byte{byte(number)}}
}

// fixture is a cache in front of a node that counts its calls.
type fixture struct {
	*Cache
	chain chain
	reg   *prometheus.Registry
	calls int
	// height is what is known of the node; status 0 is 200.
	height uint64
	status int
}

func newFixture(tb testing.TB, cfg Config) *fixture {
	tb.Helper()
	x := &fixture{reg: prometheus.NewRegistry()}
	x.chain.at(100, 64)
	c, err := New(cfg, &x.chain, x.reg)
	require.NoError(tb, err)
	x.Cache = c
	return x
}

func keeping() Config { return Config{MaxBytes: 1 << 20} }

func everything() Config {
	c := keeping()
	c.Methods = append(DefaultMethods(), rpcapi.GroupCall, rpcapi.GroupEstimateGas)
	return c
}

// ask asks for a result, which the node gives under the id 7.
func (x *fixture) ask(t *testing.T, method, params, result string) (string, rpcapi.Source) {
	t.Helper()
	call := &rpcapi.Call{Class: rpcapi.Low, Method: method}
	a, source, err := x.Do(t.Context(), call, rpcapi.Lookup(method), []byte(params), []byte(`"me"`),
		func(context.Context) (*rpcapi.Answer, error) {
			x.calls++
			return &rpcapi.Answer{
				Status: max(x.status, 200), Height: x.height,
				Body: []byte(`{"jsonrpc":"2.0","id":7,` + result + `}`),
			}, nil
		})
	require.NoError(t, err)
	return string(a.Body), source
}

// again says where the second of two equal answers came from.
func (x *fixture) again(t *testing.T, method, params, result string) rpcapi.Source {
	t.Helper()
	_, source := x.ask(t, method, params, result)
	require.NotEqual(t, rpcapi.SourceHit, source)
	_, source = x.ask(t, method, params, result)
	return source
}
