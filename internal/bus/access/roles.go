package access

import (
	"slices"

	"millrace/internal/order"
	"millrace/subjects"
)

// Role is one user of the bus.
type Role struct {
	Name    string // the user's, and that of its files
	Purpose string // one line for who reads the server's configuration
	// Publish and Subscribe are what the user may; both nil: everything in the account. Deny is what
	// it may not publish in spite of Publish.
	Publish, Deny, Subscribe []string
}

// Names of the roles that are not a command of this program.
const (
	Admin   = "admin"   // may do everything with the streams: `millrace streams apply`, the nats CLI
	Metrics = "metrics" // sees the state of streams and consumers, and no message
	Reader  = "reader"  // reads RECORD, ENGINE and the ledgers, and changes nothing
	System  = "system"  // the servers themselves: the system account
)

// housekeeper is the lease of whoever purges what is done.
const housekeeper = "$KV." + subjects.BucketLeases + ".housekeeper"

// A door's questions what became of an order go to one of a group, so nobody listens in, and the answers to the
// one connection of the door that asks.
const (
	statusQuestions = subjects.Status + " " + subjects.StatusQueue
	statusAnswers   = "_INBOX_ingress.status.>"
)

// Roles returns every user of the account that holds the streams, in the order of the files. What a
// role subscribes to beside its own inboxes is named here; what it may read of a stream
// is what it asks the server for, and so is among its publishes.
func Roles() []Role {
	return []Role{
		ingress(), worker(), egress(), engine(), gateway(), node(), reader(), metrics(),
		{Name: Admin, Purpose: "streams apply, nats CLI, backups: everything in this account"},
	}
}

// Find returns the role of this name.
func Find(name string) (Role, bool) {
	all := append(Roles(), system())
	i := slices.IndexFunc(all, func(r Role) bool { return r.Name == name })
	if i < 0 {
		return Role{}, false
	}
	return all[i], true
}

func system() Role { return Role{Name: System, Purpose: "the servers: nats server report, step-downs"} }

// ingress stores orders, hears verdicts, looks refusals up and asks what became of an order. It can't read one
// back, nor take one away.
func ingress() Role {
	r := Role{
		Name: "ingress", Purpose: "the order door: stores orders, hears verdicts, sees refusals",
		Publish:   append(process(), subjects.Status),
		Subscribe: append(inbox("ingress"), subjects.Verdicts("*")),
	}
	for _, p := range order.Priorities {
		r.Publish = append(r.Publish, ordersOf(subjects.In(p, 0)), ordersOf(subjects.ReplayIn(p, 0)))
	}
	r.Publish = append(r.Publish, readBucket(subjects.BucketRefusals)...)
	return r
}

// worker takes orders from IN and stores what is valid on OK; it may read whether an order has an end
// already, in OK and the ledgers. It is the one that keeps house, too: it may purge the streams of the
// path, which is as much as its acknowledgements mean anyway.
func worker() Role {
	r := Role{
		Name: "worker", Purpose: "validation: takes IN, stores OK, records refusals, keeps house",
		Publish:   append(process(), subjects.Verdicts("*"), subjects.Signers),
		Subscribe: append(inbox("worker"), subjects.Signers),
	}
	for _, p := range order.Priorities {
		in := subjects.StreamIn(p)
		r.Publish = append(r.Publish, ordersOf(subjects.OK("", p, 0)), subjects.Rejected(p), subjects.ReplayDone(p))
		r.Publish = append(r.Publish, consume(in, subjects.WorkerDurable)...)
		r.Publish = append(r.Publish, "$JS.API.DIRECT.GET."+in) // how old the backlog is
		for _, s := range []string{in, subjects.StreamOK(p)} {
			r.Publish = append(r.Publish, "$JS.API.CONSUMER.LIST."+s, "$JS.API.STREAM.PURGE."+s)
		}
	}
	r.Publish = append(r.Publish, consume(subjects.StreamReplay, subjects.ReplayDurable)...)
	r.Publish = append(r.Publish, "$JS.API.DIRECT.GET."+subjects.StreamRecord+".>", housekeeper)
	for _, b := range []string{subjects.BucketRefusals, subjects.BucketSuspects} {
		r.Publish = append(r.Publish, readBucket(b)...)
		r.Publish = append(r.Publish, "$KV."+b+".*")
	}
	r.Publish = append(r.Publish, readBucket(subjects.BucketLeases)...)
	// Whether an order that comes back has an end.
	for _, p := range order.Priorities {
		r.Publish = append(r.Publish, "$JS.API.DIRECT.GET."+subjects.StreamOK(p))
	}
	r.Publish = append(r.Publish, "$JS.API.DIRECT.GET."+subjects.StreamDone, "$JS.API.DIRECT.GET."+subjects.StreamRejected)
	return r
}

