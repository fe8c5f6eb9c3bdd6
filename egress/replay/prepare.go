package replay

import (
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"millrace/internal/order"
)

// HeaderSignature is the header of a new signature.
const HeaderSignature = "X-Flashbots-Signature"

// Why an order can't be sent as it was asked for.
var (
	errBatchElement = errors.New("element of a batch, which the recorded signature is over: needs --resign")
	errNoSignature  = errors.New("recorded without a signature: needs --resign")
)

// Rules checks one transaction; *order.Rules does.
type Rules interface {
	Check(raw []byte, kind order.Kind, now time.Time) (order.TxInfo, error)
}

// preparer makes a recorded order what is sent.
type preparer struct {
	cfg   Config
	rules Rules // of a builder feed
}

// prepare returns the order as it goes out at due: Body, Signature ("Name: value") and what follows
// from them. The error is why it can't, or would not, be sent.
func (p *preparer) prepare(d order.Delivery, due time.Time) (*order.Order, error) {
	o := *d.Order
	s := shift{blocks: p.cfg.ShiftBlocks}
	if p.cfg.ShiftTime {
		s.seconds = int64(due.Sub(o.ReceivedAt) / time.Second)
	}
	if !s.none() {
		body, err := s.apply(o.Method, o.Body)
		if err != nil {
			return nil, err
		}
		o.Body = body
	}
	if p.cfg.As == AsBuilder {
		return p.feed(&o, !s.none())
	}
	if p.cfg.Key == nil {
		switch {
		case o.Batch != "":
			return nil, errBatchElement
		case o.Signature == "":
			return nil, errNoSignature
		}
		return &o, nil
	}
	return p.sign(&o)
}

func (p *preparer) sign(o *order.Order) (*order.Order, error) {
	value, err := order.Sign(p.cfg.Key, o.Body)
	if err != nil {
		return nil, err
	}
	o.Signature, o.Batch = HeaderSignature+": "+value, ""
	o.Signer = crypto.PubkeyToAddress(p.cfg.Key.PublicKey)
	return o, nil
}

// feed makes the builder-ready form, as a worker does: decode, rules, body. A builder never gets what
// fails the rules.
func (p *preparer) feed(o *order.Order, shifted bool) (*order.Order, error) {
	sub, err := decode(o, p.cfg.MaxTxs)
	if err != nil {
		return nil, invalid(err)
	}
	for _, raw := range sub.Txs {
		if _, err := p.rules.Check(raw, sub.Kind, o.ReceivedAt); err != nil {
			return nil, invalid(err)
		}
	}
	if shifted {
		o.ID, o.Key = sub.Identify(o.Signer, o.Nonce, o.NonceDefaulted)
		if o.Hash, err = sub.PublicHash(o.Nonce); err != nil {
			return nil, invalid(err)
		}
	}
	o.Body, err = sub.AppendBuilderBody(make([]byte, 0, len(o.Body)+512), o)
	if err != nil {
		return nil, fmt.Errorf("builder body of %s: %w", o.ID, err)
	}
	return o, nil
}

// invalidError is an order that a worker refuses: no builder gets it.
type invalidError struct{ cause error }

func (e *invalidError) Error() string { return e.cause.Error() }
func (e *invalidError) Unwrap() error { return e.cause }

func invalid(err error) error { return &invalidError{cause: err} }
