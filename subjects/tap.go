package subjects

import (
	"encoding/base64"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
)

// HeaderSize is where the server says how long the body is that a headers-only consumer leaves out.
const HeaderSize = "Nats-Msg-Size"

// HeadersOnly is c without the bodies, for a process that has them already (the tap): its copies only
// say what is stored.
func HeadersOnly(c jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	c.HeadersOnly = true
	return c
}

// AcceptOf reads no more of a message's headers than the acceptance; ok is false when there is none.
func AcceptOf(h nats.Header) (a order.AcceptID, ok bool) {
	const (
		size = 18 // version, acceptance and one byte more: whole base64 groups
		text = size / 3 * 4
	)
	v := first(h, HeaderOrder)
	var enc [text]byte
	var dec [size]byte
	if len(v) != headerText || copy(enc[:], v) != text {
		return a, false
	}
	if _, err := base64.RawStdEncoding.Decode(dec[:], enc[:]); err != nil || dec[0] != headerVersion {
		return a, false
	}
	return order.AcceptID(dec[1 : 1+len(a)]), true
}