// egress takes orders from OK for its targets, under leases, and writes their ledger. It has no word
// in IN, and can't purge. It answers doors what became of orders.
func egress() Role {
	r := Role{
		Name: "egress", Purpose: "delivery: takes OK for its targets, writes DONE",
		Publish:   append(process(), subjects.Done("*"), "$KV."+subjects.BucketLeases+".*", statusAnswers),
		Deny:      []string{housekeeper},
		Subscribe: append(inbox("egress"), statusQuestions),
	}
	for _, p := range order.Priorities {
		ok := subjects.StreamOK(p)
		r.Publish = append(r.Publish, consume(ok, "*")...)
		r.Publish = append(r.Publish, "$JS.API.CONSUMER.LIST."+ok, "$JS.API.CONSUMER.DELETE."+ok+".*",
			"$JS.API.CONSUMER.RESET."+ok+".*", "$JS.API.DIRECT.GET."+ok)
	}
	for _, s := range []string{subjects.StreamDone, subjects.StreamRejected, subjects.StreamReplayDone} {
		r.Publish = append(r.Publish, scan(s)...)
	}
	r.Publish = append(r.Publish, readBucket(subjects.BucketLeases)...)
	return r
}

// engine records the Engine API, replays it to execution clients under leases of its own, and compares. It
// has no word in the orders.
func engine() Role {
	r := Role{
		Name: "engine", Purpose: "the Engine API: records calls, replays and compares them",
		Publish: append(process(), "engine.calls.*", "engine.outcomes.*", subjects.Divergence("*"),
			"$KV."+subjects.BucketEngine+".>", "$KV."+subjects.BucketLeases+".engine.>"),
		Subscribe: inbox("engine"),
	}
	r.Publish = append(r.Publish, scan(subjects.StreamEngine)...)
	r.Publish = append(r.Publish, consume(subjects.StreamEngine, "*")...)
	r.Publish = append(r.Publish, "$JS.API.CONSUMER.RESET."+subjects.StreamEngine+".*")
	r.Publish = append(r.Publish, scan(subjects.StreamDivergence)...)
	for _, b := range []string{subjects.BucketEngine, subjects.BucketLeases} {
		r.Publish = append(r.Publish, readBucket(b)...)
	}
	return r
}

// gateway keeps its nodes, tells its peers of limits, and queues calls, or serves them. It has no word in the orders.
// Its queues are in memory and gone with a server, so it may make them.
func gateway() Role {
	r := Role{
		Name: "gateway", Purpose: "JSON-RPC to execution nodes: its node set, limits and queues of calls",
		Publish: append(process(), subjects.GatewayLimits, subjects.GatewayCancel, subjects.GatewayNews,
			"_INBOX_gateway.gateway.>", "_INBOX_node.gateway.>", // answers to calls of the like
			"$KV."+subjects.BucketGatewayNodes+".*"),
		Subscribe: append(inbox("gateway"), gatewayHears()...),
	}
	for _, class := range subjects.GatewayClasses() {
		s := subjects.StreamGateway(class)
		r.Publish = append(r.Publish, subjects.GatewayCalls(class), "$JS.API.STREAM.CREATE."+s)
		r.Publish = append(r.Publish, consume(s, subjects.GatewayDurable)...)
	}
	r.Publish = append(r.Publish, readBucket(subjects.BucketGatewayNodes)...)
	return r
}

func gatewayHears() []string {
	return []string{subjects.GatewayLimits, subjects.GatewayCancel, subjects.GatewayNews}
}

