package engine

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/doortest"
	"millrace/internal/engineapi"
)

func TestEveryFaultOfAConfigurationIsReported(t *testing.T) {
	good := DefaultConfig()
	good.Primary, good.JWTSecret = "http://127.0.0.1:8551", "jwt.hex"
	require.NoError(t, good.Validate())
	for want, change := range map[string]func(*Config){
		"listen":          func(c *Config) { c.Listen = "nowhere" },
		"primary":         func(c *Config) { c.Primary = "" },
		"https://":        func(c *Config) { c.Primary = "ftp://x" },
		"user":            func(c *Config) { c.Primary = "http://a:hunter2@x" },
		"jwt_secret":      func(c *Config) { c.JWTSecret = "" },
		"auth":            func(c *Config) { c.Auth = "none" },
		"client_versions": func(c *Config) { c.ClientVersions = "" },
		"tls.cert":        func(c *Config) { c.TLS.Cert = "x" },
		"timeout":         func(c *Config) { c.Timeout = 0 },
		"max_body":        func(c *Config) { c.MaxBody = 1 },
		"inflight_bytes":  func(c *Config) { c.InflightBytes = 1 },
		"max_connections": func(c *Config) { c.MaxConnections = 0 },
		"drain_timeout":   func(c *Config) { c.DrainTimeout = -1 },
	} {
		c := good
		change(&c)
		err := c.Validate()
		require.ErrorIs(t, err, ErrConfig, want)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2")
	}
	var none Config
	require.GreaterOrEqual(t, strings.Count(none.Validate().Error(), "\n"), 6)
	forward := good
	forward.Auth, forward.JWTSecret = AuthForward, ""
	require.NoError(t, forward.Validate())
}

func TestNewNeedsItsPortsAndReadableSecrets(t *testing.T) {
	book := &ledger{}
	log := slog.New(slog.DiscardHandler)
	cfg := DefaultConfig()
	cfg.Primary, cfg.JWTSecret = "http://127.0.0.1:8551", secretFile(t, 1)
	make1 := func(cfg Config, p Ports) error {
		_, err := New(cfg, p, log, prometheus.NewRegistry())
		return err
	}
	ports := Ports{Recorder: book, Clock: book, Epoch: 1}
	require.NoError(t, make1(cfg, ports))
	require.ErrorIs(t, make1(Config{}, ports), ErrConfig)
	require.ErrorIs(t, make1(cfg, Ports{Recorder: book, Clock: book}), ErrPort)
	require.ErrorIs(t, make1(cfg, Ports{Recorder: book, Epoch: 1}), ErrPort)
	require.ErrorIs(t, make1(cfg, Ports{Clock: book, Epoch: 1}), ErrPort)
	bad := filepath.Join(t.TempDir(), "bad.hex")
	require.NoError(t, os.WriteFile(bad, []byte("0x1234"), 0o600))
	other := cfg
	other.JWTSecret = bad
	require.ErrorIs(t, make1(other, ports), engineapi.ErrSecret)
	other = cfg
	other.PrimaryJWTSecret = bad
	require.ErrorIs(t, make1(other, ports), engineapi.ErrSecret)
}

func TestThePrimarysSecretIsTheCallersUnlessItHasItsOwn(t *testing.T) {
	f := made(t, "http://127.0.0.1:1", func(c *Config) { c.PrimaryJWTSecret = "" })
	require.Equal(t, secretOf(callerSecret), f.order.primary.secret)
	f = made(t, "http://127.0.0.1:1")
	require.Equal(t, secretOf(primarySecret), f.order.primary.secret)
	f = made(t, "http://127.0.0.1:1", forwarding)
	require.True(t, f.order.primary.secret.IsZero(), "what was not verified is never signed")
}

func TestABodyIsReadWithinTheBudget(t *testing.T) {
	for _, tc := range []struct {
		announced, limit int64
		size             int
		want             error
	}{
		{-1, 100, 0, nil},
		{-1, 100, 100, nil},
		{-1, 100, 101, errBodyTooLarge},
		{100, 100, 100, nil},
		{50, 100, 101, errBodyTooLarge}, // what lies about its length
		{-1, 1 << 20, 1 << 20, nil},
		{-1, 1 << 20, 1<<20 + 1, errBodyTooLarge},
		{-1, 2 << 20, 2 << 20, errExhausted},
		{2 << 20, 4 << 20, 0, errExhausted},
	} {
		b := budget{total: 1<<20 + 1<<10}
		body, held, err := b.read(iotest.HalfReader(strings.NewReader(strings.Repeat("x", tc.size))), tc.announced, tc.limit)
		require.ErrorIs(t, err, tc.want)
		require.Equal(t, held, b.used())
		if tc.want == nil {
			require.Len(t, body, tc.size)
			require.GreaterOrEqual(t, held, int64(tc.size))
			require.Less(t, cap(body), tc.size+tc.size/4+64, "what is kept is not much more")
		}
		b.release(held)
		require.Zero(t, b.used())
	}
	b := budget{total: 1 << 20}
	_, held, err := b.read(iotest.ErrReader(io.ErrUnexpectedEOF), -1, 10)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	b.release(held)
	require.Zero(t, b.used())
}

func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	l := &doortest.Log{}
	var r refusals
	for range 5 {
		r.note(t.Context(), l.Logger(), "stale")
	}
	require.Equal(t, 1, strings.Count(l.String(), "engine call refused"))
	r.next = time.Now().Add(-time.Second)
	r.note(t.Context(), l.Logger(), "stale")
	require.Contains(t, l.String(), "count=5")
}

func TestEveryRefusalHasAReason(t *testing.T) {
	now := time.Now()
	s := secretOf(1)
	for value, want := range map[string]string{
		"":         refusedMissing,
		"Bearer x": refusedMalformed,
		"Bearer eyJhbGciOiJub25lIn0.eyJpYXQiOjF9.": refusedAlgorithm,
		secretOf(2).Authorization(now):             refusedSignature,
		s.Authorization(now.Add(-2 * time.Minute)): refusedStale,
		s.Authorization(now.Add(2 * time.Minute)):  refusedFuture,
	} {
		require.Equal(t, want, reasonOf(s.Verify(value, now)), value)
	}
	require.Equal(t, refusedExpired, reasonOf(engineapi.ErrExpiredToken))
	require.Equal(t, refusedIssue, reasonOf(engineapi.ErrMissingIssuedAt))
}
