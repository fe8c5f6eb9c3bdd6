package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"millrace/egress"
	"millrace/egress/builder"
	"millrace/ingress"
	"millrace/internal/bus"
	"millrace/internal/ledger/index"
	"millrace/internal/order"
	"millrace/internal/telemetry"
	"millrace/subjects"
	"millrace/workers"
)

// Config is the tree of all keys; each section belongs to the package that it configures.
type Config struct {
	Ingress ingress.Config `embed:"" prefix:"ingress." group:"Order door"`
	Worker  workers.Config `embed:"" prefix:"worker." group:"Validation"`
	Egress  egress.Config  `embed:"" prefix:"egress." group:"Delivery"`
	Builder builder.Config `embed:"" group:"Delivery"`
	Orders  Orders         `embed:"" prefix:"orders." group:"Orders"`

	Engine  Engine  `embed:"" prefix:"engine." group:"Engine API"`
	Gateway Gateway `embed:"" prefix:"gateway." group:"Gateway"`
	Peers   Peers   `embed:"" prefix:"peers." group:"Peers"`

	NATS    bus.Config `embed:"" prefix:"nats." group:"NATS and storage"`
	Streams Streams    `embed:"" prefix:"streams." group:"NATS and storage"`
	Record  Record     `embed:"" prefix:"record." group:"NATS and storage"`

	Trace index.Config `embed:"" prefix:"trace." group:"Tracing"`

	Admin   telemetry.AdminConfig `embed:"" prefix:"admin." group:"Process"`
	Log     telemetry.LogConfig   `embed:"" prefix:"log." group:"Process"`
	Node    Node                  `embed:"" prefix:"node." group:"Process"`
	Runtime Runtime               `embed:"" prefix:"runtime." group:"Process"`
}

// Orders are the rules that several stages share; every process of a pipeline needs the same.
type Orders struct {
	MaxAge     time.Duration `name:"max_age" help:"How long an order may take from the door to a builder; also the duplicate window." default:"36s"`
	MaxTxs     int           `name:"max_txs" help:"Most transactions in one bundle." default:"100"`
	ChainID    uint64        `name:"chain_id" help:"Chain whose rules transactions must keep." default:"1"`
	Partitions int           `name:"partitions" help:"Ordering shards of each class; the same in every process." default:"16"`
	HeadURL    string        `name:"head_url" help:"JSON-RPC URL of an execution node, asked for the newest block every second: what waits for a block that is there already expires. A node of another chain than orders.chain_id is not used. Empty: only the age counts."`
}

// Streams bound what the path may hold.
type Streams struct {
	In StreamLimit `embed:"" prefix:"in."`
	OK StreamLimit `embed:"" prefix:"ok."`
}

// StreamLimit is the bound of the streams between two stages.
type StreamLimit struct {
	MaxBytes int64 `name:"max_bytes" help:"Most bytes that a class's stream between two stages may hold; at the bound new orders are refused." default:"2GiB" type:"bytes"`
}

// Record says what is kept for later.
type Record struct {
	Orders RecordedOrders `embed:"" prefix:"orders."`
	Ledger Retention      `embed:"" prefix:"ledger."`
	Engine Retention      `embed:"" prefix:"engine."`
}

// RecordedOrders is the record of orders.
type RecordedOrders struct {
	Retention   `embed:""`
	Compression string `name:"compression" help:"none or s2. Signed transactions in hexadecimal have few repeats: s2 makes the record about an eighth smaller, and has each 8 MB block read, compressed and written again when it is full." enum:"none,s2" default:"none"`
}

// Retention is how long and how much of something is kept.
type Retention struct {
	MaxAge   time.Duration `name:"max_age" help:"How long this record is kept; the ledger at least 24h." default:"24h"`
	MaxBytes int64         `name:"max_bytes" help:"Most bytes of this record; the oldest go first. 0 for record.orders: record no orders." default:"10GiB" type:"bytes"`
}

// Node names the process.
type Node struct {
	Name string `name:"name" help:"Name of this node in logs." default:"millrace" env:"MILLRACE_NODE_NAME,BUILDERNET_NODE_NAME"`
}

// Runtime tunes the Go runtime. GOGC, GOMEMLIMIT and GOMAXPROCS win when they are set.
type Runtime struct {
	GOGC        int   `name:"gogc" help:"Garbage collection target, percent: orders are short-lived, so the more room, the less work; but room beyond the memory limit is given back and faulted in again, which costs more." default:"100"`
	MemoryLimit int64 `name:"memory_limit" help:"Soft memory limit: near it, garbage is collected more often. 0: none." default:"384MiB" type:"bytes"`
	SpareProcs  int   `name:"spare_procs" help:"How many more goroutines may run than there are CPUs: what runs for milliseconds in one piece then shares a CPU with what is urgent, by the kernel's measure." default:"1"`
}

// complete hands the shared keys to the sections that need them.
func (c *Config) complete() {
	c.Ingress.Orders = ingress.Orders{MaxAge: c.Orders.MaxAge, MaxTxs: c.Orders.MaxTxs}
	c.Worker.Limits = order.Limits{MaxTxs: c.Orders.MaxTxs}
	c.Egress.MaxAge = c.Orders.MaxAge
}

