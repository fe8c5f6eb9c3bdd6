package subjects

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
)

// Names of what marked replays have for themselves.
const (
	StreamReplay     = "REPLAY"      // marked orders that wait for validation
	StreamReplayDone = "REPLAY_DONE" // how they ended
	// ReplayDurable is the consumer that validates them.
	ReplayDurable = "replayers"
	// ReplayAckWait is how long a marked order of a worker that died waits for another one.
	ReplayAckWait = 30 * time.Second
)

// replayShare is the part of the ledger's bytes that each of the two streams gets.
const replayShare = 16

// ReplayIn is where a replay door stores a marked order: orders.in.replay.<priority>.<partition>. No
// live consumer, no peer and no record is given orders.*.replay.> (CORRECTNESS 20).
func ReplayIn(p order.Priority, partition int) string {
	return "orders.in.replay." + p.String() + "." + twoDigits(partition)
}

// ReplayDone carries the terminal records of marked orders.
func ReplayDone(p order.Priority) string { return "orders.done.replay." + p.String() }

// ReplayMsgID is the Nats-Msg-Id of a marked order: the same order sent live has another one.
func ReplayMsgID(o *order.Order) string { return "replay:" + o.ID.String() }

// ReplayDoneMsgID is the Nats-Msg-Id of a marked order's record.
func ReplayDoneMsgID(a order.AcceptID) string { return "replay:" + a.String() }

// ReplayRefusal is the key of a marked order's refusal: a live copy of the order is not refused by it.
func ReplayRefusal(id order.ID) string { return "replay-" + id.String() }

// replays are the streams of marked replays, taken out of the ledger's bytes.
func replays(o Options) []jetstream.StreamConfig {
	share := o.LedgerMaxBytes / replayShare
	in := path(o, StreamReplay, "orders.in.replay.*.*", share)
	in.Retention = jetstream.WorkQueuePolicy // nobody else reads it: what is acknowledged is gone
	done := ledger(o, StreamReplayDone, "orders.done.replay.*", share)
	done.Duplicates = o.MaxAge + AckWaitMargin
	return []jetstream.StreamConfig{in, done}
}

// ReplayConsumer is the consumer on StreamReplay.
func ReplayConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       ReplayDurable,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ReplayAckWait,
		MaxDeliver:    -1,
		MaxAckPending: -1,
		Metadata:      map[string]string{MetaSchema: SchemaVersion},
	}
}
