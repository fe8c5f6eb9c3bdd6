package rpcapi

import "errors"

// Notification is one result of a subscription on its way to one client.
type Notification struct {
	// Result is raw JSON, shared with other clients: nobody changes it.
	Result []byte
	// Err ends the subscription instead: nothing follows, and what came before may have a gap after it. JSON-RPC
	// has no message for that, so the connection is to be closed, for the client to subscribe again.
	Err error
}

// Deliver takes a notification and reports whether the client has room for it. It never blocks, and it does not
// call the subscription that it belongs to. After it said false, or got an Err, it is not called again.
type Deliver func(n Notification) bool

// Subscription is one client's. It ends with Close; after Close has returned nothing is delivered.
type Subscription interface{ Close() }

// Why there is no subscription, or why one ended.
var (
	// ErrSubscriptionKind: nobody knows the name; the text goes on with it, as geth's does.
	ErrSubscriptionKind = errors.New("no such subscription in eth namespace")
	// ErrSubscriptionParams: the parameters can't be read; the text goes on with what is wrong.
	ErrSubscriptionParams = errors.New("invalid subscription parameters")
	// ErrSubscriptionUnsupported: no node has a WebSocket, and this one needs it.
	ErrSubscriptionUnsupported = errors.New("notifications not supported")
	// ErrSubscriptionLimit: there are as many as may be.
	ErrSubscriptionLimit = errors.New("too many subscriptions")
	// ErrSubscriptionGap: what belongs between two notifications is not to be had any more.
	ErrSubscriptionGap = errors.New("subscription can't be continued without a gap")
)
