package subjects

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/internal/order"
)

// Message headers. Everything fixed is one compact header, because each header costs an allocation
// on both sides.
const (
	HeaderOrder       = "Mr-Order"     // the fixed fields, base64
	HeaderOrigin      = "Mr-Origin"    // the peer's name; absent for local orders
	HeaderIngress     = "Mr-Ingress"   // who waits for the verdict
	HeaderSignature   = "Mr-Signature" // the sender's signature header, "Name: value"
	HeaderBatch       = "Mr-Batch"     // index/count:digest of a batch element
	HeaderTraceparent = "traceparent"  // W3C trace context
	HeaderTrail       = "Mr-Trail"     // order.Trail, base64: on OK and REJECTED, for the trace index
)

const (
	headerVersion = 1
	headerSize    = 1 + 16 + 3*32 + 20 + 3 + 1 + 8 + 16 + 8 + 8 + 8 + 1
	headerText    = headerSize / 3 * 4 // base64; headerSize is a multiple of three

	flagNonceDefaulted = 1 << 0
)

// ErrHeader is returned for a message whose order header is missing or can't be read.
var ErrHeader = errors.New("bad order header")

// EncodeOrder returns o's headers for a message on IN or OK, Nats-Msg-Id not included.
func EncodeOrder(o *order.Order) nats.Header {
	var buf [headerSize]byte
	b := append(buf[:0], headerVersion)
	b = append(b, o.Accept[:]...)
	b = append(b, o.ID[:]...)
	b = append(b, o.Key[:]...)
	b = append(b, o.Hash[:]...)
	b = append(b, o.Signer[:]...)
	var flags byte
	if o.NonceDefaulted {
		flags |= flagNonceDefaulted
	}
	b = append(b, byte(o.Method), byte(o.Kind), byte(o.Priority), flags)
	b = binary.BigEndian.AppendUint64(b, uint64(o.Deadline.UnixMicro()))
	b = append(b, o.Replacement[:]...)
	b = binary.BigEndian.AppendUint64(b, o.Nonce)
	b = binary.BigEndian.AppendUint64(b, o.ShareNonce)
	b = binary.BigEndian.AppendUint64(b, o.TargetBlock)
	b = append(b, 0) // to a multiple of three

	h := make(nats.Header, 6)
	var text [headerText]byte
	base64.RawStdEncoding.Encode(text[:], b)
	h[HeaderOrder] = []string{string(text[:])}
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set(HeaderOrigin, o.Origin)
	set(HeaderIngress, o.Ingress)
	set(HeaderSignature, o.Signature)
	set(HeaderBatch, o.Batch)
	set(HeaderTraceparent, o.Traceparent)
	set(HeaderTrail, EncodeTrail(o))
	return h
}

// EncodeTrail is the value of HeaderTrail for an order; empty when there is none.
func EncodeTrail(o *order.Order) string {
	if o.Trail == nil {
		return ""
	}
	var buf [256]byte
	b := o.Trail.AppendTo(buf[:0], o.Accept)
	var text [344]byte
	return string(base64.RawStdEncoding.AppendEncode(text[:0], b))
}

// DecodeTrail reads the trail of the given acceptance from a message's headers; ok is false for a
// message without one, such as an older version's, or with one that can't be read.
func DecodeTrail(h nats.Header, a order.AcceptID) (t order.Trail, ok bool) {
	v := first(h, HeaderTrail)
	b, err := base64.RawStdEncoding.DecodeString(v)
	if v == "" || err != nil {
		return order.Trail{}, false
	}
	t, err = order.DecodeTrail(b, a)
	return t, err == nil
}

// DecodeOrder reads an order from a message's headers and body; the body is not copied.
func DecodeOrder(h nats.Header, body []byte) (*order.Order, error) {
	var buf [headerSize]byte
	var text [headerText]byte // on the stack, where a conversion of v would not be
	if v := first(h, HeaderOrder); len(v) != copy(text[:], v) || len(v) != headerText {
		return nil, ErrHeader
	}
	if n, err := base64.RawStdEncoding.Decode(buf[:], text[:]); err != nil || n != headerSize || buf[0] != headerVersion {
		return nil, ErrHeader
	}
	b := buf[1:]
	take := func(dst []byte) { b = b[copy(dst, b):] }
	number := func() uint64 {
		n := binary.BigEndian.Uint64(b)
		b = b[8:]
		return n
	}
	o := &order.Order{
		Origin:      first(h, HeaderOrigin),
		Ingress:     first(h, HeaderIngress),
		Signature:   first(h, HeaderSignature),
		Batch:       first(h, HeaderBatch),
		Traceparent: first(h, HeaderTraceparent),
		Body:        body,
	}
	take(o.Accept[:])
	take(o.ID[:])
	take(o.Key[:])
	take(o.Hash[:])
	take(o.Signer[:])
	o.Method, o.Kind, o.Priority = order.Method(b[0]), order.Kind(b[1]), order.Priority(b[2])
	o.NonceDefaulted = b[3]&flagNonceDefaulted != 0
	b = b[4:]
	o.Deadline = time.UnixMicro(int64(number())) //nolint:gosec // written by EncodeOrder
	take(o.Replacement[:])
	o.Nonce = number()
	o.ShareNonce = number()
	o.TargetBlock = number()
	o.ReceivedAt = o.Accept.Received()
	if !o.Priority.Valid() || b[0] != 0 {
		return nil, ErrHeader
	}
	return o, nil
}

func first(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}
