package replay

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/order"
)

// shift is by how much the times and blocks of an order move.
type shift struct{ seconds, blocks int64 }

func (s shift) none() bool { return s == shift{} }

// edit replaces a part of a body.
type edit struct {
	start, end int
	with       []byte
}

// errShift is a body that can't be shifted.
var errShift = errors.New("body can't be shifted")

// maxShiftDepth bounds bundles in bundles; the door takes one.
const maxShiftDepth = 4

// apply returns the body of a request with its times and blocks moved, everything else byte for byte
// as it was. Moved are minTimestamp and maxTimestamp, blockNumber, maxBlockNumber, and block and
// maxBlock of an inclusion, in bundles within bundles too. What is 0 or null, or is not a number, says
// nothing and stays; what would become negative becomes 1.
func (s shift) apply(m order.Method, body []byte) ([]byte, error) {
	w := walker{dec: jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true)), body: body, shift: s}
	if err := w.request(m); err != nil {
		return nil, fmt.Errorf("%w: %w", errShift, err)
	}
	if len(w.edits) == 0 {
		return body, nil
	}
	out := make([]byte, 0, len(body)+16*len(w.edits))
	at := 0
	for _, e := range w.edits {
		out = append(append(out, body[at:e.start]...), e.with...)
		at = e.end
	}
	return append(out, body[at:]...), nil
}

// walker finds what is to be replaced in one body, front to back.
type walker struct {
	dec   *jsontext.Decoder
	body  []byte
	shift shift
	edits []edit
}

// request reads the envelope and, of its params, the first.
func (w *walker) request(m order.Method) error {
	return w.object(func(name string) error {
		if name != "params" || w.dec.PeekKind() != jsontext.KindBeginArray {
			return w.dec.SkipValue()
		}
		first := true
		return w.array(func() error {
			if !first || w.dec.PeekKind() != jsontext.KindBeginObject {
				first = false
				return w.dec.SkipValue()
			}
			first = false
			return w.object(func(name string) error { return w.param(m, name, 0) })
		})
	})
}

// param reads one member of a bundle or of a private transaction.
func (w *walker) param(m order.Method, name string, depth int) error {
	share := m == order.MethodSendShareBundle
	switch {
	case m == order.MethodSendBundle && (name == "minTimestamp" || name == "maxTimestamp"):
		return w.move(w.shift.seconds)
	case m == order.MethodSendBundle && name == "blockNumber", m == order.MethodSendPrivateTransaction && name == "maxBlockNumber":
		return w.move(w.shift.blocks)
	case share && name == "inclusion" && w.dec.PeekKind() == jsontext.KindBeginObject:
		return w.object(func(name string) error {
			if name == "block" || name == "maxBlock" {
				return w.move(w.shift.blocks)
			}
			return w.dec.SkipValue()
		})
	case share && name == "body" && depth < maxShiftDepth && w.dec.PeekKind() == jsontext.KindBeginArray:
		return w.array(func() error {
			if w.dec.PeekKind() != jsontext.KindBeginObject {
				return w.dec.SkipValue()
			}
			return w.object(func(name string) error {
				if name != "bundle" || w.dec.PeekKind() != jsontext.KindBeginObject {
					return w.dec.SkipValue()
				}
				return w.object(func(name string) error { return w.param(m, name, depth+1) })
			})
		})
	}
	return w.dec.SkipValue()
}

// object calls member for each member of the object that comes, with the decoder before its value.
func (w *walker) object(member func(name string) error) error {
	if w.dec.PeekKind() != jsontext.KindBeginObject {
		return errShift
	}
	if _, err := w.dec.ReadToken(); err != nil {
		return err
	}
	for w.dec.PeekKind() == jsontext.KindString {
		name, err := w.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := member(name.String()); err != nil {
			return err
		}
	}
	_, err := w.dec.ReadToken()
	return err
}

func (w *walker) array(element func() error) error {
	if _, err := w.dec.ReadToken(); err != nil {
		return err
	}
	for k := w.dec.PeekKind(); k != jsontext.KindEndArray && k != jsontext.KindInvalid; k = w.dec.PeekKind() {
		if err := element(); err != nil {
			return err
		}
	}
	_, err := w.dec.ReadToken()
	return err
}

// move reads a number, or a quantity in a string, and notes what it becomes.
func (w *walker) move(by int64) error {
	v, err := w.dec.ReadValue()
	if err != nil {
		return err
	}
	end := int(w.dec.InputOffset())
	n, base, ok := parseNumber(v)
	if !ok || n == 0 || by == 0 {
		return nil
	}
	w.edits = append(w.edits, edit{start: end - len(v), end: end, with: formatNumber(moved(n, by), base)})
	return nil
}

// moved adds with bounds: what is there stays there.
func moved(n uint64, by int64) uint64 {
	switch {
	case by < 0 && n <= uint64(-by): // MinInt64 has the bits of its magnitude
		return 1
	case by < 0:
		return n - uint64(-by)
	case n > math.MaxUint64-uint64(by):
		return math.MaxUint64
	}
	return n + uint64(by)
}

// The bases of numbers: a plain JSON number, or decimal or hex in a string.
const (
	basePlain = iota + 1
	baseDecimal
	baseHex
)

func parseNumber(v []byte) (n uint64, base int, ok bool) {
	text := string(v)
	base = basePlain
	if v[0] == '"' {
		b, err := jsontext.AppendUnquote(nil, v)
		if err != nil {
			return 0, 0, false
		}
		text, base = string(b), baseDecimal
		if len(text) > 2 && (text[:2] == "0x" || text[:2] == "0X") {
			n, err = strconv.ParseUint(text[2:], 16, 64)
			return n, baseHex, err == nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, base, err == nil
}

func formatNumber(n uint64, base int) []byte {
	switch base {
	case baseHex:
		return append(strconv.AppendUint([]byte(`"0x`), n, 16), '"')
	case baseDecimal:
		return append(strconv.AppendUint([]byte{'"'}, n, 10), '"')
	default:
		return strconv.AppendUint(nil, n, 10)
	}
}
