package ledger

import (
	"encoding/json"
	"time"

	"millrace/internal/order"
)

// report is an entry as reports show it: names instead of numbers, nothing that does not apply.
type report struct {
	Accept      string     `json:"accept"`
	ID          string     `json:"id"`
	Hash        string     `json:"hash"`
	Signer      string     `json:"signer"`
	Method      string     `json:"method"`
	Kind        string     `json:"kind"`
	Priority    string     `json:"priority"`
	Origin      string     `json:"origin,omitempty"`
	Replacement string     `json:"replacement_uuid,omitempty"`
	Nonce       uint64     `json:"replacement_nonce,omitempty"`
	Outcome     string     `json:"outcome"`
	Code        string     `json:"code,omitempty"`
	Of          string     `json:"of,omitempty"`
	Ambiguous   bool       `json:"ambiguous,omitempty"`
	Repeat      bool       `json:"repeat,omitempty"`
	Sequence    uint64     `json:"sequence,omitempty"`
	Attempts    uint16     `json:"attempts,omitempty"`
	Status      uint16     `json:"http_status,omitempty"`
	RPCCode     int32      `json:"rpc_code,omitempty"`
	ReceivedAt  time.Time  `json:"received_at"`
	StoredAt    *time.Time `json:"stored_at,omitempty"`
	SentAt      *time.Time `json:"sent_at,omitempty"`
	DoneAt      *time.Time `json:"done_at,omitempty"`
	Text        string     `json:"text,omitempty"`
}

// MarshalJSON is the form of an entry in reports: hex ids, names of enums, UTC times with
// microseconds, and only the fields that apply.
func (e Entry) MarshalJSON() ([]byte, error) {
	r := report{
		Accept: e.Accept.String(), ID: e.ID.String(), Hash: e.Hash.Hex(), Signer: e.Signer.Hex(),
		Method: e.Method.String(), Kind: e.Kind.String(), Priority: e.Priority.String(), Origin: e.Origin,
		Outcome: e.Outcome.String(), Ambiguous: e.Ambiguous, Repeat: e.Repeat, Sequence: e.Sequence,
		Attempts: e.Attempts, Status: e.Status, RPCCode: e.RPCCode, ReceivedAt: received(e.Accept),
		StoredAt: happened(e.StoredAt), SentAt: happened(e.SentAt), DoneAt: happened(e.DoneAt), Text: e.Text,
	}
	if !e.Replacement.IsZero() {
		r.Replacement, r.Nonce = e.Replacement.String(), e.Nonce
	}
	if e.Outcome == Invalid || e.Outcome == Poisoned {
		r.Code = e.Code.String()
	}
	if e.Outcome == Duplicate || e.Outcome == Superseded {
		r.Of = e.Of.String()
	}
	return json.Marshal(r)
}

func happened(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// received is the time in an accept id; zero when no door can have written it.
func received(a order.AcceptID) time.Time {
	t := a.Received().UTC()
	if t.Year() > 9999 || t.Year() < 1 {
		return time.Time{}
	}
	return t
}
