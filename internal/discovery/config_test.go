package discovery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestValidateReportsEveryFault(t *testing.T) {
	c := DefaultConfig()
	require.NoError(t, c.Validate())
	require.False(t, c.Enabled())
	c = Config{
		Hub: HubConfig{URL: "ftp://me:geheim@hub", Every: time.Millisecond, CA: "/nonexistent/ca.pem"},
		SRV: "a b",
		Static: []Entry{
			{Name: "a", Address: "nowhere"},
			{Name: "b", Address: "h:1"},
			{Name: "b", Address: "h:2"},
			{Name: "c", Address: "h:1", Certificate: "/nonexistent/c.pem"},
		},
	}
	require.True(t, c.Enabled())
	err := c.Validate()
	for _, key := range []string{
		"peers.hub.url", "peers.hub.every", "peers.hub.ca", "peers.hub.transport", "peers.srv", `peers.static: "a"`, `peers.static: "b"`, `peers.static: "c"`,
	} {
		require.ErrorContains(t, err, key)
	}
	require.NotContains(t, err.Error(), "geheim")
}
