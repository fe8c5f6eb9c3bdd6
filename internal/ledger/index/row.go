package index

import (
	"encoding/binary"
	"math"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

const rowVersion = 1

// Flags of an order's row.
const (
	flagReplaceable = 1 << iota // UUID and nonce follow
	flagNonceDefaulted
	flagSame      // the hash is the id
	flagValidated // from OK, not from a terminal record
)

// Flags of an end's row.
const (
	flagAmbiguous = 1 << iota
	flagRepeat
	flagOf // an acceptance follows
)

// writer appends the fields of a row; times count from the acceptance.
type writer struct {
	b      []byte
	accept order.AcceptID
}

func (w *writer) byte(bs ...byte)        { w.b = append(w.b, bs...) }
func (w *writer) number(n uint64)        { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) signed(n int64)         { w.b = binary.AppendVarint(w.b, n) }
func (w *writer) text(s string)          { w.number(uint64(len(s))); w.b = append(w.b, s...) }
func (w *writer) time(t time.Time)       { w.number(after(w.accept, t)) }
func (w *writer) uuid(u order.UUID)      { w.b = append(w.b, u[:]...) }
func (w *writer) since(a order.AcceptID) { w.b = append(w.b, a[:]...) }

// after is the distance of a time from an acceptance in microseconds, plus one; 0: no time.
func after(a order.AcceptID, t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.UnixMicro()-a.Received().UnixMicro(), 0)) + 1
}

