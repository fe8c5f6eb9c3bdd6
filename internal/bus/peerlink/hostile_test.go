package peerlink

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

// rawLeaf is a leafnode that speaks the protocol by itself.
type rawLeaf struct {
	conn net1
	mu   sync.Mutex
	got  []string
	done chan struct{}
}

type net1 interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
}

// dialLeaf connects to a node as the owner of a certificate; user is the lane.
func dialLeaf(t *testing.T, n *node, id *identity, user string) *rawLeaf {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{Certificates: []tls.Certificate{id.pair}, InsecureSkipVerify: true}}).
		DialContext(t.Context(), "tcp", strings.TrimPrefix(n.url(), "tls://"))
	require.NoError(t, err)
	l := startRaw(t, conn)
	l.await(t, "INFO")
	l.send(t, fmt.Sprintf(`CONNECT {"version":"2.15.2","user":%q,"server_id":"EVIL","name":"evil","headers":true,"protocol":1}`, user))
	return l
}

func startRaw(t *testing.T, conn net1) *rawLeaf {
	t.Helper()
	l := &rawLeaf{conn: conn, done: make(chan struct{})}
	require.NoError(t, conn.SetDeadline(time.Now().Add(2*soon)))
	go func() {
		defer close(l.done)
		lines := bufio.NewReader(conn)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "PING") {
				_, _ = io.WriteString(conn, "PONG\r\n")
			}
			l.mu.Lock()
			l.got = append(l.got, line)
			l.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-l.done
	})
	return l
}

func (l *rawLeaf) send(t *testing.T, line string) {
	t.Helper()
	_, err := io.WriteString(l.conn, line+"\r\n")
	require.NoError(t, err)
}

// publish sends a message; a server that does not allow it may have closed the connection.
func (l *rawLeaf) publish(subject, body string) {
	_, _ = fmt.Fprintf(l.conn, "LMSG %s %d\r\n%s\r\n", subject, len(body), body)
}

func (l *rawLeaf) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.got, "")
}

func (l *rawLeaf) await(t *testing.T, text string) {
	t.Helper()
	if !assertEventually(func() bool { return strings.Contains(l.all(), text) }) {
		require.Fail(t, "not heard", "%s in %s", text, l.all())
	}
}

func assertEventually(cond func() bool) bool {
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(tick) {
		if cond() {
			return true
		}
	}
	return false
}

// settled waits until the server has worked on everything that was sent, or has closed the connection.
func (l *rawLeaf) settled(t *testing.T) {
	t.Helper()
	before := strings.Count(l.all(), "PONG")
	_, _ = io.WriteString(l.conn, "PING\r\n")
	require.Eventually(t, func() bool {
		select {
		case <-l.done:
			return true
		default:
			return strings.Count(l.all(), "PONG") > before
		}
	}, soon, tick)
}

