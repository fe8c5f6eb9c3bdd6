package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/order"
)

// Outcome is how an order ended at a target.
type Outcome uint8

// The outcomes; each is terminal.
const (
	Delivered     Outcome = iota + 1 // the target took it
	Refused                          // the target refused it; never sent again
	Expired                          // its deadline passed first
	Superseded                       // a newer order of its replacement key was delivered
	Duplicate                        // another copy was delivered, refused or in flight
	Invalid                          // a worker refused it after it was accepted
	Poisoned                         // it killed a worker, alone, more than once
	TargetRemoved                    // the target was taken out of the configuration
)

var outcomeNames = [...]string{
	"", "delivered", "refused", "expired", "superseded", "duplicate", "invalid", "poisoned", "target_removed",
}

// String is the outcome as a metric label and in reports.
func (o Outcome) String() string {
	if o == 0 || int(o) >= len(outcomeNames) {
		return fmt.Sprintf("unknown_%d", uint8(o))
	}
	return outcomeNames[o]
}

// Outcomes lists every outcome.
func Outcomes() []Outcome {
	return []Outcome{Delivered, Refused, Expired, Superseded, Duplicate, Invalid, Poisoned, TargetRemoved}
}

// AnyTarget is the target of a record that ends an order for all targets, before OK.
const AnyTarget = "*"

const (
	// EntrySize is the length of one encoded entry, bytes.
	EntrySize = 320

	entryVersion = 1
	// lastMicros is the end of the year 9999, the last that has a textual form.
	lastMicros = 253402300799_999_999
	originSize = 16
	textSize   = EntrySize - 235

	flagNonceDefaulted = 1 << 0
	flagAmbiguous      = 1 << 1
	flagRepeat         = 1 << 2
)

// ErrEntry is returned for a batch that can't be read.
var ErrEntry = errors.New("bad ledger batch")

// Entry is one terminal record. Times are on the bus clock, to the microsecond; zero: did not
// happen.
type Entry struct {
	Accept      order.AcceptID
	ID          order.ID
	Key         order.ID
	Hash        common.Hash
	Signer      common.Address
	Replacement order.UUID
	Nonce       uint64
	Method      order.Method
	Kind        order.Kind
	Priority    order.Priority
	Origin      string // at most 16 bytes are kept

	Outcome Outcome
	Code    order.Code     // for Invalid and Poisoned
	Of      order.AcceptID // for Duplicate and Superseded: by which acceptance
	// NonceDefaulted, Ambiguous (ended without an answer, but a request may have arrived) and Repeat
	// (sent again because its earlier fate was unknown) qualify the outcome.
	NonceDefaulted, Ambiguous, Repeat bool

	Sequence uint64 // in the OK stream of Priority; zero when it ended before
	Attempts uint16 // requests written to the target
	Status   uint16 // last HTTP status
	RPCCode  int32  // JSON-RPC error code of a refusal

	StoredAt time.Time // in OK
	SentAt   time.Time // first request
	DoneAt   time.Time // this record

	Text string // reason; cut to what fits (85 bytes)
}

// Of fills the fields of an entry that describe the order itself.
func Of(o *order.Order) Entry {
	return Entry{
		Accept: o.Accept, ID: o.ID, Key: o.Key, Hash: o.Hash, Signer: o.Signer,
		Replacement: o.Replacement, Nonce: o.Nonce, NonceDefaulted: o.NonceDefaulted,
		Method: o.Method, Kind: o.Kind, Priority: o.Priority, Origin: o.Origin,
	}
}

