package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/klauspost/compress/s2"

	"millrace/internal/engineapi"
)

const (
	version     = 1
	kindRequest = 'q'
	kindOutcome = 'o'

	flagS2 = 1 << 0

	// compressFrom is the size of a request from which compressing is tried, bytes.
	compressFrom = 1 << 10
	// MaxRaw bounds a request's bytes in a record: what a client takes is bounded by 128 MiB.
	MaxRaw = 128 << 20
)

// tag names a field. A tag keeps its meaning for ever; readers pass over those they don't know.
type tag uint64

// Tags of both kinds.
const (
	tagEpoch tag = iota + 1
	tagSequence
	tagMethod
)

// Tags of a request.
const (
	tagReceived tag = iota + 16 // nanoseconds since 1970
	tagBatch
	tagForkchoice // head, safe, finalized, attributes, arity
	tagPayload    // hash, parent, number, timestamp
	tagVerified
	tagOmitted
)

// Tags of an outcome.
const (
	tagHTTPStatus tag = iota + 32
	tagStatus
	tagCode
	tagMessage
	tagValidation
	tagLatestValid
	tagPayloadID
	tagInclusion // 1 no, 2 yes
	tagMalformed
	tagDuration // nanoseconds
	tagSize
	tagSHA256
	tagEligible
	tagUnknown
	tagBuilt // hash, value as 32 bytes, number, gas, transactions, payload id
)

// Encode is the record's frame.
func (r *Request) Encode() []byte {
	w := frame(kindRequest, len(r.Raw))
	w.head(r.ID, r.Method)
	w.number(tagReceived, nanos(r.Received))
	w.number(tagBatch, r.Batch)
	if f := r.Forkchoice; f != nil {
		w.forkchoice(f)
	}
	if p := r.Payload; p != nil {
		w.payload(p)
	}
	w.flag(tagVerified, r.Verified)
	w.number(tagOmitted, uint64(max(r.OmittedSize, 0)))
	return w.finish(r.Raw)
}

// Encode is the record's frame.
func (o *Outcome) Encode() []byte {
	w := frame(kindOutcome, 0)
	w.head(o.ID, o.Method)
	w.number(tagHTTPStatus, uint64(max(o.HTTPStatus, 0)))
	w.result(&o.Result)
	w.number(tagDuration, uint64(max(o.Duration, 0)))
	w.number(tagSize, uint64(max(o.Size, 0)))
	if o.SHA256 != ([32]byte{}) {
		w.bytes(tagSHA256, o.SHA256[:])
	}
	w.flag(tagEligible, o.Eligible)
	w.bytes(tagUnknown, []byte(o.Unknown))
	if o.Built != nil {
		w.built(o.Built)
	}
	return w.finish(nil)
}

// Decode reads a frame of either kind into an Entry without a place in the stream. The result
// shares no memory with b. The error is ErrRecord.
func Decode(b []byte) (Entry, error) {
	fields, raw, err := open(b)
	if err != nil {
		return Entry{}, err
	}
	if b[1] == kindRequest {
		r := &Request{Raw: raw}
		if err := fields.each(r.field); err != nil {
			return Entry{}, err
		}
		r.Class = engineapi.Classify(r.Method)
		return Entry{Request: r}, nil
	}
	o := &Outcome{}
	if err := fields.each(o.field); err != nil {
		return Entry{}, err
	}
	o.Result.HTTPStatus = o.HTTPStatus
	return Entry{Outcome: o}, nil
}

// Decode reads a frame that Request.Encode made.
func (r *Request) Decode(b []byte) error {
	e, err := Decode(b)
	if err != nil {
		return err
	}
	if e.Request == nil {
		return fmt.Errorf("an outcome where a request was expected: %w", ErrRecord)
	}
	*r = *e.Request
	return nil
}

// Decode reads a frame that Outcome.Encode made.
func (o *Outcome) Decode(b []byte) error {
	e, err := Decode(b)
	if err != nil {
		return err
	}
	if e.Outcome == nil {
		return fmt.Errorf("a request where an outcome was expected: %w", ErrRecord)
	}
	*o = *e.Outcome
	return nil
}

