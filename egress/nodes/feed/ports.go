package feed

import (
	"context"
	"net/http"

	"millrace/internal/rpcapi"
)

// Calls asks the nodes a question.
type Calls interface {
	Call(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error)
}

// State is a node as it stands at the moment.
type State struct {
	Node    *rpcapi.Node
	Healthy bool
	Height  uint64 // its head as others than this package know it; 0: unknown
}

// Nodes are those that there are.
type Nodes interface {
	Nodes() []State
}

// Learner is told about every block that a node says is its head.
type Learner interface {
	Learned(node rpcapi.Tag, number uint64, hash [32]byte)
}

// Clients has the HTTP client to dial a node's WebSocket with: the one that proves what the node's Pin demands.
type Clients interface {
	Client(n *rpcapi.Node) *http.Client
}

// Ports joins a Feed with the rest of the gateway. Learner may be nil. Without Clients no pinned node is dialled.
type Ports struct {
	Calls   Calls
	Nodes   Nodes
	Learner Learner
	Clients Clients
}