// reader takes the fields off a row; once one is missing, bad is set and the rest are zero.
type reader struct {
	b      []byte
	accept order.AcceptID
	bad    bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) number(most uint64) uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > most {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

// maxText bounds the texts of a row, bytes; what is written is far shorter.
const maxText = 1 << 10

func (r *reader) text() string { return string(r.take(int(r.number(maxText)))) } //nolint:gosec // bounded

// maxAfter bounds the times of a row: a hundred years.
const maxAfter = 100 * 365 * 24 * 3600 * 1_000_000

func (r *reader) time() time.Time {
	n := r.number(maxAfter)
	if n == 0 {
		return time.Time{}
	}
	return r.accept.Received().Add(time.Duration(n-1) * time.Microsecond) //nolint:gosec // bounded
}

func (r *reader) end() error {
	if r.bad || len(r.b) > 0 {
		return ErrEntry
	}
	return nil
}

// facts is what is known of an order beside its ends.
type facts struct {
	id          order.ID
	hash        common.Hash
	signer      common.Address
	replacement order.UUID
	nonce       uint64
	defaulted   bool
	method      order.Method
	kind        order.Kind
	priority    order.Priority
	origin      string
	deadline    time.Time
	trail       order.Trail // without its marks
	validated   bool
	txs         uint64 // of a bundle
	sequence    uint64 // in OK
	storedAt    time.Time
}

func factsOf(o *order.Order) facts {
	f := facts{
		id: o.ID, hash: o.Hash, signer: o.Signer, replacement: o.Replacement, nonce: o.Nonce, defaulted: o.NonceDefaulted,
		method: o.Method, kind: o.Kind, priority: o.Priority, origin: o.Origin, deadline: o.Deadline,
	}
	if o.Trail != nil {
		f.trail = *o.Trail
	}
	return f
}

// factsIn is what a terminal record tells of its order.
func factsIn(e *ledger.Entry) facts {
	return facts{
		id: e.ID, hash: e.Hash, signer: e.Signer, replacement: e.Replacement, nonce: e.Nonce, defaulted: e.NonceDefaulted,
		method: e.Method, kind: e.Kind, priority: e.Priority, origin: e.Origin, sequence: e.Sequence, storedAt: e.StoredAt,
	}
}

func (f *facts) appendTo(b []byte, a order.AcceptID) []byte {
	w := writer{b: b, accept: a}
	var flags byte
	set := func(flag byte, on bool) {
		if on {
			flags |= flag
		}
	}
	set(flagReplaceable, !f.replacement.IsZero())
	set(flagNonceDefaulted, f.defaulted)
	set(flagSame, f.id == order.ID(f.hash))
	set(flagValidated, f.validated)
	w.byte(rowVersion, flags, byte(f.method), byte(f.kind), byte(f.priority))
	w.byte(f.id[:]...)
	if flags&flagSame == 0 {
		w.byte(f.hash[:]...)
	}
	w.byte(f.signer[:]...)
	if flags&flagReplaceable != 0 {
		w.uuid(f.replacement)
		w.number(f.nonce)
	}
	w.time(f.deadline)
	w.number(f.trail.InSequence)
	w.time(f.trail.InStoredAt)
	w.time(f.trail.DecidedAt)
	w.number(uint64(max(f.trail.Attempts, 0)))
	w.number(f.txs)
	w.number(f.sequence)
	w.time(f.storedAt)
	w.text(f.origin)
	return w.b
}

func decodeFacts(b []byte, a order.AcceptID) (facts, error) {
	r := reader{b: b, accept: a}
	var f facts
	if r.byte() != rowVersion {
		return f, ErrEntry
	}
	flags := r.byte()
	f.defaulted, f.validated = flags&flagNonceDefaulted != 0, flags&flagValidated != 0
	f.method, f.kind, f.priority = order.Method(r.byte()), order.Kind(r.byte()), order.Priority(r.byte())
	f.id = order.ID(r.take(len(f.id)))
	f.hash = common.Hash(f.id)
	if flags&flagSame == 0 {
		f.hash = common.Hash(r.take(len(f.hash)))
	}
	f.signer = common.Address(r.take(len(f.signer)))
	if flags&flagReplaceable != 0 {
		f.replacement = order.UUID(r.take(len(f.replacement)))
		f.nonce = r.number(math.MaxUint64)
	}
	f.deadline = r.time()
	f.trail.InSequence = r.number(math.MaxUint64)
	f.trail.InStoredAt = r.time()
	f.trail.DecidedAt = r.time()
	f.trail.Attempts = int(r.number(math.MaxInt32)) //nolint:gosec // bounded
	f.txs = r.number(math.MaxUint64)
	f.sequence = r.number(math.MaxUint64)
	f.storedAt = r.time()
	f.origin = r.text()
	return f, r.end()
}

// End is how an order ended at one target.
type End struct {
	Target  string // ledger.AnyTarget: for all of them, before delivery
	Outcome ledger.Outcome
	Code    order.Code     // for Invalid and Poisoned
	Of      order.AcceptID // for Duplicate and Superseded
	// Ambiguous and Repeat are the record's.
	Ambiguous, Repeat bool
	Attempts          uint16
	Status            uint16
	RPCCode           int32
	SentAt            time.Time // first request written; zero: none was
	DoneAt            time.Time // decided
	RecordedAt        time.Time // stored in the ledger
	Text              string
}

func endOf(target string, e *ledger.Entry, recorded time.Time) End {
	return End{
		Target: target, Outcome: e.Outcome, Code: e.Code, Of: e.Of, Ambiguous: e.Ambiguous, Repeat: e.Repeat,
		Attempts: e.Attempts, Status: e.Status, RPCCode: e.RPCCode, SentAt: e.SentAt, DoneAt: e.DoneAt,
		RecordedAt: recorded, Text: e.Text,
	}
}

func (e *End) appendTo(b []byte, a order.AcceptID) []byte {
	w := writer{b: b, accept: a}
	var flags byte
	if e.Ambiguous {
		flags |= flagAmbiguous
	}
	if e.Repeat {
		flags |= flagRepeat
	}
	if e.Of != (order.AcceptID{}) {
		flags |= flagOf
	}
	w.byte(rowVersion, flags, byte(e.Outcome), byte(e.Code))
	if flags&flagOf != 0 {
		w.since(e.Of)
	}
	w.number(uint64(e.Attempts))
	w.number(uint64(e.Status))
	w.signed(int64(e.RPCCode))
	w.time(e.SentAt)
	w.time(e.DoneAt)
	w.time(e.RecordedAt)
	w.text(e.Text)
	return w.b
}

func decodeEnd(b []byte, a order.AcceptID, target string) (End, error) {
	r := reader{b: b, accept: a}
	e := End{Target: strings.Clone(target)}
	if r.byte() != rowVersion {
		return e, ErrEntry
	}
	flags := r.byte()
	e.Ambiguous, e.Repeat = flags&flagAmbiguous != 0, flags&flagRepeat != 0
	e.Outcome, e.Code = ledger.Outcome(r.byte()), order.Code(r.byte())
	if flags&flagOf != 0 {
		e.Of = order.AcceptID(r.take(len(e.Of)))
	}
	e.Attempts = uint16(r.number(math.MaxUint16)) //nolint:gosec // bounded
	e.Status = uint16(r.number(math.MaxUint16))   //nolint:gosec // bounded
	e.RPCCode = int32(min(max(r.signed(), math.MinInt32), math.MaxInt32))
	e.SentAt, e.DoneAt, e.RecordedAt = r.time(), r.time(), r.time()
	e.Text = r.text()
	return e, r.end()
}

// places is how far the logs were read, and since which sequence each log of validated orders without
// a gap.
type places struct {
	at    [len(order.Logs) + 1]order.Place
	since [order.LogLow + 1]uint64
}

func (p *places) encode() []byte {
	w := writer{b: make([]byte, 0, 128)}
	w.byte(rowVersion)
	for _, l := range order.Logs {
		w.signed(p.at[l].Epoch)
		w.number(p.at[l].Sequence)
		if l <= order.LogLow {
			w.number(p.since[l])
		}
	}
	return w.b
}

func decodePlaces(b []byte) (p places, err error) {
	r := reader{b: b}
	if r.byte() != rowVersion {
		return p, ErrEntry
	}
	for _, l := range order.Logs {
		p.at[l] = order.Place{Epoch: r.signed(), Sequence: r.number(math.MaxUint64)}
		if l <= order.LogLow {
			p.since[l] = r.number(math.MaxUint64)
		}
	}
	return p, r.end()
}
