package replay

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/order"
)

// MaxLine bounds one line of a recording, bytes: a body of 32 MiB in base64 and the rest.
const MaxLine = 48 << 20

// ErrLine is returned for a line of a recording that can't be read.
var ErrLine = errors.New("bad line of a recording")

// AppendLine appends a recorded order as one line of JSON, its newline included. A recording is such
// lines; the body is the sender's own bytes in base64.
func AppendLine(dst []byte, d *order.Delivery) []byte {
	o := d.Order
	text := func(key, value string) {
		if value != "" {
			dst = append(append(append(dst, `,"`...), key...), `":`...)
			dst, _ = jsontext.AppendQuote(dst, value) // invalid UTF-8 is replaced
		}
	}
	number := func(key string, n uint64) {
		if n != 0 {
			dst = append(append(append(dst, `,"`...), key...), `":`...)
			dst = strconv.AppendUint(dst, n, 10)
		}
	}
	dst = append(dst, `{"sequence":`...)
	dst = strconv.AppendUint(dst, d.Sequence, 10)
	text("received_at", o.ReceivedAt.UTC().Format(time.RFC3339Nano))
	text("stored_at", d.StoredAt.UTC().Format(time.RFC3339Nano))
	text("accept", o.Accept.String())
	text("id", o.ID.String())
	text("hash", "0x"+hex.EncodeToString(o.Hash[:]))
	text("signer", "0x"+hex.EncodeToString(o.Signer[:]))
	text("method", o.Method.String())
	text("kind", o.Kind.String())
	text("priority", o.Priority.String())
	text("origin", o.Origin)
	if !o.Replacement.IsZero() {
		text("replacement", o.Replacement.String())
	}
	number("nonce", o.Nonce)
	if o.NonceDefaulted {
		dst = append(dst, `,"nonce_defaulted":true`...)
	}
	number("share_nonce", o.ShareNonce)
	number("target_block", o.TargetBlock)
	text("signature", o.Signature)
	text("batch", o.Batch)
	dst = append(dst, `,"body":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, o.Body)
	return append(dst, '"', '}', '\n')
}

// line is one line as it is read.
type line struct {
	Sequence       uint64         `json:"sequence"`
	ReceivedAt     time.Time      `json:"received_at"`
	StoredAt       time.Time      `json:"stored_at"`
	Accept         string         `json:"accept"`
	ID             string         `json:"id"`
	Hash           common.Hash    `json:"hash"`
	Signer         common.Address `json:"signer"`
	Method         string         `json:"method"`
	Kind           string         `json:"kind"`
	Priority       string         `json:"priority"`
	Origin         string         `json:"origin"`
	Replacement    string         `json:"replacement"`
	Nonce          uint64         `json:"nonce"`
	NonceDefaulted bool           `json:"nonce_defaulted"`
	ShareNonce     uint64         `json:"share_nonce"`
	TargetBlock    uint64         `json:"target_block"`
	Signature      string         `json:"signature"`
	Batch          string         `json:"batch"`
	Body           []byte         `json:"body"`
}

// ParseLine reads one line of a recording, with or without its newline. Members that it does not know
// are from a newer version and mean nothing here. The error wraps ErrLine.
func ParseLine(b []byte) (order.Delivery, error) {
	var l line
	if len(b) > MaxLine {
		return order.Delivery{}, fmt.Errorf("%w: %d bytes", ErrLine, len(b))
	}
	if err := json.Unmarshal(bytes.TrimSpace(b), &l); err != nil {
		return order.Delivery{}, fmt.Errorf("%w: %w", ErrLine, err)
	}
	o := &order.Order{
		Hash: l.Hash, Signer: l.Signer, Origin: l.Origin, Nonce: l.Nonce, NonceDefaulted: l.NonceDefaulted,
		ShareNonce: l.ShareNonce, TargetBlock: l.TargetBlock, Signature: l.Signature, Batch: l.Batch, Body: l.Body,
	}
	var ok bool
	if o.Method, ok = order.ParseMethod(l.Method); !ok {
		return order.Delivery{}, fmt.Errorf("%w: method", ErrLine)
	}
	p := slices.IndexFunc(order.Priorities[:], func(p order.Priority) bool { return p.String() == l.Priority })
	if p < 0 {
		return order.Delivery{}, fmt.Errorf("%w: priority", ErrLine)
	}
	o.Priority = order.Priorities[p]
	for k := order.KindTransaction; k <= order.KindCancel; k++ {
		if k.String() == l.Kind {
			o.Kind = k
		}
	}
	if o.Kind == 0 || !unhex(o.Accept[:], l.Accept) || !unhex(o.ID[:], l.ID) || !parseUUID(&o.Replacement, l.Replacement) {
		return order.Delivery{}, fmt.Errorf("%w: kind, accept, id or replacement", ErrLine)
	}
	if o.ReceivedAt = o.Accept.Received(); o.ReceivedAt.Year() < 1970 || o.ReceivedAt.Year() > 9999 {
		return order.Delivery{}, fmt.Errorf("%w: time of receipt", ErrLine)
	}
	return order.Delivery{Order: o, Sequence: l.Sequence, StoredAt: l.StoredAt, Deliveries: 1, Size: len(o.Body)}, nil
}

// unhex reads exactly len(dst) bytes.
func unhex(dst []byte, s string) bool {
	if len(s) != hex.EncodedLen(len(dst)) {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// parseUUID reads a UUID as UUID.String writes it; the empty string is none.
func parseUUID(to *order.UUID, s string) bool {
	if s == "" {
		return true
	}
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
		unhex(to[:], s[0:8]+s[9:13]+s[14:18]+s[19:23]+s[24:36])
}
