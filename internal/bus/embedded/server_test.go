package embedded_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/embedded"
	"millrace/internal/natstest"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// logBuffer is a log that a test can read while the server writes it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func makeStream(t *testing.T, js jetstream.JetStream, name string) jetstream.Stream {
	t.Helper()
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: name, Subjects: []string{name + ".>"}, Storage: jetstream.FileStorage, AllowDirect: true,
	})
	require.NoError(t, err)
	return s
}

func TestConfigReportsAllFaultsAtOnce(t *testing.T) {
	err := (&embedded.Config{Sync: "never", Listen: "nowhere", TLSCert: "x", MaxPayload: 64 << 20, MaxStore: -1}).Validate()
	for _, part := range []string{"store_dir", "sync", "listen", "tls", "max payload", "max store"} {
		require.ErrorContains(t, err, part)
	}
	require.NoError(t, (&embedded.Config{StoreDir: "x", Listen: "127.0.0.1:0", Sync: "always"}).Validate())
	require.ErrorContains(t, (&embedded.Config{StoreDir: "x", Listen: "127.0.0.1:70000"}).Validate(), "port")
	_, err = embedded.Start(t.Context(), embedded.Config{}, discard())
	require.ErrorContains(t, err, "store_dir")
}

func TestServerOpensNoPortByDefault(t *testing.T) {
	s := natstest.Start(t)
	require.NoError(t, s.Health())
	_, err := s.Connect(t).RTT()
	require.NoError(t, err)
	// Neither does it know a port that somebody could dial.
	_, err = nats.Connect(s.ClientURL(), nats.Timeout(time.Second))
	require.ErrorIs(t, err, nats.ErrNoServers)
}

func TestServerTakesAnOrderOfTenMiBWithHeaders(t *testing.T) {
	s := natstest.Start(t)
	js := s.JetStream(t)
	makeStream(t, js, "BIG")
	_, err := js.PublishMsg(t.Context(), &nats.Msg{
		Subject: "BIG.x", Data: make([]byte, 10<<20),
		Header: nats.Header{"Mr-Order": {strings.Repeat("x", 60<<10)}},
	})
	require.NoError(t, err)
}

func TestSecondServerOnOneStoreIsRefusedWithTheDirectorysName(t *testing.T) {
	s := natstest.Start(t)
	_, err := embedded.Start(t.Context(), embedded.Config{StoreDir: s.Settings().StoreDir}, discard())
	require.ErrorIs(t, err, embedded.ErrLocked)
	require.ErrorContains(t, err, s.Settings().StoreDir)
	// The first one's exit gives the directory back.
	s.Restart(t)
}

func TestMessagesAcknowledgedBeforeAKillAreThereAfterIt(t *testing.T) {
	s := natstest.Start(t)
	js := s.JetStream(t)
	makeStream(t, js, "KEEP")
	for range 500 {
		_, err := js.Publish(t.Context(), "KEEP.x", []byte("x"))
		require.NoError(t, err)
	}
	s.Kill(t)
	require.Eventually(t, func() bool {
		st, err := js.Stream(t.Context(), "KEEP")
		return err == nil && st.CachedInfo().State.Msgs == 500
	}, 10*time.Second, 20*time.Millisecond)
}

func TestSyncAlwaysIsAccepted(t *testing.T) {
	s := natstest.Start(t, natstest.Config(func(c *embedded.Config) { c.Sync = embedded.SyncAlways }))
	js := s.JetStream(t)
	makeStream(t, js, "S")
	_, err := js.Publish(t.Context(), "S.x", nil)
	require.NoError(t, err)
	require.Contains(t, get(t, s.Monitor(), "/varz"), `"sync_always": true`)
}

func TestServerLogsNothingAboveDebugWhenAllIsWell(t *testing.T) {
	out := &logBuffer{}
	s := natstest.Start(t, natstest.Log(slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo}))))
	s.JetStream(t)
	s.Restart(t)
	require.Empty(t, out.String())
}

