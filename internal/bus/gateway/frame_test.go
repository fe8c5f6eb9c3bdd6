package gateway

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
	"millrace/subjects"
)

// waiting is how many calls of a class are stored.
func waiting(t *testing.T, js jetstream.JetStream, c rpcapi.Class) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), subjects.StreamGateway(c.String()))
	if err != nil {
		return 0
	}
	return s.CachedInfo().State.Msgs
}

func TestAStoredCallIsTheCall(t *testing.T) {
	w := wireCall{id: callID{1, 2}, repeat: repeatOnce, inbox: "_INBOX.x.1", call: rpcapi.Call{
		Class: rpcapi.Low, Body: []byte("body"), Method: "eth_call", Block: rpcapi.Block{Kind: rpcapi.BlockHash, Number: 3, Hash: [32]byte{4}},
		Client: 5, Node: 6, Received: time.Unix(7, 8), RequestID: "id",
	}}
	b, err := w.append(nil)
	require.NoError(t, err)
	got, err := decodeCall(b)
	require.NoError(t, err)
	require.Equal(t, w, got)
	w.inbox = string(make([]byte, 1<<16))
	_, err = w.append(nil)
	require.ErrorIs(t, err, errLong)
}

func TestAResultIsTheResult(t *testing.T) {
	a := &rpcapi.Answer{
		Status: 200, Body: []byte("body"), Node: &rpcapi.Node{Tag: 1, Label: "l"}, Tries: 2, Height: 3, Queued: 4, Served: 5, QueueStart: 6, QueueEnd: 7,
	}
	got, err := decodeResult(encodeResult(a, nil))
	require.NoError(t, err)
	require.Equal(t, a, got)
}

func TestTheServingOrderIsTheContracts(t *testing.T) {
	for _, c := range []struct {
		o    Order
		want string
	}{
		{Order{FastPerHigh: 2}, "ffhffhfhll"},
		{Order{FastPerHigh: 2, Drain: DrainFirst}, "fffffhhhll"},
		{Order{FastPerHigh: 0}, "hhhfffffll"},
		{Order{FastPerHigh: 2, LowEvery: 3}, "ffhlffhlfh"},
	} {
		left := map[rpcapi.Class]int{rpcapi.FastTrack: 5, rpcapi.High: 3, rpcapi.Low: 2}
		got, s := "", schedule{}
		for range 10 {
			for _, class := range s.next(&c.o) {
				if left[class] > 0 {
					left[class]--
					got += class.String()[:1]
					s.served(class)
					break
				}
			}
		}
		require.Equal(t, c.want, got)
	}
}

func FuzzDecodeCall(f *testing.F) {
	w := wireCall{id: callID{1, 2}, repeat: repeatOnce, inbox: "i", call: rpcapi.Call{Class: rpcapi.Low, Body: []byte("b"), Method: "m"}}
	b, _ := w.append(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := decodeCall(b)
		if err != nil {
			return
		}
		again, err := w.append(nil)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

func FuzzDecodeResult(f *testing.F) {
	f.Add(encodeResult(&rpcapi.Answer{Status: 200, Body: []byte("b")}, nil))
	f.Add(encodeResult(nil, rpcapi.ErrNoNode))
	f.Add(encodeResult(nil, &rpcapi.NodeError{Status: 500, Node: &rpcapi.Node{Tag: 1, Label: "l"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeResult(b)
		require.NotEqual(t, a == nil, err == nil)
	})
}

func FuzzDecodePart(f *testing.F) {
	p := part{server: 1, index: 0, count: 1, data: []byte("x")}
	f.Add(p.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := decodePart(b); ok {
			require.Equal(t, b, p.append(nil))
		}
	})
}
