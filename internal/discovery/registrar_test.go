package discovery

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/discovery/hubtest"
)

func TestWeRegisterWithAHub(t *testing.T) {
	hub := hubtest.Start(t)
	hub.Set(hubtest.Builder{Name: "alpha", IP: "10.0.0.1"})
	cfg := hubConfig(hub.URL("alpha"))
	cfg.Hub.Register = true
	cert := certificatePEM(t)
	g := newWatcher(t, cfg, Self{Signer: addr(9), Certificate: func() string { return cert }}, nil).start()
	g.eventually(func() bool { r, ok := g.Registration(); return ok && !r.At.IsZero() })
	rs := hub.Registrations()
	require.Len(t, rs, 1)
	require.Equal(t, "alpha", rs[0].Name)
	require.Equal(t, hubtest.Credentials{Certificate: cert, Signer: addr(9).Hex()}, rs[0].Credentials)
	require.InDelta(t, 1, testutil.ToFloat64(g.registrar.metrics.registered), 0)
	g.awaitSuccess(Hub)
	require.Empty(t, g.Peers(), "the hub lists us now")
	g.stop()

	other := newWatcher(t, hubConfig(hub.URL("beta")), Self{}, nil).start()
	require.Equal(t, addr(9), other.awaitSet("alpha")[0].Signer)
}

func TestWithoutAKeyOrAWishNobodyIsRegistered(t *testing.T) {
	hub := hubtest.Start(t)
	cfg := hubConfig(hub.URL("alpha"))
	_, ok := newWatcher(t, cfg, Self{Signer: addr(9)}, nil).Registration()
	require.False(t, ok)
	cfg.Hub.Register = true
	_, ok = newWatcher(t, cfg, Self{}, nil).Registration()
	require.False(t, ok)
}

func TestAHubThatRefusesToRegisterIsShownAndDelaysNothing(t *testing.T) {
	hub := hubtest.Start(t)
	hub.Set(listed("beta", 1))
	hub.BreakRegister(hubtest.ForbidStatus)
	cfg := hubConfig(hub.URL("alpha"))
	cfg.Hub.Register = true
	g := newWatcher(t, cfg, Self{Signer: addr(9)}, nil).start()
	g.awaitSet("beta")
	g.eventually(func() bool { r, _ := g.Registration(); return r.Tries == 1 })
	r, _ := g.Registration()
	require.ErrorIs(t, r.Err, ErrStatus)
	require.InDelta(t, 0, testutil.ToFloat64(g.registrar.metrics.registered), 0)
	require.InDelta(t, 1, testutil.ToFloat64(g.registrar.metrics.errors.WithLabelValues("status")), 0)
}

// registering is a registrar in a bubble, and when it tried.
func registering(answer func(try int) error, certificate func() string) (*registrar, *[]time.Duration) {
	began, tries := time.Now(), &[]time.Duration{}
	r := &registrar{
		certificate: certificate, log: slog.New(slog.DiscardHandler), metrics: newRegisterMetrics(prometheus.NewRegistry()),
		register: func(context.Context, string) error {
			*tries = append(*tries, time.Since(began))
			return answer(len(*tries))
		},
	}
	return r, tries
}

func TestRegisteringGoesOnForeverTenTimesAtTheOldPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		r, tries := registering(func(int) error { return errors.New("away") }, func() string { return "" })
		r.run(ctx)
		for n := range registerTries {
			require.Equal(t, time.Duration(n)*registerPause, (*tries)[n])
		}
		for n := registerTries; n < len(*tries); n++ {
			pause := (*tries)[n] - (*tries)[n-1]
			require.LessOrEqual(t, pause, registerMost)
			require.GreaterOrEqual(t, pause, registerPause)
		}
		require.Greater(t, len(*tries), registerTries+20)
		require.Equal(t, len(*tries), r.current().Tries)
	})
}

func TestARenewedCertificateIsRegisteredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var serial atomic.Int64
		r, tries := registering(func(try int) error {
			if try == 1 {
				return errors.New("away")
			}
			return nil
		}, func() string { return string(rune('a' + serial.Load())) })
		time.AfterFunc(30*time.Minute, func() { serial.Add(1) })
		r.run(ctx)
		require.Len(t, *tries, 3)
		require.Equal(t, registerPause, (*tries)[1])
		require.InDelta(t, (30 * time.Minute).Seconds(), (*tries)[2].Seconds(), renewEvery.Seconds())
		require.Zero(t, r.current().Tries)
	})
}
