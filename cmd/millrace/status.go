package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"millrace/ingress"
	"millrace/internal/ledger/index"
)

// status is what the door asks for a sender: the index of this process, or, of a door on its own, that of
// another one. nil: there is neither.
func (p *process) status() ingress.Status {
	switch {
	case p.index != nil:
		return orderStatus{known{p.index}.orders}
	case !p.roles.has(roleEgress):
		return orderStatus{asked{p.bus}.orders}
	}
	return nil
}

// ownedOrder is an order with whom it may be told of.
type ownedOrder struct {
	Signer common.Address `json:"signer"`
	Order  sentOrder      `json:"order"`
}

// orderStatus answers a sender, whose signature the door has checked, from what knows of orders.
type orderStatus struct {
	orders func(ctx context.Context, signer common.Address, hash common.Hash) ([]ownedOrder, error)
}

// OrderStatus returns the orders of signer that hash names, as JSON; nil when there are none. Whoever
// knows of them was asked for those of signer alone; that none else is told of is seen to here.
func (s orderStatus) OrderStatus(ctx context.Context, signer common.Address, hash common.Hash) ([]byte, error) {
	all, err := s.orders(ctx, signer, hash)
	if err != nil {
		return nil, fmt.Errorf("order status: %w", err)
	}
	answer := struct {
		Orders []sentOrder `json:"orders"`
	}{}
	for i := range all {
		if all[i].Signer == signer {
			answer.Orders = append(answer.Orders, all[i].Order)
		}
	}
	if len(answer.Orders) == 0 {
		return nil, nil
	}
	return json.Marshal(answer)
}

// errIndexBehind: the order is not among those that the index has read so far, which says nothing.
var errIndexBehind = errors.New("the trace index is behind")

// known looks orders up in the index of this process.
type known struct{ tracer }

func (k known) orders(ctx context.Context, signer common.Address, hash common.Hash) ([]ownedOrder, error) {
	a, err := k.Lookup(ctx, index.HashQuery(hash), statusLimit, func(t *index.Timeline) bool {
		return t.Signer == signer && t.Origin == ""
	})
	if err != nil {
		return nil, err
	}
	if len(a.Orders) == 0 && !a.Current {
		return nil, errIndexBehind
	}
	var owned []ownedOrder
	for i := range a.Orders {
		owned = append(owned, ownedOrder{Signer: a.Orders[i].Signer, Order: newSentOrder(&a.Orders[i])})
	}
	return owned, nil
}

// answer is orders for a door elsewhere.
func (k known) answer(ctx context.Context, signer common.Address, hash common.Hash) ([]byte, error) {
	owned, err := k.orders(ctx, signer, hash)
	if err != nil || len(owned) == 0 {
		return nil, err
	}
	return json.Marshal(owned)
}

// statusAsker asks a process that has an index.
type statusAsker interface {
	AskStatus(ctx context.Context, signer common.Address, hash common.Hash) ([]byte, error)
}

// asked looks orders up in the index of another process.
type asked struct{ statusAsker }

func (a asked) orders(ctx context.Context, signer common.Address, hash common.Hash) ([]ownedOrder, error) {
	answer, err := a.AskStatus(ctx, signer, hash)
	if err != nil || answer == nil {
		return nil, err
	}
	var owned []ownedOrder
	if err := json.Unmarshal(answer, &owned); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return owned, nil
}
