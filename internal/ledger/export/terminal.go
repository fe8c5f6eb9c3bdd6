package export

import (
	"fmt"
	"time"

	"github.com/parquet-go/parquet-go"

	"millrace/internal/ledger"
)

// terminals makes rows of the ledger: of every terminal record.
type terminals struct{}

func (terminals) rows(m *Message, w *writer) (skip, error) {
	es, err := ledger.Decode(m.Batch)
	if err != nil {
		return skipUndecodable, nil //nolint:nilerr // counted
	}
	for i := range es {
		fillTerminal(w.row(), m, &es[i])
		if err := w.write(); err != nil {
			return skipNone, fmt.Errorf("write record: %w", err)
		}
	}
	return skipNone, nil
}

func fillTerminal(r *row, m *Message, e *ledger.Entry) {
	fixed := func(b []byte) { r.put(parquet.FixedLenByteArrayValue(b)) }
	word := func(s string) { r.put(text(s)) }
	maybeWord := func(s string) { r.maybe(s != "", text(s)) }
	moment := func(t time.Time) { r.maybe(!t.IsZero(), microseconds(t)) }
	fixed(e.Accept[:])
	fixed(e.ID[:])
	fixed(e.Key[:])
	fixed(e.Hash[:])
	fixed(e.Signer[:])
	word(m.Target)
	word(e.Outcome.String())
	word(e.Method.String())
	word(e.Kind.String())
	word(e.Priority.String())
	maybeWord(e.Origin)
	replaceable := !e.Replacement.IsZero()
	r.maybe(replaceable, parquet.FixedLenByteArrayValue(e.Replacement[:]))
	r.maybe(replaceable, unsigned64(e.Nonce))
	r.put(parquet.BooleanValue(e.NonceDefaulted))
	code := ""
	if e.Outcome == ledger.Invalid || e.Outcome == ledger.Poisoned {
		code = e.Code.String()
	}
	maybeWord(code)
	of := e.Outcome == ledger.Duplicate || e.Outcome == ledger.Superseded
	r.maybe(of, parquet.FixedLenByteArrayValue(e.Of[:]))
	r.put(parquet.BooleanValue(e.Ambiguous))
	r.put(parquet.BooleanValue(e.Repeat))
	r.maybe(e.Sequence != 0, unsigned64(e.Sequence))
	r.put(unsigned16(e.Attempts))
	r.maybe(e.Status != 0, unsigned16(e.Status))
	r.maybe(e.RPCCode != 0, parquet.Int32Value(e.RPCCode))
	r.put(microseconds(e.Accept.Received()))
	moment(e.StoredAt)
	moment(e.SentAt)
	moment(e.DoneAt)
	r.put(microseconds(m.StoredAt))
	maybeWord(e.Text)
}
