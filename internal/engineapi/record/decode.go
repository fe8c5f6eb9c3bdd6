package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/engineapi"
)

// reader is a frame's tagged fields.
type reader []byte

// each hands over every field; the first error ends it.
func (r reader) each(f func(t tag, v []byte) error) error {
	for len(r) > 0 {
		t, used := binary.Uvarint(r)
		if used <= 0 {
			return fmt.Errorf("a torn tag: %w", ErrRecord)
		}
		r = r[used:]
		n, used := binary.Uvarint(r)
		rest := r[max(used, 0):]
		if used <= 0 || n > uint64(len(rest)) {
			return fmt.Errorf("a torn field: %w", ErrRecord)
		}
		var v []byte
		v, r = rest[:n], rest[n:]
		if err := f(tag(t), v); err != nil {
			return err
		}
	}
	return nil
}

// number reads a field of one number.
func number(v []byte) (uint64, error) {
	n, used := binary.Uvarint(v)
	if used != len(v) || used <= 0 {
		return 0, fmt.Errorf("a field that is no number: %w", ErrRecord)
	}
	return n, nil
}

// setNumber reads a number into a field of type T, which must hold it.
func setNumber[T ~int | ~int64 | ~uint64](into *T, v []byte) error {
	n, err := number(v)
	if err != nil {
		return err
	}
	if n > math.MaxInt64 && T(0)-1 < 0 {
		return fmt.Errorf("a number out of range: %w", ErrRecord)
	}
	*into = T(n)
	return nil
}

func setFlag(into *bool, v []byte) error {
	n, err := number(v)
	*into = n != 0
	return err
}

func setHash(into *common.Hash, v []byte) error {
	if len(v) != len(into) {
		return fmt.Errorf("a hash of %d bytes: %w", len(v), ErrRecord)
	}
	copy(into[:], v)
	return nil
}

func (r *Request) field(t tag, v []byte) error {
	switch t {
	case tagEpoch:
		return setNumber(&r.ID.Epoch, v)
	case tagSequence:
		return setNumber(&r.ID.Sequence, v)
	case tagMethod:
		r.Method = string(v)
	case tagReceived:
		var ns int64
		if err := setNumber(&ns, v); err != nil {
			return err
		}
		r.Received = time.Unix(0, ns).UTC()
	case tagBatch:
		return setNumber(&r.Batch, v)
	case tagForkchoice:
		return r.forkchoice(v)
	case tagPayload:
		return r.payload(v)
	case tagVerified:
		return setFlag(&r.Verified, v)
	case tagOmitted:
		return setNumber(&r.OmittedSize, v)
	default: // a newer writer's
	}
	return nil
}

func (r *Request) forkchoice(v []byte) error {
	if len(v) < 3*common.HashLength+2 {
		return fmt.Errorf("a short forkchoice: %w", ErrRecord)
	}
	f := &engineapi.Forkchoice{Attributes: v[96] != 0, Arity: int(v[97])}
	copy(f.Head[:], v)
	copy(f.Safe[:], v[32:])
	copy(f.Finalized[:], v[64:])
	r.Forkchoice = f
	return nil
}

func (r *Request) payload(v []byte) error {
	if len(v) < 2*common.HashLength {
		return fmt.Errorf("a short payload: %w", ErrRecord)
	}
	p := &engineapi.Payload{}
	copy(p.Hash[:], v)
	copy(p.Parent[:], v[32:])
	_, err := numbers(v[64:], &p.Number, &p.Timestamp)
	r.Payload = p
	return err
}

// numbers reads numbers one after another and is what follows them.
func numbers(v []byte, into ...*uint64) ([]byte, error) {
	for _, n := range into {
		var used int
		if *n, used = binary.Uvarint(v); used <= 0 {
			return nil, fmt.Errorf("too few numbers: %w", ErrRecord)
		}
		v = v[used:]
	}
	return v, nil
}

func (o *Outcome) field(t tag, v []byte) error {
	switch t {
	case tagEpoch:
		return setNumber(&o.ID.Epoch, v)
	case tagSequence:
		return setNumber(&o.ID.Sequence, v)
	case tagMethod:
		o.Method = string(v)
	case tagHTTPStatus:
		return setNumber(&o.HTTPStatus, v)
	case tagDuration:
		var ns int64
		err := setNumber(&ns, v)
		o.Duration = time.Duration(ns)
		return err
	case tagSize:
		return setNumber(&o.Size, v)
	case tagSHA256:
		return setHash((*common.Hash)(&o.SHA256), v)
	case tagEligible:
		return setFlag(&o.Eligible, v)
	case tagUnknown:
		o.Unknown = string(v)
	case tagBuilt:
		return o.built(v)
	default:
		return o.result(t, v)
	}
	return nil
}

func (o *Outcome) result(t tag, v []byte) error {
	r := &o.Result
	switch t {
	case tagStatus:
		r.Status = engineapi.Status(v)
	case tagCode:
		n, err := number(v)
		r.Code = int(unzigzag(n))
		return err
	case tagMessage:
		r.Message = string(v)
	case tagValidation:
		r.Validation = string(v)
	case tagLatestValid:
		r.LatestValid = new(common.Hash)
		return setHash(r.LatestValid, v)
	case tagPayloadID:
		r.PayloadID = string(v)
	case tagInclusion:
		n, err := number(v)
		yes := n == 2
		r.InclusionList = &yes
		return err
	case tagMalformed:
		return setFlag(&r.Malformed, v)
	default: // a newer writer's
	}
	return nil
}

func (o *Outcome) built(v []byte) error {
	if len(v) < 2*common.HashLength {
		return fmt.Errorf("a short built payload: %w", ErrRecord)
	}
	b := &Built{}
	copy(b.Hash[:], v)
	b.Value.SetBytes32(v[32:64])
	var transactions uint64
	rest, err := numbers(v[64:], &b.Number, &b.GasUsed, &transactions)
	if err != nil || transactions > math.MaxInt32 {
		return fmt.Errorf("a built payload without its numbers: %w", ErrRecord)
	}
	b.Transactions, b.PayloadID = int(transactions), string(rest)
	o.Built = b
	return nil
}
