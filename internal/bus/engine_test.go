package bus

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/subjects"
)

func TestTheEnginesStreamsAreFittedToTheVolume(t *testing.T) {
	topo := testTopology()
	topo.EngineMaxBytes = 1 << 30
	small, factor := fit(topo, 512<<20)
	require.Less(t, factor, 1.0)
	require.Less(t, small.EngineMaxBytes, topo.EngineMaxBytes)
	var sum int64
	for _, s := range subjects.Streams(small) {
		sum += s.MaxBytes
	}
	for _, k := range subjects.Buckets(small) {
		sum += k.MaxBytes
	}
	require.LessOrEqual(t, sum, int64(512<<20))
}

func TestTheEngineKeepsNoHouse(t *testing.T) {
	c := Config{Role: "engine"}
	require.False(t, c.keepsHouse(), "it has no right to empty a stream of orders")
	require.Equal(t, "_INBOX_engine.engine", c.inbox(useEngine))
	require.False(t, lane{use: useEngine}.buffered(), "a record that is late is sent from the spool, not from a connection")
	require.True(t, lane{use: useReplayer}.buffered())
}
