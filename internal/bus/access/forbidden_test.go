package access_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/access"
)

// TestWhatIsNotARolesWorkIsRefused asks, as each role, for what would let it read, forge, lose or
// destroy what is not its own.
func TestWhatIsNotARolesWorkIsRefused(t *testing.T) {
	s := applied(t)
	everybody := []string{
		"$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.UPDATE.IN_HIGH", "$JS.API.STREAM.DELETE.IN_HIGH",
		"$JS.API.STREAM.MSG.DELETE.IN_HIGH", "$JS.API.STREAM.SNAPSHOT.RECORD", "$JS.API.STREAM.RESTORE.RECORD",
		"$JS.API.STREAM.PURGE.DONE", "$JS.API.STREAM.PURGE.RECORD", "$JS.API.STREAM.PURGE.KV_STATE",
		"$JS.API.STREAM.MSG.GET.IN_HIGH", "$JS.API.CONSUMER.CREATE.IN_HIGH.mine", "$JS.API.CONSUMER.DELETE.IN_HIGH.workers",
		"$JS.API.META.LEADER.STEPDOWN", "$JS.API.ACCOUNT.PURGE.ORDERS", "$SYS.REQ.SERVER.PING", "$KV.STATE.door", "orders.ok.peer.high.00",
	}
	per := map[string][]string{
		"ingress": {
			"orders.ok.local.high.00", "orders.rejected.high", "orders.done.one", "verdicts.door-1", "signers.v1",
			"$JS.API.CONSUMER.MSG.NEXT.IN_HIGH.workers", "$JS.API.DIRECT.GET.IN_HIGH", "$JS.API.DIRECT.GET.OK_HIGH",
			"$JS.ACK.IN_HIGH.workers.1.1.1.1.0", "$KV.REFUSALS.x", "$KV.LEASES.target-one", "$KV.LEASES.housekeeper",
			"$JS.API.STREAM.PURGE.IN_HIGH", "_INBOX_ingress.status.x", "_INBOX_egress.status.x",
		},
		"worker": {
			"orders.status", "_INBOX_ingress.status.x", "orders.in.high.00", "orders.done.one", "$JS.API.CONSUMER.MSG.NEXT.OK_HIGH.target-one",
			"$JS.ACK.OK_HIGH.target-one.1.1.1.1.0", "$JS.API.DIRECT.GET.RECORD", "$KV.LEASES.target-one",
		},
		"egress": {
			"orders.status", "_INBOX_ingress.control.x", "_INBOX_worker.status.x", "orders.in.high.00", "orders.ok.local.high.00", "orders.rejected.high", "verdicts.door-1",
			"$JS.API.CONSUMER.MSG.NEXT.IN_HIGH.workers", "$JS.ACK.IN_HIGH.workers.1.1.1.1.0", "$JS.API.DIRECT.GET.IN_HIGH",
			"$KV.REFUSALS.x", "$KV.SUSPECTS.x", "$KV.LEASES.housekeeper", "$JS.API.STREAM.PURGE.OK_HIGH",
		},
		access.Reader: {
			"orders.status", "_INBOX_ingress.status.x", "orders.in.high.00", "orders.done.one", "$JS.API.CONSUMER.CREATE.OK_HIGH.mine", "$KV.LEASES.target-one",
			"$JS.API.STREAM.PURGE.IN_HIGH", "$JS.ACK.IN_HIGH.workers.1.1.1.1.0",
		},
		access.Metrics: {
			"orders.status", "_INBOX_ingress.status.x", "orders.in.high.00", "$JS.API.DIRECT.GET.RECORD", "$JS.API.CONSUMER.CREATE.RECORD.mine",
			"$JS.API.CONSUMER.CREATE.IN_HIGH.mine", "$JS.API.STREAM.PURGE.IN_HIGH",
		},
	}
	for user, subjects := range per {
		t.Run(user, func(t *testing.T) {
			nc, refused := connect(t, s, user)
			for _, subject := range append(subjects, everybody...) {
				require.NoError(t, nc.Publish(subject, []byte("{}")))
				require.NoError(t, nc.Flush())
				err := await(t, refused)
				require.ErrorIs(t, err, nats.ErrPermissionViolation, subject)
				require.ErrorContains(t, err, subject)
			}
		})
	}
}

// TestNobodyHearsTheAnswersOfOthers subscribes, as each role, to what carries other roles' orders
// and answers.
func TestNobodyHearsTheAnswersOfOthers(t *testing.T) {
	s := applied(t)
	for user, subjects := range map[string][]string{
		"ingress":      {"orders.status", "_INBOX_worker.>", "_INBOX_egress.>", "orders.>", "signers.v1", ">", "$KV.>"},
		"worker":       {"orders.status", "_INBOX_ingress.status.>", "_INBOX_ingress.>", "_INBOX_egress.>", "orders.>", "verdicts.*", ">"},
		"egress":       {"orders.status", "_INBOX_ingress.status.>", "_INBOX_worker.>", "_INBOX.>", "orders.>", "verdicts.*", "signers.v1", ">"},
		access.Metrics: {"orders.status", "_INBOX_worker.>", "_INBOX_egress.>", "_INBOX_scan.>", "orders.>", ">", "$JS.>"},
		access.Reader:  {"orders.status", "_INBOX_worker.>", "orders.>", ">"},
	} {
		t.Run(user, func(t *testing.T) {
			nc, refused := connect(t, s, user)
			for _, subject := range subjects {
				_, err := nc.SubscribeSync(subject)
				require.NoError(t, err)
				require.NoError(t, nc.Flush())
				require.ErrorIs(t, await(t, refused), nats.ErrPermissionViolation, subject)
			}
		})
	}
}

func TestTheServerKnowsNobodyElse(t *testing.T) {
	s := applied(t)
	_, err := nats.Connect(s.URL())
	require.ErrorIs(t, err, nats.ErrAuthorization)
	other := newSite(t, 1) // keys of another bus
	other.Port = s.Port
	auth, err := nats.NkeyOptionFromSeed(seed(other, access.Admin))
	require.NoError(t, err)
	_, err = nats.Connect(s.URL(), auth)
	require.ErrorIs(t, err, nats.ErrAuthorization)
}

func TestMetricsSeesStatesAndTheAdminEverything(t *testing.T) {
	s := applied(t)
	b, reg := dial(t, s, "", access.Metrics)
	changes, err := b.Plan(t.Context())
	require.NoError(t, err)
	require.Empty(t, changes)
	require.Zero(t, faults(t, reg))
	require.NoError(t, attempt(t, s, access.Admin, "$JS.API.STREAM.PURGE.DONE", ""))
	nc, _ := connect(t, s, access.System)
	_, err = nc.Request("$SYS.REQ.SERVER.PING", nil, soon)
	require.NoError(t, err)
}