func TestHostilePeerReachesNothingButItsOwnOrders(t *testing.T) {
	a := start(t, "a")
	b := issue(t, t.TempDir(), "b", time.Now().Add(time.Hour), nil)
	c := issue(t, t.TempDir(), "c", time.Now().Add(time.Hour), nil)
	a.set(t, Peer{Name: "b", Pins: []string{b.pin}}, Peer{Name: "c", Pins: []string{c.pin}})
	for i := range 5 {
		a.store(t, order.PriorityHigh, i+1, []byte("order"))
		a.store(t, order.PriorityLow, i+1, []byte("bulk-order"))
	}
	stream := func() *jetstream.StreamInfo {
		s, err := a.js.Stream(t.Context(), "OK_HIGH")
		require.NoError(t, err)
		return s.CachedInfo()
	}
	consumer := func(peer string) *jetstream.ConsumerInfo {
		cons, err := a.js.PushConsumer(t.Context(), "OK_HIGH", flow{"a", peer, order.PriorityHigh}.durable())
		require.NoError(t, err)
		return cons.CachedInfo()
	}
	before, others := stream(), consumer("c")
	for _, attack := range []struct{ subject, body string }{
		{"orders.ok.local.high.00", "forged"},
		{"orders.in.high.00", "forged"},
		{"$JS.API.STREAM.PURGE.OK_HIGH", ""},
		{"$JS.a.API.STREAM.PURGE.OK_HIGH", ""},
		{"a.api.STREAM.PURGE.OK_HIGH", ""},
		{"$JS.API.STREAM.DELETE.OK_HIGH", ""},
		{"$JS.API.CONSUMER.CREATE.OK_HIGH.evil", `{"stream_name":"OK_HIGH","config":{"durable_name":"evil","ack_policy":"none"}}`},
		{"$JS.API.CONSUMER.DELETE.OK_HIGH." + (flow{"a", "c", order.PriorityHigh}).durable(), ""},
		{(flow{"a", "c", order.PriorityHigh}).remoteReset(), `{"seq":100}`},
		{(flow{"a", "c", order.PriorityHigh}).reset(), `{"seq":100}`},
		{"$JS.FC.OK_HIGH." + (flow{"a", "c", order.PriorityHigh}).durable() + ".x", ""},
		{"$JS.ACK.OK_HIGH." + (flow{"a", "c", order.PriorityHigh}).durable() + ".1.5.5.0.0", "+ACK"},
		{"dlv.a.c.high", "forged"},
		{"verdicts.x", "forged"},
		{"$SYS.REQ.SERVER.PING", ""},
		{"_R_.x", ""},
	} {
		l := dialLeaf(t, a, b, "high")
		l.settled(t)
		l.publish(attack.subject, attack.body)
		l.settled(t)
	}
	require.Equal(t, before.State.Msgs, stream().State.Msgs)
	require.Equal(t, before.State.LastSeq, stream().State.LastSeq)
	require.Equal(t, 2, stream().State.Consumers)
	require.Equal(t, others.AckFloor, consumer("c").AckFloor)
	require.Equal(t, others.Delivered, consumer("c").Delivered)
	require.Equal(t, others.NumPending, consumer("c").NumPending)

	// Whatever it subscribes to, it hears its own orders of this lane.
	for _, subject := range []string{"dlv.a.c.high", "dlv.a.b.low", "orders.ok.local.high.00"} {
		l := dialLeaf(t, a, b, "high")
		l.send(t, "LS+ "+subject)
		<-l.done
		require.Contains(t, l.all(), "Permissions Violation")
	}
	l := dialLeaf(t, a, b, "high")
	for _, subject := range []string{">", "dlv.>", "orders.>", "$JS.>", "verdicts.>", "dlv.a.b.high"} {
		l.send(t, "LS+ "+subject)
	}
	l.await(t, "MSG dlv.a.b.high ") // its own
	a.store(t, order.PriorityHigh, 6, []byte("order"))
	l.settled(t)
	require.NotContains(t, l.all(), "bulk-order")
	require.NotContains(t, l.all(), "MSG dlv.a.c")
	require.NotContains(t, l.all(), "MSG orders")
	require.Zero(t, consumer("c").Delivered.Consumer)
	require.NoError(t, a.Health())
}

func TestUnknownLaneIsRefused(t *testing.T) {
	a := start(t, "a")
	b := issue(t, t.TempDir(), "b", time.Now().Add(time.Hour), nil)
	a.set(t, Peer{Name: "b", Pins: []string{b.pin}})
	for _, user := range []string{"", "admin", "PEERS", "X_c_high"} {
		l := dialLeaf(t, a, b, user)
		<-l.done
		require.Contains(t, l.all(), "Authorization Violation")
	}
	require.InDelta(t, 4, refusedBy(a, refusedLane)(), 0)
	leafs, err := a.links.server.Leafs("")
	require.NoError(t, err)
	require.Empty(t, leafs)
}

func TestRevokedPeerIsOutAtOnceAndStaysOut(t *testing.T) {
	a := start(t, "a")
	b := issue(t, t.TempDir(), "b", time.Now().Add(time.Hour), nil)
	a.set(t, Peer{Name: "b", Pins: []string{b.pin}})
	l := dialLeaf(t, a, b, "high")
	l.settled(t)
	a.set(t)
	<-l.done
	require.Error(t, handshake(t, a, &tls.Config{Certificates: []tls.Certificate{b.pair}}))
}

// hostileHub accepts leafnodes as a peer that we fetch from.
func hostileHub(t *testing.T, id *identity) (url string, accepted <-chan *rawLeaf) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{id.pair}, ClientAuth: tls.RequestClientCert})
	require.NoError(t, err)
	found := make(chan *rawLeaf, 16)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			info, _ := json.Marshal(map[string]any{
				"server_id": "EVIL", "server_name": "evil", "version": "2.15.2", "headers": true, "max_payload": 12 << 20,
				"tls_required": true, "nonce": "nonce", "proto": 1, "client_id": 1,
				"leafnode_urls": []string{ln.Addr().String()},
			})
			_, _ = fmt.Fprintf(conn, "INFO %s\r\n", info)
			l := startRaw(t, conn)
			select {
			case found <- l:
			default:
			}
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return "tls://" + ln.Addr().String(), found
}