// topology is what the streams are made from.
func (c *Config) topology() subjects.Options {
	o := subjects.Options{
		MaxAge: c.Orders.MaxAge, MaxBody: c.Ingress.MaxBody,
		InMaxBytes: c.Streams.In.MaxBytes, OKMaxBytes: c.Streams.OK.MaxBytes,
		RecordMaxAge: c.Record.Orders.MaxAge, RecordMaxBytes: c.Record.Orders.MaxBytes,
		RecordS2:     c.Record.Orders.Compression == "s2",
		LedgerMaxAge: c.Record.Ledger.MaxAge, LedgerMaxBytes: c.Record.Ledger.MaxBytes,
		Replicas: c.NATS.Replicas, Partitions: c.Orders.Partitions, Replay: c.Ingress.ReplayListen != "",
	}
	if c.Engine.enabled() {
		o.EngineMaxAge, o.EngineMaxBytes = c.Record.Engine.MaxAge, c.Record.Engine.MaxBytes
	}
	o.Gateway = c.Gateway.enabled() || c.Gateway.elsewhere || c.NATS.Role == roleGateway.String()
	if c.Gateway.Queue == queueShared {
		o.GatewayTimeout, o.GatewayMaxBytes = c.Gateway.Pool.Queue.Timeout, sharedQueueBytes
	}
	return o
}

// everyones is the topology of who makes it for others, and need not know whether there is a gateway among them: its
// bucket is small, and without it a gateway is not ready.
func (c *Config) everyones() subjects.Options {
	o := c.topology()
	o.Gateway = true
	return o
}

// dataDir is where this process keeps what is not the store's.
func (c *Config) dataDir() string { return filepath.Dir(filepath.Clean(c.NATS.StoreDir)) }

// tokenFile is the admin token's file.
func (c *Config) tokenFile() string {
	if c.Admin.TokenFile != "" {
		return c.Admin.TokenFile
	}
	return filepath.Join(c.dataDir(), "admin.token")
}

// validate reports every fault that matters to the given roles, joined.
func (c *Config) validate(r role) error {
	errs := []error{c.NATS.Validate(), c.Admin.Validate(), c.Log.Validate(), c.Orders.validate(), c.Streams.validate(), c.Record.validate()}
	if r.has(roleIngress) {
		errs = append(errs, c.Ingress.Validate())
	}
	if r.has(roleIngress) || r.has(roleEgress) { // the door asks whether builders are ready
		errs = append(errs, c.Builder.Validate())
	}
	if r.has(roleWorkers) {
		errs = append(errs, c.Worker.Validate())
	}
	if r.has(roleEgress) {
		errs = append(errs, c.Egress.Validate(), c.Trace.Validate())
	}
	if r.has(roleEngine) {
		errs = append(errs, c.Engine.Validate(), atLeast("record.engine.max_bytes", c.Record.Engine.MaxBytes, 16<<20))
	}
	if r.has(roleGateway) {
		errs = append(errs, c.Gateway.Validate())
	}
	if r&roleNode == roleNode {
		errs = append(errs, c.Peers.Validate())
	}
	if c.Runtime.SpareProcs < 0 {
		errs = append(errs, errors.New("runtime.spare_procs must not be negative"))
	}
	if c.Runtime.GOGC < 10 || c.Runtime.MemoryLimit < 0 {
		errs = append(errs, errors.New("runtime.gogc must be at least 10 and runtime.memory_limit not negative"))
	}
	return errors.Join(errs...)
}

func (o *Orders) validate() error {
	var errs []error
	if o.MaxAge < time.Second || o.MaxAge > time.Hour {
		errs = append(errs, fmt.Errorf("orders.max_age: %s is not between 1s and 1h", o.MaxAge))
	}
	if o.MaxTxs < 1 {
		errs = append(errs, fmt.Errorf("orders.max_txs: %d is not positive", o.MaxTxs))
	}
	if o.ChainID == 0 {
		errs = append(errs, errors.New("orders.chain_id: must not be 0"))
	}
	if o.Partitions < 1 || o.Partitions > subjects.MaxPartitions {
		errs = append(errs, fmt.Errorf("orders.partitions: %d is not between 1 and %d", o.Partitions, subjects.MaxPartitions))
	}
	if o.HeadURL != "" {
		if u, err := url.Parse(o.HeadURL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			errs = append(errs, errors.New("orders.head_url: not an http or https URL"))
		}
	}
	return errors.Join(errs...)
}

func (s *Streams) validate() error {
	return errors.Join(atLeast("streams.in.max_bytes", s.In.MaxBytes, 1<<20), atLeast("streams.ok.max_bytes", s.OK.MaxBytes, 1<<20))
}

func (r *Record) validate() error {
	errs := []error{atLeast("record.ledger.max_bytes", r.Ledger.MaxBytes, 1<<20), atLeast("record.orders.max_bytes", r.Orders.MaxBytes, 0)}
	if r.Ledger.MaxAge < subjects.Backstop {
		errs = append(errs, fmt.Errorf("record.ledger.max_age: %s is less than %s", r.Ledger.MaxAge, subjects.Backstop))
	}
	if r.Engine.MaxAge < 0 {
		errs = append(errs, errors.New("record.engine.max_age: negative"))
	}
	if r.Orders.MaxAge < 0 {
		errs = append(errs, errors.New("record.orders.max_age: negative"))
	}
	return errors.Join(errs...)
}

func atLeast(key string, n, low int64) error {
	if n >= low {
		return nil
	}
	return fmt.Errorf("%s: %d is less than %d", key, n, low)
}

// loopback reports whether addr is on this machine only; an empty address listens nowhere.
func loopback(addr string) bool {
	if addr == "" {
		return true
	}
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