// AppendTo appends the encoded entry, EntrySize bytes, to b.
func (e *Entry) AppendTo(b []byte) []byte {
	start := len(b)
	b = append(b, entryVersion)
	b = append(b, e.Accept[:]...)
	b = append(b, e.ID[:]...)
	b = append(b, e.Key[:]...)
	b = append(b, e.Hash[:]...)
	b = append(b, e.Signer[:]...)
	b = append(b, e.Replacement[:]...)
	b = binary.BigEndian.AppendUint64(b, e.Nonce)
	var flags byte
	if e.NonceDefaulted {
		flags |= flagNonceDefaulted
	}
	if e.Ambiguous {
		flags |= flagAmbiguous
	}
	if e.Repeat {
		flags |= flagRepeat
	}
	b = append(b, byte(e.Method), byte(e.Kind), byte(e.Priority), byte(e.Outcome), byte(e.Code), flags)
	b = append(b, e.Of[:]...)
	b = binary.BigEndian.AppendUint64(b, e.Sequence)
	b = binary.BigEndian.AppendUint16(b, e.Attempts)
	b = binary.BigEndian.AppendUint16(b, e.Status)
	b = binary.BigEndian.AppendUint32(b, uint32(e.RPCCode)) //nolint:gosec // two's complement round trip
	for _, t := range [...]time.Time{e.StoredAt, e.SentAt, e.DoneAt} {
		b = binary.BigEndian.AppendUint64(b, micros(t))
	}
	b = appendPadded(b, e.Origin, originSize)
	return appendPadded(b, e.Text, EntrySize-(len(b)-start))
}

// Decode reads a batch. Whole entries before a fault are not returned: a batch is one write.
func Decode(batch []byte) ([]Entry, error) {
	if len(batch)%EntrySize != 0 {
		return nil, fmt.Errorf("%w: %d bytes", ErrEntry, len(batch))
	}
	es := make([]Entry, len(batch)/EntrySize)
	for i := range es {
		if err := es[i].decode(batch[i*EntrySize : (i+1)*EntrySize]); err != nil {
			return nil, err
		}
	}
	return es, nil
}

func (e *Entry) decode(b []byte) error {
	if b[0] != entryVersion {
		return fmt.Errorf("%w: version %d", ErrEntry, b[0])
	}
	b = b[1:]
	take := func(dst []byte) { b = b[copy(dst, b):] }
	number := func() uint64 {
		n := binary.BigEndian.Uint64(b)
		b = b[8:]
		return n
	}
	take(e.Accept[:])
	take(e.ID[:])
	take(e.Key[:])
	take(e.Hash[:])
	take(e.Signer[:])
	take(e.Replacement[:])
	e.Nonce = number()
	e.Method, e.Kind, e.Priority = order.Method(b[0]), order.Kind(b[1]), order.Priority(b[2])
	e.Outcome, e.Code = Outcome(b[3]), order.Code(b[4])
	e.NonceDefaulted, e.Ambiguous, e.Repeat = b[5]&flagNonceDefaulted != 0, b[5]&flagAmbiguous != 0, b[5]&flagRepeat != 0
	b = b[6:]
	take(e.Of[:])
	e.Sequence = number()
	e.Attempts, e.Status = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	e.RPCCode = int32(binary.BigEndian.Uint32(b[4:])) //nolint:gosec // two's complement round trip
	b = b[8:]
	for _, to := range [...]*time.Time{&e.StoredAt, &e.SentAt, &e.DoneAt} {
		n := number()
		if n > lastMicros {
			return fmt.Errorf("%w: time", ErrEntry)
		}
		*to = fromMicros(n)
	}
	e.Origin = strings.TrimRight(string(b[:originSize]), "\x00")
	e.Text = strings.TrimRight(string(b[originSize:]), "\x00")
	return nil
}

func micros(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMicro())
}

func fromMicros(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(n)) //nolint:gosec // written by micros
}

func appendPadded(b []byte, s string, size int) []byte {
	if len(s) > size {
		s = strings.ToValidUTF8(s[:size], "")
	}
	b = append(b, s...)
	for range size - len(s) {
		b = append(b, 0)
	}
	return b
}

// Accepts returns the acceptances that a batch is about.
func Accepts(batch []byte) ([]order.AcceptID, error) {
	es, err := Decode(batch)
	if err != nil {
		return nil, err
	}
	ids := make([]order.AcceptID, len(es))
	for i := range es {
		ids[i] = es[i].Accept
	}
	return ids, nil
}