func TestHostileOriginReachesNothingOfOurs(t *testing.T) {
	b := start(t, "b")
	evil := issue(t, t.TempDir(), "evil", time.Now().Add(time.Hour), nil)
	url, accepted := hostileHub(t, evil)
	b.store(t, order.PriorityHigh, 1, []byte("order"))
	b.set(t, Peer{Name: "evil", URL: url, Pins: []string{evil.pin}})
	for range lanes {
		l := <-accepted
		l.await(t, "CONNECT")
		_, _ = io.WriteString(l.conn, "LS+ >\r\nLS+ orders.>\r\nLS+ $JS.>\r\n")
		for _, subject := range []string{
			"$JS.API.STREAM.PURGE.PEER_evil_HIGH", "$JS.b.API.STREAM.DELETE.PEER_evil_HIGH", "$JS.API.STREAM.PURGE.OK_HIGH",
			"orders.ok.local.high.00", "orders.in.high.00", "peers.evil.high.x", "$KV.STATE.door", "$SYS.REQ.SERVER.PING",
		} {
			l.publish(subject, "x")
		}
		l.settled(t)
		require.NotContains(t, l.all(), "orders.ok")
	}
	s, err := b.js.Stream(t.Context(), "OK_HIGH")
	require.NoError(t, err)
	require.Equal(t, uint64(1), s.CachedInfo().State.Msgs)
	require.Equal(t, uint64(1), s.CachedInfo().State.LastSeq)
	s, err = b.links.js(order.PriorityHigh).Stream(t.Context(), "PEER_evil_HIGH")
	require.NoError(t, err)
	require.Zero(t, s.CachedInfo().State.LastSeq)
	require.NoError(t, b.Health())
}

func TestHeadersOfAPeerAreHarmless(t *testing.T) {
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	for _, n := range []*node{a, c} {
		s, err := n.js.Stream(t.Context(), "OK_HIGH")
		require.NoError(t, err)
		cfg := s.CachedInfo().Config
		cfg.AllowMsgTTL = true
		_, err = n.js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)
		n.set(t, b.peer())
	}
	small := a.peer()
	small.MaxBytes = 1 << 20
	b.set(t, small, c.peer())
	fromA, fromC := b.receive(t, "a", order.PriorityHigh), b.receive(t, "c", order.PriorityHigh)

	// Messages that never expire give way to newer ones.
	const n = 40
	for i := range n {
		m := a.message(order.PriorityHigh, i+1, make([]byte, 100<<10))
		m.Header.Set("Nats-TTL", "never")
		_, err := a.js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
		fromA.await(t, i+1) // else the oldest give way before they are taken
	}
	s, err := b.links.js(order.PriorityHigh).Stream(t.Context(), "PEER_a_HIGH")
	require.NoError(t, err)
	require.Equal(t, uint64(n), s.CachedInfo().State.LastSeq)
	require.LessOrEqual(t, s.CachedInfo().State.Bytes, uint64(1<<20))

	// An id that one peer uses first is not taken from another.
	for _, from := range []*node{a, c} {
		m := from.message(order.PriorityHigh, n+1, nil)
		m.Header.Set("Nats-Msg-Id", "the same")
		_, err := from.js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
	}
	fromA.await(t, n+1)
	fromC.await(t, 1)

	// Headers that nobody can read leave the body, and nothing of them.
	m := c.message(order.PriorityHigh, 1, []byte("body"))
	m.Header.Set("Mr-Order", "nonsense")
	m.Header.Set("Nats-Msg-Id", "unreadable")
	_, err = c.js.PublishMsg(t.Context(), m)
	require.NoError(t, err)
	fromC.await(t, 2)
	require.Nil(t, fromC.all()[1].Order)
	require.Equal(t, "body", string(fromC.all()[1].Body))
}

func FuzzDecodeOriginSequence(f *testing.F) {
	f.Add("OK_HIGH:abc 12 > >")
	f.Add("")
	f.Fuzz(func(_ *testing.T, note string) { originSequence(note) })
}
