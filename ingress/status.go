package ingress

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"

	"millrace/internal/jsonrpc"
)

// methodStatus is how a sender asks what became of its orders: params are one hash or order id, the
// result is what Status says, or null.
const methodStatus = "millrace_orderStatus"

const (
	// statusPlaces look-ups run at a time, so they take at most a part of one processor; more are refused, as
	// they are never urgent.
	statusPlaces = 1
	// statusCost is what a look-up takes of its address's budget, beyond the request: it is a search on
	// disk.
	statusCost = 10
)

// Status tells what became of the orders that a hash or order id names, of those that signer sent, as
// JSON; nil: there is none, or none of that signer, which nobody can tell apart.
type Status interface {
	OrderStatus(ctx context.Context, signer common.Address, hash common.Hash) ([]byte, error)
}

var errStatusParams = errors.New("expected one hash or order id of 32 bytes in hex")

// asksStatus reads a call of methodStatus; ok is false for any other call, and when nobody here could
// answer it.
func (s *Server) asksStatus(q *request, c *call, in *jsonrpc.Call) (ok bool, err error) {
	if s.ports.Status == nil || in.Request.Method != methodStatus {
		return false, nil
	}
	if !q.source.request(q.received, statusCost, q.policy.source) {
		return true, deny(deniedIPRate, "too many requests from this address")
	}
	var params []string
	if err := json.Unmarshal(in.Request.Params, &params); err != nil || len(params) != 1 {
		return true, deny(deniedParams, errStatusParams.Error())
	}
	h, err := hex.DecodeString(strings.TrimPrefix(params[0], "0x"))
	if err != nil || len(h) != common.HashLength {
		return true, deny(deniedParams, errStatusParams.Error())
	}
	c.asked = new(common.Hash(h))
	return true, nil
}

// statuses answers what asksStatus took, all of it within the time of one publish.
func (s *Server) statuses(ctx context.Context, q *request) {
	var asked []*call
	for i := range q.calls {
		if c := &q.calls[i]; c.err == nil && c.asked != nil {
			asked = append(asked, c)
		}
	}
	if len(asked) == 0 {
		return // as nearly always: no timer is set for it
	}
	ctx, cancel := context.WithTimeout(ctx, q.policy.PublishTimeout)
	defer cancel()
	for _, c := range asked {
		s.status(ctx, q, c)
	}
}

// status answers c, which asksStatus took.
func (s *Server) status(ctx context.Context, q *request, c *call) {
	select {
	case s.lookups <- struct{}{}:
		defer func() { <-s.lookups }()
	default:
		c.err = deny(deniedGate, "too many look-ups at a time")
		return
	}
	result, err := s.ports.Status.OrderStatus(ctx, q.signer, *c.asked)
	if err != nil {
		c.err = deny(deniedStatus, "what became of orders can't be looked up now: ask again")
		return
	}
	if c.result = result; result == nil {
		c.result = []byte("null")
	}
}
