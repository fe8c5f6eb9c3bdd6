package subjects

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"millrace/internal/order"
)

// Subjects that carry no variable part.
const (
	// Signers carries signer-cache batches: core NATS, never stored, never exported.
	Signers = "signers.v1"
	// Status carries the question what became of an order: core NATS, request and reply, never stored.
	Status = "orders.status"
	// StatusQueue is the group of who can answer it: one of them is asked.
	StatusQueue = "index"
	// MaxPartitions bounds orders.partitions.
	MaxPartitions = 64
	// void is the partition token of messages that are no order: they burn a sequence, or claim an end.
	void = "void"
)

// In is where the door stores an order: orders.in.<priority>.<partition>.
func In(p order.Priority, partition int) string {
	return "orders.in." + p.String() + "." + twoDigits(partition)
}

// OK is where a validated order goes: orders.ok.<local|peer>.<priority>.<partition>. Peers are only
// ever given orders.ok.local.>, so there are no loops by construction.
func OK(origin string, p order.Priority, partition int) string {
	return "orders.ok." + originToken(origin) + "." + p.String() + "." + twoDigits(partition)
}

// Rejected carries the records of orders that ended before OK.
func Rejected(p order.Priority) string { return "orders.rejected." + p.String() }

// Done carries the terminal records of one delivery target.
func Done(target string) string { return "orders.done." + target }

// Verdicts is where one ingress process hears of its orders: core NATS, never stored.
func Verdicts(ingress string) string { return "verdicts." + ingress }

// Void is the subject of what is no order in class p's IN or OK stream: a sequence burnt, or the claim of
// an order's end before OK. Consumers skip what they find there (see IsVoid).
func Void(stream string) (string, error) {
	for _, p := range order.Priorities {
		switch stream {
		case StreamIn(p):
			return "orders.in." + p.String() + "." + void, nil
		case StreamOK(p):
			return "orders.ok.local." + p.String() + "." + void, nil
		}
	}
	return "", fmt.Errorf("stream %s has no void subject", stream)
}

// IsVoid reports whether a message with this subject is no order.
func IsVoid(subject string) bool { return strings.HasSuffix(subject, "."+void) }

// Partition maps an order's ordering key (its replacement key, else its signer) to one of n
// partitions with 32-bit FNV-1a, the function of the server's partition() mapping.
func Partition(o *order.Order, n int) int {
	h := fnv.New32a()
	_, _ = h.Write(o.Signer[:])
	if !o.Replacement.IsZero() {
		_, _ = h.Write(o.Replacement[:])
	}
	return int(h.Sum32() % uint32(max(n, 1))) //nolint:gosec // n is at most MaxPartitions
}

// InMsgID is the Nats-Msg-Id of an order on IN: its id, so a repeat within the window is not stored.
func InMsgID(o *order.Order) string { return o.ID.String() }

// OKMsgID is the Nats-Msg-Id on OK: origin, id and acceptance. A worker's own retry is not stored
// twice; another acceptance of the same order is, because each is owed a terminal record of its
// own; and a peer's copy can't pre-empt the local one.
func OKMsgID(o *order.Order) string {
	return originToken(o.Origin) + ":" + o.Origin + ":" + o.ID.String() + ":" + o.Accept.String()
}

// RejectedMsgID is the Nats-Msg-Id of a record on REJECTED.
func RejectedMsgID(a order.AcceptID) string { return a.String() }

// ValidName reports whether s may be a target, peer or ingress name: a single NATS token of at
// most 32 letters, digits, '-' and '_'.
func ValidName(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
		default:
			return false
		}
	}
	return true
}

func originToken(origin string) string {
	if origin == "" {
		return "local"
	}
	return "peer"
}

func twoDigits(n int) string {
	if n < 10 {
		return "0" + strconv.Itoa(n)
	}
	return strconv.Itoa(n)
}
