package dispatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

func TestRoomIsWhereAPlaceIsFreeThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := New(Config{}, prometheus.NewRegistry())
		require.NoError(t, err)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, d.Room(short), context.DeadlineExceeded, "there is no node")
		d.Set([]Member{{Tag: 1, Places: 1, Weight: 1}})
		require.NoError(t, d.Room(t.Context()))
		require.NoError(t, d.Room(t.Context()), "nothing was taken")
		p, err := d.Acquire(t.Context(), &Want{Class: rpcapi.Low})
		require.NoError(t, err)
		got := make(chan error, 1)
		go func() { got <- d.Room(t.Context()) }()
		second := make(chan Place, 1)
		go func() {
			p, err := d.Acquire(t.Context(), &Want{Class: rpcapi.Low})
			require.NoError(t, err) //nolint:testifylint // it ends the test all the same
			second <- p
		}()
		synctest.Wait()
		d.Release(p)
		p = <-second
		synctest.Wait()
		require.Empty(t, got, "the place went to a call")
		d.Release(p)
		require.NoError(t, <-got)
		_, err = d.Acquire(t.Context(), &Want{Class: rpcapi.Low})
		require.NoError(t, err)
		go func() { got <- d.Room(t.Context()) }()
		synctest.Wait()
		d.Set([]Member{{Tag: 1, Places: 1, Weight: 1}, {Tag: 2, Places: 1, Weight: 1}})
		require.NoError(t, <-got, "a node came")
	})
}
