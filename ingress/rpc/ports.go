package rpc

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"millrace/internal/rpcapi"
)

// Caller has a call answered by a node. Errors are rpcapi's; an *rpcapi.NodeError is a node's own answer. The call
// and its bytes are the door's again when Call has returned; the answer's are the door's.
type Caller interface {
	Call(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error)
}

// Limits says whether n more calls of this client are within its limits, and if not, when they would be. The
// method is empty where nobody read it. It does not block.
type Limits interface {
	Allow(ip netip.Addr, key, method string, n int) (retry time.Duration, ok bool)
}

// Cache answers a call, or has fetch do it; the answer's body has the given id. A call without an id is not
// brought here. Do has returned when fetch has, and keeps nothing of what it was given.
type Cache interface {
	Do(ctx context.Context, c *rpcapi.Call, m rpcapi.Method, params, id []byte,
		fetch func(context.Context) (*rpcapi.Answer, error)) (*rpcapi.Answer, rpcapi.Source, error)
}

// NodeSet is the set of nodes as /nodes shows and changes it. Nodes are named by the URI they were added as. The
// texts of its errors reach the client.
type NodeSet interface {
	List() []string
	Add(ctx context.Context, uri string) error
	Remove(ctx context.Context, uri string) error
}

// Ports are the door's collaborators. Only Caller is required.
type Ports struct {
	Caller Caller
	Limits Limits // nil: no limits
	Cache  Cache  // nil: no cache
	Nodes  NodeSet
	// Sockets takes WebSocket handshakes; nil: there are none. Whoever stops the door has it end its connections at
	// the same time; the door waits for them for Config.Drain, then their contexts end with rpcapi.ErrStopping.
	Sockets http.Handler
}
