package peerlink

import (
	"strings"

	"millrace/internal/order"
	"millrace/subjects"
)

// lane is one connection between two operators, in one direction.
type lane uint8

const (
	laneHigh lane = iota + 1 // orders of high priority
	laneBulk                 // those of medium and low
)

var lanes = [...]lane{laneHigh, laneBulk} //nolint:gochecknoglobals // a constant

// String is the lane's name: in accounts, on metrics, and what a leafnode names as its user.
func (l lane) String() string {
	if l == laneHigh {
		return "high"
	}
	return "bulk"
}

func (l lane) classes() []order.Priority {
	if l == laneHigh {
		return []order.Priority{order.PriorityHigh}
	}
	return []order.Priority{order.PriorityMedium, order.PriorityLow}
}

// laneOf is the lane on which a class travels.
func laneOf(p order.Priority) lane {
	if p == order.PriorityHigh {
		return laneHigh
	}
	return laneBulk
}

// serving is the account of a peer that fetches from us.
func serving(peer string, l lane) string { return "X_" + peer + "_" + l.String() }

// fetching is the account in which we fetch from a peer.
func fetching(peer string, l lane) string { return "P_" + peer + "_" + l.String() }

// stream is where class p's orders of a peer are stored.
func stream(peer string, p order.Priority) string {
	return "PEER_" + peer + "_" + strings.ToUpper(p.String())
}

// flow is what one operator's orders of one class to another need.
type flow struct {
	origin, peer string // who sends, who fetches
	class        order.Priority
}

// durable is the consumer's name on the origin's OK stream. It names the origin, too: flow control is
// answered on a subject with nothing but the consumer's and the stream's names, and whoever fetches from two
// operators must not answer both.
func (f flow) durable() string {
	return originPrefix(f.origin) + f.peer + "_" + f.class.String()
}

// originPrefix begins the names of all consumers that an origin keeps for peers.
func originPrefix(origin string) string { return "PEER_" + origin + "_" }

// deliver is the subject on which the consumer delivers.
func (f flow) deliver() string { return "dlv." + f.origin + "." + f.peer + "." + f.class.String() }

// control is the subject of the consumer's flow control.
func (f flow) control() string {
	return "$JS.FC." + subjects.StreamOK(f.class) + "." + f.durable() + ".*"
}

// reset is the request that starts a consumer over, at the origin.
func (f flow) reset() string {
	return "$JS.API.CONSUMER.RESET." + subjects.StreamOK(f.class) + "." + f.durable()
}

// remoteReset is the same request at whoever fetches, where it must not be taken for one to the own server.
func (f flow) remoteReset() string {
	return apiPrefix(f.origin) + ".CONSUMER.RESET." + subjects.StreamOK(f.class) + "." + f.durable()
}

// apiPrefix is what an origin's JetStream is called by those who fetch from it.
func apiPrefix(origin string) string { return origin + ".api" }

// exported is what the consumer of this flow is filtered by: the origin's own orders.
func (f flow) exported() string { return "orders.ok.local." + f.class.String() + ".>" }
