package bus

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEachRoleHasItsOwnInboxes(t *testing.T) {
	require.Equal(t, "_INBOX_control", (&Config{}).inbox(useControl))
	require.Equal(t, "_INBOX_worker.work", (&Config{Role: "worker"}).inbox(useWork))
	require.NotEqual(t, (&Config{Role: "ingress"}).inbox(useControl), (&Config{Role: "egress"}).inbox(useControl))
}

func TestDoorsAndDeliveriesOnTheirOwnKeepNoHouse(t *testing.T) {
	for role, keeps := range map[string]bool{"": true, "node": true, "worker": true, "ingress": false, "egress": false} {
		require.Equal(t, keeps, (&Config{Role: role}).keepsHouse(), role)
	}
}
