package embedded_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/embedded"
	"millrace/internal/natstest"
)

// writeOlderStore leaves a store as versions before named accounts wrote it: a stream of n messages, the
// first of them done, and a bucket.
func writeOlderStore(t *testing.T, dir string, n int) {
	t.Helper()
	ns, err := server.NewServer(&server.Options{
		ServerName: "millrace", DontListen: true, NoSigs: true, JetStream: true, StoreDir: dir, DisableJetStreamBanner: true,
	})
	require.NoError(t, err)
	ns.Start()
	require.True(t, ns.ReadyForConnections(30*time.Second))
	nc, err := nats.Connect("", nats.InProcessServer(ns))
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	stream := makeStream(t, js, "OLD")
	for range n {
		_, err := js.Publish(t.Context(), "OLD.x", []byte("x"))
		require.NoError(t, err)
	}
	cons, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	m, err := cons.Next()
	require.NoError(t, err)
	require.NoError(t, m.DoubleAck(t.Context()))
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "STATE"})
	require.NoError(t, err)
	_, err = kv.PutString(t.Context(), "door", "open")
	require.NoError(t, err)
	nc.Close()
	ns.Shutdown()
	ns.WaitForShutdown()
}

func TestStoreOfAnOlderVersionIsTakenOverWholly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nats")
	writeOlderStore(t, dir, 5)
	s := natstest.Start(t, natstest.StoreDir(dir))
	for range 2 { // and once more on what was taken over
		require.NoDirExists(t, filepath.Join(dir, "jetstream", "$G"))
		js := s.JetStream(t)
		stream, err := js.Stream(t.Context(), "OLD")
		require.NoError(t, err)
		require.Equal(t, uint64(5), stream.CachedInfo().State.Msgs)
		cons, err := stream.Consumer(t.Context(), "workers")
		require.NoError(t, err)
		require.Equal(t, uint64(1), cons.CachedInfo().AckFloor.Stream)
		require.Equal(t, uint64(4), cons.CachedInfo().NumPending)
		kv, err := js.KeyValue(t.Context(), "STATE")
		require.NoError(t, err)
		e, err := kv.Get(t.Context(), "door")
		require.NoError(t, err)
		require.Equal(t, "open", string(e.Value()))
		s.Restart(t)
	}
	st, err := s.JetStream(t).Stream(t.Context(), "OLD")
	require.NoError(t, err)
	require.Equal(t, uint64(5), st.CachedInfo().State.LastSeq)
}

func TestStreamsThatAnOlderVersionWroteBesideAreNotLeftLying(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nats")
	s := natstest.Start(t, natstest.StoreDir(dir))
	makeStream(t, s.JetStream(t), "NEW")
	s.Stop()
	writeOlderStore(t, dir, 1)
	_, err := embedded.Start(t.Context(), embedded.Config{StoreDir: dir}, discard())
	require.ErrorIs(t, err, embedded.ErrTwoStores)
	require.ErrorContains(t, err, "$G")
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "jetstream", "$G")))
	s.Restart(t)
	require.Zero(t, messages(t, s, "NEW"))
}
