package enginelog

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/retry"
)

// slowStore is a server that acknowledges what it is sent at a rate, as if its disk were slow.
type slowStore struct {
	*natstest.Server
	rate float64      // bytes a second
	most atomic.Int64 // bytes that ever waited for it
}

func (s *slowStore) InProcessConn() (net.Conn, error) {
	c, err := s.Server.InProcessConn()
	return &slowConn{Conn: c, store: s}, err
}

// slowConn holds back what the server says until what was written before would have been stored.
type slowConn struct {
	net.Conn
	store *slowStore

	mu   sync.Mutex
	busy time.Time
}

func (c *slowConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.busy.Before(now) {
		c.busy = now
	}
	c.busy = c.busy.Add(time.Duration(float64(n) / c.store.rate * float64(time.Second)))
	if waits := int64(time.Until(c.busy).Seconds() * c.store.rate); waits > c.store.most.Load() {
		c.store.most.Store(waits)
	}
	return n, err
}

func (c *slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	until := c.busy
	c.mu.Unlock()
	retry.Pause(context.Background(), time.Until(until))
	return n, err
}

// slowly runs a recorder with a slow store, which waits for acknowledgements for a while.
func slowly(t *testing.T, s *slowStore, wait time.Duration) *testRecorder {
	t.Helper()
	b := port(t, s.Server)
	b.record = s.Connect(t, nats.ReconnectBufSize(-1), nats.InProcessServer(s))
	return runWith(t, b, Config{SpoolDir: spoolDir(t), SpoolMax: 64 << 20}, func(r *Recorder) { r.acks = wait })
}

func TestALargeRecordPassesASlowStore(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	slow := &slowStore{Server: s, rate: 6 << 20}
	r := slowly(t, slow, time.Second)
	q, o := call(1, 1, 17_000_000) // takes it longer than acknowledgements are waited for
	r.Request(q)
	r.Outcome(o)
	say(r, 1, 2, 5)
	r.settled(t, 10)
	require.Zero(t, r.Lost())
	require.LessOrEqual(t, slow.most.Load(), int64(partsUnderWay+1)<<20, "of a record in parts no more is under way")
	require.Equal(t, names(1, 1, 5), told(t, port(t, s), 1))
}

func TestARecordThatTheStoreIsTooSlowForIsLostAndDoesNotHoldUpTheRest(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	r := slowly(t, &slowStore{Server: s, rate: 4 << 20}, 100*time.Millisecond) // a part takes it longer
	say(r, 1, 1, 2)
	q, o := call(1, 3, 17_000_000)
	began := time.Now()
	r.Request(q)
	require.Less(t, time.Since(began), time.Second, "nobody who records waits")
	r.Outcome(o)
	say(r, 1, 4, 6)
	r.settled(t, 11)
	require.Equal(t, map[string]int{lostTooSlow: 1}, r.lost())
	require.Equal(t, append(append(names(1, 1, 2), "1.3.o"), names(1, 4, 6)...), told(t, port(t, s), 1))
}