// node is a process with all of these roles.
func node() Role {
	r := Role{Name: "node", Purpose: "all roles in one process", Subscribe: append(inbox("node"), subjects.Verdicts("*"), subjects.Signers, statusQuestions)}
	r.Subscribe = append(r.Subscribe, gatewayHears()...)
	for _, part := range []Role{ingress(), worker(), egress(), engine(), gateway()} {
		r.Publish = append(r.Publish, part.Publish...)
	}
	slices.Sort(r.Publish)
	r.Publish = slices.Compact(r.Publish)
	return r
}

// reader reads what is recorded. Consumers need inboxes; those of the nats CLI begin with _INBOX.
func reader() Role {
	r := Role{Name: Reader, Purpose: "reads RECORD, ENGINE and the ledgers", Publish: observe(), Subscribe: []string{"_INBOX.>", "_INBOX_control.>", "_INBOX_scan.>", "_INBOX_replayer.>"}}
	for _, s := range []string{
		subjects.StreamRecord, subjects.StreamDone, subjects.StreamRejected, subjects.StreamReplayDone,
		subjects.StreamEngine, subjects.StreamDivergence,
	} {
		r.Publish = append(r.Publish, scan(s)...)
	}
	r.Publish = append(r.Publish, "$JS.API.DIRECT.GET.KV_"+subjects.BucketState+".>") // is there a tap
	return r
}

// metrics is for exporters and `millrace streams plan`.
func metrics() Role {
	return Role{
		Name: Metrics, Purpose: "exporters, streams plan: states, no messages",
		Publish:   append(observe(), readBucket(subjects.BucketState)...),
		Subscribe: []string{"_INBOX.>", "_INBOX_control.>"},
	}
}

func inbox(role string) []string { return []string{"_INBOX_" + role + ".>"} }

// process is what every process of the pipeline asks: is the topology there, how late is it, how
// far are the workers, is the door open. How far says nothing about an order.
func process() []string {
	ps := []string{"$JS.API.INFO", "$JS.API.STREAM.INFO.*"}
	for _, p := range order.Priorities {
		ps = append(ps, "$JS.API.CONSUMER.INFO."+subjects.StreamIn(p)+"."+subjects.WorkerDurable)
	}
	return append(ps, readBucket(subjects.BucketState)...)
}

// observe is what shows states of streams and consumers.
func observe() []string {
	return []string{
		"$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES",
		"$JS.API.CONSUMER.INFO.*.*", "$JS.API.CONSUMER.LIST.*", "$JS.API.CONSUMER.NAMES.*",
	}
}

// readBucket is getting and watching the keys of a bucket.
func readBucket(name string) []string {
	s := "KV_" + name
	return []string{
		"$JS.API.DIRECT.GET." + s + ".>", "$JS.API.CONSUMER.CREATE." + s + ".>", "$JS.API.CONSUMER.DELETE." + s + ".*",
		"$JS.API.CONSUMER.INFO." + s + ".*", "$JS.FC." + s + ".>", "$JS.FC.*.*." + s + ".>",
	}
}

// consume is a durable consumer: making it again when it is gone, pulling, acknowledging. The second
// form of an acknowledgement names domain and account, too.
func consume(stream, durable string) []string {
	c := stream + "." + durable
	return []string{
		"$JS.API.CONSUMER.CREATE." + c, "$JS.API.CONSUMER.INFO." + c, "$JS.API.CONSUMER.MSG.NEXT." + c,
		"$JS.ACK." + c + ".>", "$JS.ACK.*.*." + c + ".>",
	}
}

// scan is reading a stream in order with consumers of one's own, and single messages.
func scan(stream string) []string {
	return []string{
		"$JS.API.CONSUMER.CREATE." + stream + ".>", "$JS.API.CONSUMER.INFO." + stream + ".*",
		"$JS.API.CONSUMER.MSG.NEXT." + stream + ".*", "$JS.API.CONSUMER.DELETE." + stream + ".*",
		"$JS.API.DIRECT.GET." + stream, "$JS.API.DIRECT.GET." + stream + ".>",
	}
}

// ordersOf is a subject of an order with any partition for the one it has.
func ordersOf(subject string) string { return subject[:len(subject)-2] + "*" }
