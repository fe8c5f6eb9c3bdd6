package order

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json/jsontext"
)

// ErrOtherOrder is returned for an order that was not made from the submission.
var ErrOtherOrder = errors.New("order and submission differ")

// AppendBuilderBody appends the complete JSON-RPC request for a builder: the sender's object with
// signingAddress, replacementNonce, version and bundleHash spliced in, every unknown field kept.
// A mev_sendBundle gets its metadata, a raw transaction is under eth_sendRawTransaction whatever
// it came under. It fails only when o is not s's order.
func (s *Submission) AppendBuilderBody(dst []byte, o *Order) ([]byte, error) {
	if o.Method != s.Method {
		return dst, ErrOtherOrder
	}
	dst = append(dst, `{"id":1,"jsonrpc":"2.0","method":"`...)
	dst = append(dst, s.Method.Upstream().String()...)
	dst = append(dst, `","params":[`...)
	switch {
	case s.Kind == KindTransaction:
		dst = s.appendRaw(dst)
	case s.bundle != nil:
		dst = s.appendBundle(dst, o)
	case s.share != nil:
		dst = s.appendShare(dst, o)
	case s.Kind == KindSubsidy:
		dst = append(dst, s.Params...)
	default:
		dst = s.appendMembers(dst)
		dst = s.appendSigner(dst, "signingAddress", o)
		dst = append(bytes.TrimSuffix(dst, []byte{','}), '}')
	}
	return append(dst, `]}`...), nil
}

// appendMembers appends the opening brace and the sender's members except for the cut ones, byte for
// byte, with a comma behind them if there are any.
func (s *Submission) appendMembers(dst []byte) []byte {
	dst = append(dst, '{')
	pos := 1
	for i := 0; i <= len(s.cuts); i++ {
		end := len(s.Params) - 1
		next := end
		if i < len(s.cuts) {
			end, next = s.cuts[i].start, s.cuts[i].end
		}
		// What lies between two cuts is whole members, so only separators can be at its ends.
		if kept := bytes.Trim(s.Params[pos:end], " \t\r\n,"); len(kept) > 0 {
			dst = append(append(dst, kept...), ',')
		}
		pos = next
	}
	return dst
}

func (s *Submission) appendBundle(dst []byte, o *Order) []byte {
	dst = s.appendMembers(dst)
	if s.bundle.hasAny(hasUUID) {
		text := s.Replacement.text()
		dst = append(dst, `"replacementUuid":"`...)
		dst = append(append(dst, text[:]...), `",`...)
	}
	return append(s.appendSplice(dst, o), '}')
}

// appendSplice appends what a builder gets from us of a bundle, behind a comma or an opening brace.
func (s *Submission) appendSplice(dst []byte, o *Order) []byte {
	dst = s.appendSigner(dst, "signingAddress", o)
	if s.hasNonce(o) {
		dst = append(dst, `"replacementNonce":`...)
		dst = strconv.AppendUint(dst, o.Nonce, 10)
		dst = append(dst, ',')
	}
	dst = append(dst, `"version":`...)
	dst, _ = jsontext.AppendQuote(dst, s.bundle.version) // valid UTF-8: it was read from JSON
	dst = append(dst, `,"bundleHash":"0x`...)
	dst = hex.AppendEncode(dst, o.Hash[:])
	return append(dst, '"')
}

// appendSigner appends who signed and a comma; nothing where the node that passed the order on did not say it.
func (s *Submission) appendSigner(dst []byte, name string, o *Order) []byte {
	if s.Relayed != nil && o.Signer == (common.Address{}) {
		return dst
	}
	dst = append(append(append(dst, '"'), name...), `":`...)
	return append(appendAddress(dst, o.Signer), ',')
}

// hasNonce reports whether a builder is told o's nonce. One that we gave to an order of a peer is for us alone: its
// builder-ready form has none.
func (s *Submission) hasNonce(o *Order) bool {
	return !s.Replacement.IsZero() && (s.Relayed == nil || !o.NonceDefaulted)
}

func (s *Submission) appendShare(dst []byte, o *Order) []byte {
	dst = s.appendMembers(dst)
	dst = s.appendSigner(append(dst, `"metadata":{`...), "signer", o)
	if s.hasNonce(o) {
		nonce := o.Nonce
		if o.ShareNonce > 0 {
			nonce = o.ShareNonce - 1
		}
		dst = append(dst, `"replacementNonce":`...)
		dst = append(strconv.AppendUint(dst, nonce, 10), ',')
	}
	if s.Kind == KindCancel {
		dst = append(dst, `"cancelled":true,`...)
	}
	return append(bytes.TrimSuffix(dst, []byte{','}), `}}`...)
}

// appendRaw appends the transaction, in the sender's own writing if that is lower-case hex already.
func (s *Submission) appendRaw(dst []byte) []byte {
	if plainHex(s.Params) {
		return append(dst, s.Params...)
	}
	dst = append(dst, `"0x`...)
	dst = hex.AppendEncode(dst, s.Txs[0])
	return append(dst, '"')
}

// plainHex reports whether a JSON value that is known to decode as hex is written as "0x…" in lower
// case, without escapes.
func plainHex(v []byte) bool {
	return bytes.HasPrefix(v, []byte(`"0x`)) && !bytes.ContainsAny(v, `\ABCDEF`)
}

func appendAddress(dst []byte, a common.Address) []byte {
	dst = append(dst, `"0x`...)
	dst = hex.AppendEncode(dst, a[:])
	return append(dst, '"')
}
