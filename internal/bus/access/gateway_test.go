package access_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/bus/access"
	"millrace/internal/bus/gateway"
	"millrace/internal/rpcapi"
)

func dialGateway(t *testing.T, s *access.Site, role, user string) (*bus.Bus, *prometheus.Registry) {
	t.Helper()
	topo := topology()
	topo.Gateway, topo.GatewayTimeout, topo.GatewayMaxBytes = true, 5*time.Second, 4<<20
	reg := prometheus.NewRegistry()
	cfg := bus.Config{URL: s.URL(), Sync: bus.SyncInterval, Replicas: 1, Role: role, Creds: seed(s, user)}
	b, err := bus.Dial(t.Context(), cfg, topo, slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b, reg
}

// TestTheGatewayDoesItsWorkWithItsOwnKey does all that a gateway does on the bus, as its own user and as that of a
// node, and requires that the server refused nothing on the way.
func TestTheGatewayDoesItsWorkWithItsOwnKey(t *testing.T) {
	s := newSite(t, 1)
	run(t, s, "nats")
	admin, _ := dialGateway(t, s, "", access.Admin)
	_, err := admin.Apply(t.Context())
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	for _, role := range []string{"gateway", "node"} {
		t.Run(role, func(t *testing.T) {
			b, reg := dialGateway(t, s, role, role)
			background(t, b.Run)
			require.NoError(t, b.Healthy())
			nodes := gateway.NewNodes(b, log)
			require.NoError(t, nodes.Add(t.Context(), gateway.Entry{URI: "http://127.0.0.1:8545"}))
			require.NoError(t, nodes.Remove(t.Context(), "http://127.0.0.1:8546"))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			require.ErrorIs(t, nodes.Watch(ctx, func(es []gateway.Entry) {
				require.Len(t, es, 2)
				stop()
			}), context.Canceled)
			heard := make(chan string, 8)
			unhear, err := gateway.NewGossip(b).Hear(func(p []byte) { heard <- string(p) })
			require.NoError(t, err)
			require.NoError(t, gateway.NewGossip(b).Tell([]byte("x")))
			require.Equal(t, "x", await(t, heard))
			unhear()
			q := gateway.NewQueue(gateway.QueueConfig{MaxBytes: 4 << 20}, b, log, prometheus.NewRegistry())
			background(t, func(ctx context.Context) error {
				return q.Serve(ctx, func(ctx context.Context) error { return ctx.Err() },
					func(_ context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
						return &rpcapi.Answer{Status: 200, Body: c.Body}, nil
					})
			})
			for class := rpcapi.FastTrack; class <= rpcapi.Low; class++ {
				a, err := q.Offer(t.Context(), &rpcapi.Call{Class: class, Body: []byte("x"), Received: time.Now()})
				require.NoError(t, err)
				require.Equal(t, "x", string(a.Body))
			}
			gone, cancel := context.WithCancelCause(t.Context())
			cancel(errors.New("gone"))
			_, _ = q.Offer(gone, &rpcapi.Call{Class: rpcapi.Low, Received: time.Now()})
			require.Zero(t, faults(t, reg), "the server refused something")
		})
	}
}

// TestTheGatewayHasNoWordInTheOrders publishes, as the gateway, what is the work of others.
func TestTheGatewayHasNoWordInTheOrders(t *testing.T) {
	s := applied(t)
	nc, refused := connect(t, s, "gateway")
	for _, subject := range []string{
		"orders.in.high.00", "orders.ok.local.high.00", "orders.done.one", "verdicts.door-1", "signers.v1", "orders.status",
		"engine.calls.other", "$JS.API.CONSUMER.MSG.NEXT.IN_HIGH.workers", "$JS.API.DIRECT.GET.RECORD", "$JS.API.DIRECT.GET.IN_HIGH",
		"$KV.STATE.door", "$KV.LEASES.x", "$JS.API.STREAM.PURGE.GATEWAY_LOW", "$JS.API.STREAM.DELETE.GATEWAY_LOW",
		"$JS.API.STREAM.UPDATE.GATEWAY_LOW", "$JS.API.STREAM.CREATE.MINE", "_INBOX_ingress.status.x", "_INBOX_gateway.control.x",
	} {
		require.NoError(t, nc.Publish(subject, []byte("{}")))
		require.NoError(t, nc.Flush())
		require.ErrorIs(t, await(t, refused), nats.ErrPermissionViolation, subject)
	}
	for _, user := range []string{"ingress", "worker", "egress", "engine", access.Reader, access.Metrics} {
		nc, refused := connect(t, s, user)
		for _, subject := range []string{"gateway.calls.fast", "gateway.limits.v1", "gateway.cancel.v1", "$KV.gateway_nodes.x", "_INBOX_gateway.gateway.x"} {
			require.NoError(t, nc.Publish(subject, []byte("{}")))
			require.NoError(t, nc.Flush())
			require.ErrorIs(t, await(t, refused), nats.ErrPermissionViolation, "%s: %s", user, subject)
		}
	}
}