// open splits a frame into its fields and its request's bytes.
func open(b []byte) (fields reader, raw []byte, err error) {
	if len(b) < 4 || b[0] != version || b[1] != kindRequest && b[1] != kindOutcome {
		return nil, nil, fmt.Errorf("no frame of version %d: %w", version, ErrRecord)
	}
	n, used := binary.Uvarint(b[3:])
	rest := b[3+max(used, 0):]
	if used <= 0 || n > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("a torn frame: %w", ErrRecord)
	}
	fields, rest = rest[:n], rest[n:]
	if b[2]&flagS2 == 0 {
		return fields, append([]byte(nil), rest...), nil
	}
	if size, err := s2.DecodedLen(rest); err != nil || size > MaxRaw {
		return nil, nil, fmt.Errorf("a compressed request of no or too great a length: %w", ErrRecord)
	}
	if raw, err = s2.Decode(nil, rest); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return fields, raw, nil
}

// writer appends tagged fields: a tag, a length, the bytes. Zero values are left out.
type writer struct {
	kind byte
	b    []byte
}

func frame(kind byte, body int) *writer {
	return &writer{kind: kind, b: make([]byte, 0, 256+min(body, compressFrom))}
}

func (w *writer) bytes(t tag, v []byte) {
	if len(v) == 0 {
		return
	}
	w.b = binary.AppendUvarint(w.b, uint64(t))
	w.b = binary.AppendUvarint(w.b, uint64(len(v)))
	w.b = append(w.b, v...)
}

func (w *writer) number(t tag, n uint64) {
	if n == 0 {
		return
	}
	var v [binary.MaxVarintLen64]byte
	w.bytes(t, binary.AppendUvarint(v[:0], n))
}

func (w *writer) flag(t tag, set bool) {
	if set {
		w.number(t, 1)
	}
}

func (w *writer) head(id ID, method string) {
	w.number(tagEpoch, id.Epoch)
	w.number(tagSequence, id.Sequence)
	w.bytes(tagMethod, []byte(method))
}

func (w *writer) forkchoice(f *engineapi.Forkchoice) {
	v := make([]byte, 0, 3*common.HashLength+2)
	v = append(append(append(v, f.Head[:]...), f.Safe[:]...), f.Finalized[:]...)
	attributes := byte(0)
	if f.Attributes {
		attributes = 1
	}
	w.bytes(tagForkchoice, append(v, attributes, byte(min(max(f.Arity, 0), math.MaxUint8))))
}

func (w *writer) payload(p *engineapi.Payload) {
	v := make([]byte, 0, 2*common.HashLength+2*binary.MaxVarintLen64)
	v = append(append(v, p.Hash[:]...), p.Parent[:]...)
	w.bytes(tagPayload, binary.AppendUvarint(binary.AppendUvarint(v, p.Number), p.Timestamp))
}

func (w *writer) result(r *engineapi.Result) {
	w.bytes(tagStatus, []byte(r.Status))
	w.number(tagCode, zigzag(int64(r.Code)))
	w.bytes(tagMessage, []byte(r.Message))
	w.bytes(tagValidation, []byte(r.Validation))
	if r.LatestValid != nil {
		w.bytes(tagLatestValid, r.LatestValid[:])
	}
	w.bytes(tagPayloadID, []byte(r.PayloadID))
	if r.InclusionList != nil {
		w.number(tagInclusion, 1)
		if *r.InclusionList {
			w.number(tagInclusion, 2) // the later field of a tag holds
		}
	}
	w.flag(tagMalformed, r.Malformed)
}

func (w *writer) built(b *Built) {
	value := b.Value.Bytes32()
	v := append(append(make([]byte, 0, 128), b.Hash[:]...), value[:]...)
	for _, n := range []uint64{b.Number, b.GasUsed, uint64(max(b.Transactions, 0))} {
		v = binary.AppendUvarint(v, n)
	}
	w.bytes(tagBuilt, append(v, b.PayloadID...))
}

// finish puts the fields and the request's bytes into one frame.
func (w *writer) finish(raw []byte) []byte {
	flags := byte(0)
	if len(raw) >= compressFrom {
		if small := s2.Encode(nil, raw); len(small) < len(raw) {
			raw, flags = small, flagS2
		}
	}
	out := make([]byte, 0, 3+binary.MaxVarintLen64+len(w.b)+len(raw))
	out = append(out, version, w.kind, flags)
	out = binary.AppendUvarint(out, uint64(len(w.b)))
	return append(append(out, w.b...), raw...)
}

// nanos is t as nanoseconds since 1970, 0 for the zero time.
func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.UnixNano(), 0))
}

func zigzag(n int64) uint64 { return uint64(n<<1) ^ uint64(n>>63) } //nolint:gosec // the bits are what is wanted

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }
