package loadtest

import (
	"fmt"
	"strings"

	"millrace/internal/order"
)

// Shape is what a generated order is meant to be; it decides content and, through it, the class that
// the door gives it.
type Shape uint8

// The shapes.
const (
	ShapeBundle          Shape = iota + 1 // eth_sendBundle, sized as published
	ShapeTransaction                      // eth_sendRawTransaction
	ShapePrivate                          // eth_sendPrivateTransaction
	ShapeShare                            // mev_sendBundle
	ShapeReplacement                      // eth_sendBundle with a replacement key and an explicit, rising nonce
	ShapeCancel                           // eth_sendBundle, empty, of a replacement key
	ShapeInvalid                          // eth_sendBundle whose transaction is of another chain
	ShapeBlobBundle                       // eth_sendBundle with a blob sidecar: low
	ShapeBlobTransaction                  // eth_sendRawTransaction of type 3 without its sidecar: low and cheap
	ShapeReverting                        // eth_sendBundle whose transactions may all revert: high
	ShapeHeavy                            // eth_sendBundle of many transactions that nobody has seen
	ShapeMalformed                        // eth_sendBundle of nothing: refused at the door, costs its sender the good name
	ShapeCancelBundle                     // eth_cancelBundle of a key that was never used, by its default nonce
	ShapePrivateRaw                       // eth_sendPrivateRawTransaction
)

var shapeNames = [...]string{
	"", "bundle", "transaction", "private", "share", "replacement", "cancel", "invalid",
	"blob_bundle", "blob_transaction", "reverting", "heavy", "malformed", "cancel_bundle", "private_raw",
}

// String is the shape in reports and flags.
func (s Shape) String() string {
	if s == 0 || int(s) >= len(shapeNames) {
		return fmt.Sprintf("unknown_%d", uint8(s))
	}
	return shapeNames[s]
}

// ParseShape returns the shape with the given name.
func ParseShape(name string) (Shape, error) {
	for i := 1; i < len(shapeNames); i++ {
		if shapeNames[i] == name {
			return Shape(i), nil
		}
	}
	return 0, fmt.Errorf("%w: shape %q", ErrConfig, name)
}

// MarshalText is the name.
func (s Shape) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes a name.
func (s *Shape) UnmarshalText(b []byte) (err error) {
	*s, err = ParseShape(string(b))
	return err
}

// method is how orders of this shape are sent.
func (s Shape) method() order.Method {
	switch s {
	case ShapeTransaction, ShapeBlobTransaction:
		return order.MethodSendRawTransaction
	case ShapePrivate:
		return order.MethodSendPrivateTransaction
	case ShapePrivateRaw:
		return order.MethodSendPrivateRawTransaction
	case ShapeShare:
		return order.MethodSendShareBundle
	case ShapeCancelBundle:
		return order.MethodCancelBundle
	case ShapeBundle, ShapeReplacement, ShapeCancel, ShapeInvalid, ShapeBlobBundle, ShapeReverting, ShapeHeavy, ShapeMalformed:
		return order.MethodSendBundle
	}
	return order.MethodSendBundle
}

// replaces reports whether orders of this shape have a replacement key.
func (s Shape) replaces() bool { return s == ShapeReplacement || s == ShapeCancel }

// Weight is the share of one shape in a mix.
type Weight struct {
	Shape  Shape
	Weight int // relative to the sum of the mix
}

// Mix is what a flow consists of.
type Mix []Weight

// DefaultMix is order flow as a builder network sees it: mostly bundles, some replaced, some
// cancelled, a few wrong.
func DefaultMix() Mix {
	return Mix{
		{ShapeBundle, 700},
		{ShapeTransaction, 100},
		{ShapePrivate, 20},
		{ShapeShare, 30},
		{ShapeReplacement, 100},
		{ShapeCancel, 20},
		{ShapeInvalid, 20},
		{ShapeReverting, 9},
		{ShapeBlobBundle, 1},
	}
}

// Only is a mix of one shape.
func Only(s Shape) Mix { return Mix{{s, 1}} }

// String is the mix in reports, with shares in percent.
func (m Mix) String() string {
	sum := 0
	for _, w := range m {
		sum += w.Weight
	}
	var b strings.Builder
	for i, w := range m {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %.3g %%", w.Shape, 100*float64(w.Weight)/float64(max(sum, 1)))
	}
	return b.String()
}

func (m Mix) validate() error {
	sum := 0
	for _, w := range m {
		if w.Weight < 0 || w.Shape == 0 || int(w.Shape) >= len(shapeNames) {
			return fmt.Errorf("%w: weight %d of %s", ErrConfig, w.Weight, w.Shape)
		}
		sum += w.Weight
	}
	if sum == 0 {
		return fmt.Errorf("%w: a mix of nothing", ErrConfig)
	}
	return nil
}

// pick returns the shape at u in [0, 1).
func (m Mix) pick(u float64) Shape {
	sum := 0
	for _, w := range m {
		sum += w.Weight
	}
	at := int(u * float64(sum))
	for _, w := range m {
		if at < w.Weight {
			return w.Shape
		}
		at -= w.Weight
	}
	return m[len(m)-1].Shape
}