func TestStartFailsWithTheServersOwnReason(t *testing.T) {
	first := natstest.Start(t, natstest.Listen())
	cfg := embedded.Config{StoreDir: filepath.Join(t.TempDir(), "nats"), Listen: strings.TrimPrefix(first.ClientURL(), "nats://")}
	_, err := embedded.Start(t.Context(), cfg, discard())
	require.ErrorContains(t, err, "address already in use")
	// The failed start has given its directory back.
	cfg.Listen = ""
	s, err := embedded.Start(t.Context(), cfg, discard())
	require.NoError(t, err)
	s.Shutdown()
}

func TestStartGivesUpWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("impatient"))
	cfg := embedded.Config{StoreDir: filepath.Join(t.TempDir(), "nats")}
	s, err := embedded.Start(ctx, cfg, discard())
	if err == nil { // it was faster
		s.Shutdown()
		return
	}
	require.ErrorContains(t, err, "impatient")
}

func TestHealthSaysStoppedAfterShutdown(t *testing.T) {
	s := natstest.Start(t)
	s.Shutdown()
	s.Shutdown()
	require.ErrorIs(t, s.Health(), embedded.ErrStopped)
}

func TestVolumeCountsWhatIsNotAvailable(t *testing.T) {
	used, total, err := natstest.Start(t).Volume()
	require.NoError(t, err)
	require.Positive(t, total)
	require.LessOrEqual(t, used, total)
}

func TestMonitorAnswersWithoutAPort(t *testing.T) {
	s := natstest.Start(t)
	makeStream(t, s.JetStream(t), "SEEN")
	require.Contains(t, get(t, s.Monitor(), "/jsz?streams=true"), "SEEN")
	require.Contains(t, get(t, s.Monitor(), "/healthz"), "ok")
	for _, path := range []string{"/varz", "/connz", "/subsz", "/accountz", "/accstatz", "/leafz", "/ipqueuesz"} {
		require.True(t, json.Valid([]byte(get(t, s.Monitor(), path))), path)
	}
	rec := httptest.NewRecorder()
	s.Monitor().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/varz", nil))
	require.Equal(t, http.StatusMethodNotAllowed, rec.Code)
}

func get(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	require.Equal(t, http.StatusOK, rec.Code, path)
	return rec.Body.String()
}

// The machine's death is played by another boot id in the store.
func otherBoot(t *testing.T, s *natstest.Server) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(s.Settings().StoreDir, "boot_id"), []byte("another-run\n"), 0o600))
}

func TestRule07StoreIsUncleanOnlyAfterTheDeathOfTheMachine(t *testing.T) {
	s := natstest.Start(t)
	require.False(t, s.Unclean(), "a new store")
	makeStream(t, s.JetStream(t), "A")
	s.Kill(t)
	require.False(t, s.Unclean(), "the process died, the page cache did not")
	s.Restart(t)
	require.False(t, s.Unclean(), "a clean restart")
	s.Stop()
	otherBoot(t, s)
	s.Restart(t)
	require.False(t, s.Unclean(), "the machine was started again after a clean stop")

	otherBoot(t, s)
	s.Kill(t)
	require.True(t, s.Unclean(), "the machine died under the server")
	s.Kill(t)
	require.True(t, s.Unclean(), "nobody has burnt the sequences yet")
	s.Restart(t)
	require.True(t, s.Unclean(), "a clean stop does not burn them either")
	require.NoError(t, s.Settled())
	require.False(t, s.Unclean())
	s.Kill(t)
	require.False(t, s.Unclean(), "burnt once is enough")
}

func TestRule07StoreWithoutAnyMarkIsUnclean(t *testing.T) {
	s := natstest.Start(t)
	makeStream(t, s.JetStream(t), "A")
	require.NoError(t, os.Remove(filepath.Join(s.Settings().StoreDir, "boot_id")))
	s.Kill(t)
	require.True(t, s.Unclean())
}
