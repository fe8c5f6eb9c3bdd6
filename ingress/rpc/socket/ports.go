package socket

import (
	"context"
	"net/netip"

	"millrace/internal/jsonrpc"
	"millrace/internal/rpcapi"
)

// Client is who is connected, as the door found when the connection was made.
type Client struct {
	IP    netip.Addr
	Key   string       // of its API key; empty: it has none
	Class rpcapi.Class // of its calls
}

// Calls answers one message, a request or a batch or whatever it is; nil: there is nothing to say. The message is
// the callee's to keep, the reply the socket's.
type Calls interface {
	Answer(ctx context.Context, message []byte, c Client) (reply []byte)
}

// Subscriber makes subscriptions.
type Subscriber interface {
	Subscribe(ctx context.Context, params []byte, deliver rpcapi.Deliver) (rpcapi.Subscription, error)
}

// Gate says whether a client may call a method now: limits and lists of methods hold for eth_subscribe and
// eth_unsubscribe too, which do not go through Calls. Nil is yes.
type Gate interface {
	Admit(c Client, method string) *jsonrpc.Error
}

// Ports joins a Server with the rest of the gateway. Gate may be nil.
type Ports struct {
	Calls      Calls
	Subscriber Subscriber
	Gate       Gate
}
