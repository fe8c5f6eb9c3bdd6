package embedded_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/internal/bus/embedded"
	"millrace/internal/natstest"
)

// answerTo sends a CONNECT made of the server's nonce and returns what the server says to it.
func answerTo(t *testing.T, conn net.Conn, connect func(nonce string) map[string]any) string {
	t.Helper()
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	lines := bufio.NewReader(conn)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	var info struct {
		Nonce string `json:"nonce"`
	}
	require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info))
	require.NotEmpty(t, info.Nonce, "a nonce for everybody")
	b, err := json.Marshal(connect(info.Nonce))
	require.NoError(t, err)
	go func() { _, _ = io.WriteString(conn, "CONNECT "+string(b)+"\r\nPING\r\n") }()
	answer, err := lines.ReadString('\n')
	require.NoError(t, err)
	return answer
}

func TestKeyOfTheAdminIsOfNoUseWithoutItsSignatureOfThisNonce(t *testing.T) {
	s := natstest.Start(t, natstest.Listen())
	seed, err := os.ReadFile(seedPath(s, embedded.AdminSeed))
	require.NoError(t, err)
	admin, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	require.NoError(t, err)
	pub, err := admin.PublicKey()
	require.NoError(t, err)
	sign := func(kp nkeys.KeyPair, text string) string {
		sig, err := kp.Sign([]byte(text))
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(sig)
	}
	other, err := nkeys.CreateUser()
	require.NoError(t, err)
	for name, connect := range map[string]func(nonce string) map[string]any{
		"no signature":       func(string) map[string]any { return map[string]any{"nkey": pub} },
		"empty signature":    func(string) map[string]any { return map[string]any{"nkey": pub, "sig": ""} },
		"not base64":         func(string) map[string]any { return map[string]any{"nkey": pub, "sig": "!"} },
		"of another key":     func(n string) map[string]any { return map[string]any{"nkey": pub, "sig": sign(other, n)} },
		"of another nonce":   func(n string) map[string]any { return map[string]any{"nkey": pub, "sig": sign(admin, n+"x")} },
		"of nothing":         func(string) map[string]any { return map[string]any{"nkey": pub, "sig": sign(admin, "")} },
		"key as user name":   func(n string) map[string]any { return map[string]any{"user": pub, "sig": sign(admin, n)} },
		"key as token":       func(n string) map[string]any { return map[string]any{"auth_token": pub, "sig": sign(admin, n)} },
		"no key":             func(n string) map[string]any { return map[string]any{"sig": sign(admin, n)} },
		"account by request": func(n string) map[string]any { return map[string]any{"account": "ORDERS", "sig": sign(admin, n)} },
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.ClientURL(), "nats://"))
			require.NoError(t, err)
			require.Contains(t, answerTo(t, conn, connect), "Authorization Violation")
		})
	}
	// The admin's key is for TCP: over the pipe of this process it is no more than a stranger's.
	pipe, err := s.InProcessConn()
	require.NoError(t, err)
	right := func(n string) map[string]any { return map[string]any{"nkey": pub, "sig": sign(admin, n)} }
	require.Contains(t, answerTo(t, pipe, right), "Authorization Violation")
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", strings.TrimPrefix(s.ClientURL(), "nats://"))
	require.NoError(t, err)
	require.Contains(t, answerTo(t, conn, right), "+OK")
}

func TestNothingOfPeersExistsWithoutThem(t *testing.T) {
	s := natstest.Start(t)
	require.NotContains(t, get(t, s.Monitor(), "/accountz"), "PEERS")
	require.Zero(t, s.LeafPort())
	require.ErrorIs(t, s.SetLeafs(nil, nil), embedded.ErrPeering)
	_, err := nats.Connect(s.ClientURL(), s.PeersOption())
	require.ErrorIs(t, err, embedded.ErrPeering)
	s2 := natstest.Start(t, natstest.Config(func(c *embedded.Config) {
		c.Peering = &embedded.Peering{Domain: "a", Ping: time.Second}
	}))
	require.Contains(t, get(t, s2.Monitor(), "/accountz"), "PEERS")
	require.Zero(t, s2.LeafPort(), "it only fetches")
	require.ErrorIs(t, (&embedded.Config{StoreDir: "x", Peering: &embedded.Peering{}}).Validate(), embedded.ErrPeering)
	require.ErrorIs(t, (&embedded.Config{StoreDir: "x", Peering: &embedded.Peering{Domain: "a", Listen: ":0"}}).Validate(), embedded.ErrPeering)
}

func TestConnectingWhileTheServerTakesOptionsOver(t *testing.T) {
	s := natstest.Start(t, natstest.Config(func(c *embedded.Config) {
		c.Peering = &embedded.Peering{Domain: "a", Ping: time.Second}
	}))
	var g errgroup.Group
	ctx, cancel := context.WithCancel(t.Context())
	for range 4 {
		g.Go(func() error {
			for ctx.Err() == nil {
				nc, err := nats.Connect(s.ClientURL(), s.ConnectOption())
				if err != nil {
					return err
				}
				nc.Close()
			}
			return nil
		})
	}
	accounts := []embedded.Account{{Name: embedded.AccountOrders, JetStream: true}, {Name: embedded.AccountPeers, JetStream: true}}
	for i := range 30 {
		more := embedded.Account{Name: fmt.Sprintf("X_%d", i)}
		require.NoError(t, s.SetLeafs(append(accounts, more), nil))
	}
	cancel()
	require.NoError(t, g.Wait())
}
