package ingress

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRule20OnlyTheCredentialSetsTheMark(t *testing.T) {
	b := newBus()
	d := open(t, b, func(c *Config) {
		c.ReplayListen = c.Listen
		*c = c.ForReplays("secret")
	})
	key, body := keyOf(1), bundle(1, "")
	for _, headers := range [][]string{nil, {headerReplay + ": "}, {headerReplay + ": guess"}, {headerReplay + ": secretx"}} {
		got := d.send(body, append(headers, signed(t, key, body))...)
		require.Equal(t, http.StatusForbidden, got.status)
		require.Contains(t, got.body, "Invalid replay credential")
		require.Empty(t, got.header.Get(headerReplay))
	}
	require.Empty(t, b.orders())
	got := d.send(body, headerReplay+": secret", signed(t, key, body))
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	require.Equal(t, replayMarked, got.header.Get(headerReplay))
	require.Len(t, b.orders(), 1)
}

// An order that asks for the mark must not become a live one because the door knows no mark.
func TestRule20ALiveDoorRefusesWhatAsksForTheMark(t *testing.T) {
	b := newBus()
	d := open(t, b)
	key, body := keyOf(1), bundle(1, "")
	got := d.send(body, headerReplay+": secret", signed(t, key, body))
	require.Equal(t, http.StatusForbidden, got.status)
	require.Empty(t, b.orders())
	require.Equal(t, http.StatusOK, d.sent(key, body).status)
	require.Len(t, b.orders(), 1)
}

func TestReplayDoorHasAListenerOfItsOwn(t *testing.T) {
	c := DefaultConfig()
	c.BuilderListen, c.ReplayListen = "127.0.0.1:1", "127.0.0.1:2"
	r := c.ForReplays("secret")
	require.Equal(t, "127.0.0.1:2", r.Listen)
	require.Equal(t, replayVerdictWait, r.VerdictWait, "the verdict is what a replay is for")
	require.Empty(t, r.BuilderListen)
	require.NoError(t, r.Validate())
	c.ReplayListen = "nonsense"
	require.ErrorIs(t, c.Validate(), ErrConfig)
}
