package socket

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestOnlyMessagesWithARequestOfOursAreRead(t *testing.T) {
	for _, m := range []string{
		``, `{`, `[`, `7`, `{"method":"eth_call"}`, `{"method":"x","params":["eth_subscribe"]}`,
		`{"method":"eth_subscribe"`, `[{"method":"eth_subscribe"}`, `{"method":"debug_subscribe"}`, `"eth_subscribe"`,
	} {
		requests, _ := split([]byte(m))
		require.Nil(t, requests, m)
	}
	requests, batch := split([]byte(`[ 7 , {"params" : [ "newHeads" ],"x":{"id":3},"method": "eth_subscribe" , "id":1.0}, {"id":2}]`))
	require.True(t, batch)
	require.Len(t, requests, 3)
	require.Equal(t, `7`, string(requests[0].raw))
	require.Equal(t, `[ "newHeads" ]`, string(requests[1].params))
	require.Equal(t, `1.0`, string(requests[1].id))
	require.True(t, requests[1].ours())
	require.Equal(t, `[7,{"id":2}]`, string(whole([]request{requests[0], requests[2]})))
}

func TestAnIDThatIsNoneIsNotRepeated(t *testing.T) {
	for id, want := range map[string]string{`1`: `1`, `"a"`: `"a"`, `null`: `null`, `{}`: `null`, `[1]`: `null`, `true`: `null`} {
		r := request{id: []byte(id)}
		require.Equal(t, want, string(r.identified()))
	}
}

func TestTheQueueHoldsItsBoundsAndOneLargeMessage(t *testing.T) {
	q := newQueue(2, 10)
	require.True(t, q.offer(make([]byte, 100)))
	require.False(t, q.offer([]byte("x")))
	batch := q.take(nil)
	require.Len(t, batch, 1)
	require.False(t, q.offer([]byte("x")), "it is not written yet")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.False(t, q.wait(ctx, []byte("x")))
	went := make(chan bool)
	go func() { went <- q.wait(t.Context(), []byte("x")) }()
	q.written(100)
	require.True(t, <-went)
	require.True(t, q.offer([]byte("x")))
	require.False(t, q.offer([]byte("x")), "two messages are all")
	idle, _ := q.idle()
	require.False(t, idle)
}

func TestEveryFaultOfTheConfigurationIsReported(t *testing.T) {
	cfg := Config{}
	err := cfg.Validate()
	for _, name := range []string{"max_message", "max_calls", "queue_bytes", "drain", "dead_after"} {
		require.ErrorContains(t, err, name)
	}
	_, err = New(cfg, Ports{}, nil, prometheus.NewRegistry())
	require.Error(t, err)
	_, err = New(DefaultConfig(), Ports{}, nil, prometheus.NewRegistry())
	require.ErrorContains(t, err, "subscriber")
	require.NotNil(t, rpcError(errors.New("x")))
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}`))
	f.Add([]byte(`[{"id":"x","method":"eth_unsubscribe"},{},7,[]]`))
	f.Add([]byte(`{"method":"eth_subscribe","method":1,"id":{"a":[]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		requests, batch := split(b)
		if requests == nil {
			return
		}
		require.True(t, json.Valid(b))
		require.True(t, batch || len(requests) == 1)
		require.True(t, json.Valid(whole(requests)))
		s := &Server{ports: Ports{Calls: answers(func(_ context.Context, m []byte, _ Client) []byte {
			require.True(t, json.Valid(m))
			return []byte(`[1]`)
		})}}
		c := &conn{server: s}
		if out := c.mixed(t.Context(), requests); out != nil {
			require.True(t, json.Valid(out), string(out))
		}
	})
}

func BenchmarkOrdinaryMessage(b *testing.B) {
	m := []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0x0000000000000000000000000000000000000001"},"latest"]}`)
	b.ReportAllocs()
	for b.Loop() {
		if r, _ := split(m); r != nil {
			b.Fatal("read")
		}
	}
}

func BenchmarkNotification(b *testing.B) {
	result := make([]byte, 1200)
	q := newQueue(4, 1<<20)
	var swap [][]byte
	b.ReportAllocs()
	for b.Loop() {
		n := appendNotification(make([]byte, 0, len(result)+128), "0x00112233445566778899aabbccddeeff", result)
		q.offer(n)
		swap = q.take(swap[:0])
		q.written(len(n))
	}
}
