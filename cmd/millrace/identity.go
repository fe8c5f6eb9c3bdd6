package main

import (
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/ledger"
)

// identity is what every page says of an order: which acceptance of which order it is, and whose.
type identity struct {
	Accept      string         `json:"accept"`
	ID          string         `json:"id"`
	Hash        common.Hash    `json:"hash"`
	Signer      common.Address `json:"signer"`
	Method      string         `json:"method"`
	Kind        string         `json:"kind"`
	Priority    string         `json:"priority"`
	Origin      string         `json:"origin,omitempty"`
	Replacement string         `json:"replacement,omitempty"`
	Nonce       uint64         `json:"nonce,omitempty"` // of a replacement
}

// identityOf takes it from the fields of an entry that describe the order itself.
func identityOf(e *ledger.Entry) identity {
	i := identity{
		Accept: e.Accept.String(), ID: e.ID.String(), Hash: e.Hash, Signer: e.Signer,
		Method: e.Method.String(), Kind: e.Kind.String(), Priority: e.Priority.String(), Origin: e.Origin,
	}
	if !e.Replacement.IsZero() {
		i.Replacement, i.Nonce = e.Replacement.String(), e.Nonce
	}
	return i
}

// utc is t as the pages show it; a time that is not known stays zero, and is left out.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}
