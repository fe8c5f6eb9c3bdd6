package embedded_test

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/embedded"
	"millrace/internal/certificate/selfsigned"
	"millrace/internal/natstest"
)

func seedPath(s *natstest.Server, name string) string {
	return filepath.Join(filepath.Dir(s.Settings().StoreDir), "auth", name)
}

func dialTCP(t *testing.T, s *natstest.Server, seed string, opts ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	auth, err := embedded.ClientAuth(seed)
	require.NoError(t, err)
	nc, err := nats.Connect(s.ClientURL(), append(opts, auth, nats.Timeout(5*time.Second))...)
	if err == nil {
		t.Cleanup(nc.Close)
	}
	return nc, err
}

func TestListenerRefusesWhoeverProvesNoKey(t *testing.T) {
	s := natstest.Start(t, natstest.Listen())
	stranger, err := nkeys.CreateUser()
	require.NoError(t, err)
	pub, err := stranger.PublicKey()
	require.NoError(t, err)
	for name, opt := range map[string]nats.Option{
		"anonymous":    nats.Name("anonymous"),
		"password":     nats.UserInfo("admin", "admin"),
		"token":        nats.Token("admin"),
		"unknown nkey": nats.Nkey(pub, stranger.Sign),
		// The identity of in-process connections is of no use over TCP.
		"in-process key": func(o *nats.Options) error {
			var in nats.Options
			err := s.ConnectOption()(&in)
			o.Nkey, o.SignatureCB = in.Nkey, in.SignatureCB
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := nats.Connect(s.ClientURL(), opt)
			require.ErrorIs(t, err, nats.ErrAuthorization)
			require.Nil(t, nc)
		})
	}
}

func TestPipeWithoutKeyIsRefusedToo(t *testing.T) {
	s := natstest.Start(t)
	conn, err := s.InProcessConn()
	require.NoError(t, err)
	defer conn.Close()
	lines := bufio.NewReader(conn)
	info, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, info, `"auth_required":true`)
	go func() { _, _ = io.WriteString(conn, "CONNECT {\"verbose\":false}\r\n") }()
	answer, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, answer, "Authorization Violation")
}

func TestAdminSeedMayDoEverythingOverTCP(t *testing.T) {
	s := natstest.Start(t, natstest.Listen())
	nc, err := dialTCP(t, s, seedPath(s, embedded.AdminSeed))
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	makeStream(t, js, "ADMIN")
	require.NoError(t, js.DeleteStream(t.Context(), "ADMIN"))
}

func TestRoleSeedMovesDataButChangesNoStream(t *testing.T) {
	s := natstest.Start(t, natstest.Listen())
	makeStream(t, s.JetStream(t), "ROLE")
	nc, err := dialTCP(t, s, seedPath(s, embedded.RoleSeed), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	require.NoError(t, err)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(300*time.Millisecond))
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "ROLE.x", []byte("x"))
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "ROLE")
	require.NoError(t, err)
	cons, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "c"})
	require.NoError(t, err)
	m, err := cons.Next(jetstream.FetchMaxWait(5 * time.Second))
	require.NoError(t, err)
	require.NoError(t, m.DoubleAck(t.Context()))

	require.Error(t, stream.Purge(t.Context()))
	require.Error(t, stream.DeleteMsg(t.Context(), 1))
	require.Error(t, js.DeleteStream(t.Context(), "ROLE"))
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "MINE"})
	require.Error(t, err)
	require.Equal(t, uint64(1), messages(t, s, "ROLE"))
}

func messages(t *testing.T, s *natstest.Server, stream string) uint64 {
	t.Helper()
	st, err := s.JetStream(t).Stream(t.Context(), stream)
	require.NoError(t, err)
	return st.CachedInfo().State.Msgs
}

func TestSeedsAreMadeOnceAndForTheirOwnerOnly(t *testing.T) {
	s := natstest.Start(t, natstest.Listen())
	for _, name := range []string{embedded.AdminSeed, embedded.RoleSeed} {
		st, err := os.Stat(seedPath(s, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	}
	dir, err := os.Stat(seedPath(s, ""))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), dir.Mode().Perm())
	before, err := os.ReadFile(seedPath(s, embedded.AdminSeed))
	require.NoError(t, err)
	s.Restart(t)
	after, err := os.ReadFile(seedPath(s, embedded.AdminSeed))
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestNoSeedIsMadeWithoutAListener(t *testing.T) {
	s := natstest.Start(t)
	require.NoFileExists(t, seedPath(s, embedded.AdminSeed))
}

func TestListenerLogsHowToConnectAndNoSecret(t *testing.T) {
	out := &logBuffer{}
	s := natstest.Start(t, natstest.Listen(), natstest.Log(slog.New(slog.NewTextHandler(out, nil))))
	require.Contains(t, out.String(), "nats --context "+seedPath(s, embedded.CLIContext))
	require.Contains(t, out.String(), s.ClientURL())
	seed, err := os.ReadFile(seedPath(s, embedded.AdminSeed))
	require.NoError(t, err)
	require.NotContains(t, out.String(), string(seed[:20]))
}

func TestRule07NobodyGetsInByTCPBeforeTheSequencesAreBurnt(t *testing.T) {
	for _, mode := range []string{"plain", "tls"} {
		t.Run(mode, func(t *testing.T) {
			opts, clientOpts := []natstest.Option{natstest.Listen()}, []nats.Option{}
			if mode == "tls" {
				cert, key := certificate(t)
				opts = append(opts, natstest.Config(func(c *embedded.Config) { c.TLSCert, c.TLSKey = cert, key }))
				clientOpts = append(clientOpts, nats.RootCAs(cert))
			}
			s := natstest.Start(t, opts...)
			js := s.JetStream(t)
			makeStream(t, js, "S")
			otherBoot(t, s)
			s.Kill(t)
			require.True(t, s.Unclean())
			for _, seed := range []string{embedded.AdminSeed, embedded.RoleSeed} {
				_, err := dialTCP(t, s, seedPath(s, seed), clientOpts...)
				require.ErrorIs(t, err, nats.ErrAuthorization)
			}
			inside := s.Connect(t, nats.NoReconnect())
			require.NoError(t, s.Settled())
			nc, err := dialTCP(t, s, seedPath(s, embedded.RoleSeed), clientOpts...)
			require.NoError(t, err)
			remote, err := jetstream.New(nc)
			require.NoError(t, err)
			_, err = remote.Publish(t.Context(), "S.x", nil)
			require.NoError(t, err)
			_, err = inside.RTT()
			require.NoError(t, err, "connections of this process stay")
			require.Equal(t, uint64(1), messages(t, s, "S"))
			_, err = nats.Connect(s.ClientURL(), clientOpts...)
			require.ErrorIs(t, err, nats.ErrAuthorization, "still nobody without a key")
			require.NoError(t, s.Health())
		})
	}
}

func TestCLIContextNamesTheAddressAndTheAdminsSeed(t *testing.T) {
	s := natstest.Start(t, natstest.Listen())
	for range 2 {
		b, err := os.ReadFile(seedPath(s, embedded.CLIContext))
		require.NoError(t, err)
		var c struct{ URL, Nkey string }
		require.NoError(t, json.Unmarshal(b, &c))
		require.Equal(t, s.ClientURL(), c.URL)
		require.True(t, filepath.IsAbs(c.Nkey))
		_, err = dialTCP(t, s, c.Nkey)
		require.NoError(t, err)
		s.Restart(t) // on another port
	}
}

func TestRefusedConnectionsDoNotFloodTheLog(t *testing.T) {
	out := &logBuffer{}
	s := natstest.Start(t, natstest.Listen(), natstest.Log(slog.New(slog.NewTextHandler(out, nil))))
	for range 200 {
		_, err := nats.Connect(s.ClientURL())
		require.ErrorIs(t, err, nats.ErrAuthorization)
	}
	require.Less(t, strings.Count(out.String(), "authentication error"), 150)
}

func TestClientAuthNamesAFileThatHoldsNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.nk")
	require.NoError(t, os.WriteFile(path, []byte("hello\n"), 0o600))
	_, err := embedded.ClientAuth(path)
	require.ErrorIs(t, err, embedded.ErrCredentials)
	require.ErrorContains(t, err, path)
	_, err = embedded.ClientAuth(path + ".missing")
	require.ErrorIs(t, err, os.ErrNotExist)
	creds := "-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n"
	require.NoError(t, os.WriteFile(path, []byte(creds), 0o600))
	_, err = embedded.ClientAuth(path)
	require.NoError(t, err)
}

func TestBrokenSeedFileStopsTheStart(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, embedded.AdminSeed), []byte("SUnonsense"), 0o600))
	_, err := embedded.Start(t.Context(), embedded.Config{
		StoreDir: filepath.Join(dir, "nats"), AuthDir: dir, Listen: "127.0.0.1:0",
	}, discard())
	require.ErrorContains(t, err, embedded.AdminSeed)
}

func TestListenerWithACertificateSpeaksTLSAndThePipeDoesNotNeedIt(t *testing.T) {
	cert, key := certificate(t)
	s := natstest.Start(t, natstest.Listen(), natstest.Config(func(c *embedded.Config) { c.TLSCert, c.TLSKey = cert, key }))
	_, err := dialTCP(t, s, seedPath(s, embedded.AdminSeed))
	require.Error(t, err, "an unknown authority")
	nc, err := dialTCP(t, s, seedPath(s, embedded.AdminSeed), nats.RootCAs(cert))
	require.NoError(t, err)
	st, err := nc.TLSConnectionState()
	require.NoError(t, err)
	require.True(t, st.HandshakeComplete)
	_, err = s.Connect(t).RTT()
	require.NoError(t, err)
}

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	return selfsigned.Write(t, t.TempDir(), time.Now().UnixNano())
}
