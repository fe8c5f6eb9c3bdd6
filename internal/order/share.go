package order

import "github.com/ethereum/go-ethereum/common"

// maxShareDepth is how deep a bundle may lie in a mev_sendBundle's bundle.
const maxShareDepth = 1

// revertMode is what a body's failure means to its bundle.
type revertMode uint8

const (
	revertFail revertMode = iota + 1
	revertAllow
	revertDrop
)

// shareBundle is a mev_sendBundle object.
type shareBundle struct {
	version         string
	replacement     UUID
	block, maxBlock uint64
	bodies          []shareBody
	refunds         []refundConstraint
	refundConfigs   []refundConfig
	privacy         []byte // raw
}

// shareBody is a transaction or a nested bundle.
type shareBody struct {
	tx        []byte
	bundle    *shareBundle
	hash      bool
	canRevert bool
	mode      revertMode // zero: unset
}

type refundConstraint struct{ body, percent uint64 }

type refundConfig struct {
	address common.Address
	percent uint64
}

func (d *decoder) decodeShareBundle() *fault {
	d.s.Kind = KindShareBundle
	b := new(shareBundle)
	d.s.share = b
	var metadata span
	f := d.members(func(name []byte, start int) (bool, *fault) {
		if string(name) == "metadata" {
			f := d.metadata()
			metadata = d.member(start)
			return true, f
		}
		return d.shareMember(b, name, 0)
	})
	if f != nil {
		return f
	}
	s := d.s
	s.Replacement = b.replacement
	if s.TargetBlock = b.maxBlock; s.TargetBlock == 0 {
		s.TargetBlock = b.block
	}
	if !metadata.empty() {
		s.cuts = []span{metadata}
	}
	if len(b.bodies) == 0 || s.Relayed != nil && s.Relayed.cancelled {
		if b.replacement.IsZero() {
			return &fault{code: CodeEmptyBundle, text: "bundle with no txs"}
		}
		s.Kind = KindCancel
	}
	return nil
}

// metadata is a node's to set, not a sender's.
func (d *decoder) metadata() *fault {
	if d.s.Relayed != nil {
		return d.relayedMetadata()
	}
	return d.noMetadata()
}

// noMetadata refuses metadata from a sender: it says who signed.
func (d *decoder) noMetadata() *fault {
	if d.null() {
		return nil
	}
	return refuseFields("metadata", "must not be set by the sender")
}

// shareMember reads one member of a bundle that lies at the given depth.
func (d *decoder) shareMember(b *shareBundle, name []byte, depth int) (bool, *fault) {
	switch string(name) {
	case "version":
		return true, d.optional(func() *fault {
			v, f := d.text("expected a string")
			b.version = string(v)
			return f
		}).in("version")
	case "replacementUuid":
		return true, d.optional(func() (f *fault) { return d.shareUUID(&b.replacement) }).in("replacementUuid")
	case "inclusion":
		return true, d.optional(func() *fault { return d.inclusion(b) }).in("inclusion")
	case "body":
		return true, d.optional(func() *fault {
			return d.array(func(int) *fault { return d.shareBody(b, depth) })
		}).in("body")
	case "validity":
		return true, d.optional(func() *fault { return d.validity(b) }).in("validity")
	case "privacy":
		return true, d.optional(func() *fault {
			start := d.valueStart()
			if f := d.skip(); f != nil {
				return f
			}
			b.privacy = d.input[start:d.offset()]
			return nil
		}).in("privacy")
	}
	return false, nil
}

// shareUUID reads a UUID; v1 took the empty string for none.
func (d *decoder) shareUUID(to *UUID) *fault {
	v, f := d.text("expected a UUID")
	if f != nil || len(v) == 0 {
		return f
	}
	u, ok := parseUUID(v)
	if !ok || u.IsZero() {
		return malformed("expected a UUID")
	}
	*to = u
	return nil
}

func (d *decoder) inclusion(b *shareBundle) *fault {
	return d.object(func(name []byte, _ int) *fault {
		switch string(name) {
		case "block":
			return d.optionalTo(&b.block, d.quantity).in("block")
		case "maxBlock":
			return d.optionalTo(&b.maxBlock, d.quantity).in("maxBlock")
		}
		return d.skip()
	})
}

func (d *decoder) optionalTo(to *uint64, read func() (uint64, *fault)) *fault {
	return d.optional(func() (f *fault) {
		*to, f = read()
		return f
	})
}

// shareBody reads one body: exactly one of a transaction and a bundle.
func (d *decoder) shareBody(b *shareBundle, depth int) *fault {
	var body shareBody
	if f := d.object(func(name []byte, _ int) *fault { return d.bodyMember(&body, name, depth) }); f != nil {
		return f
	}
	switch {
	case body.hash:
		return &fault{code: CodeBundleFields, text: "mev bundle with unmatched tx"}
	case body.tx != nil && body.bundle != nil:
		return &fault{code: CodeBundleFields, text: "both tx and bundle are set"}
	case body.tx == nil && body.bundle == nil:
		return &fault{code: CodeBundleFields, text: "expected tx or bundle"}
	}
	b.bodies = append(b.bodies, body)
	return nil
}

func (d *decoder) bodyMember(body *shareBody, name []byte, depth int) *fault {
	switch string(name) {
	case "hash":
		return d.optional(func() *fault {
			body.hash = true
			return d.skip()
		})
	case "tx":
		return d.optional(func() *fault {
			f := d.transaction()
			if f == nil {
				body.tx = d.s.Txs[len(d.s.Txs)-1]
			}
			return f
		}).in("tx")
	case "bundle":
		return d.optional(func() (f *fault) {
			body.bundle, f = d.nested(depth + 1)
			return f
		}).in("bundle")
	case "canRevert":
		return d.optional(func() (f *fault) {
			body.canRevert, f = d.boolean()
			return f
		}).in("canRevert")
	case "revertMode":
		return d.optional(func() (f *fault) {
			body.mode, f = d.revertMode()
			return f
		}).in("revertMode")
	}
	return d.skip()
}

func (d *decoder) revertMode() (revertMode, *fault) {
	v, f := d.text("expected a string")
	if f != nil {
		return 0, f
	}
	switch string(v) {
	case "":
		return 0, nil
	case "fail":
		return revertFail, nil
	case "allow":
		return revertAllow, nil
	case "drop":
		return revertDrop, nil
	}
	return 0, malformed("expected allow, drop or fail")
}

// nested reads the bundle of a body.
func (d *decoder) nested(depth int) (*shareBundle, *fault) {
	if depth > maxShareDepth {
		return nil, &fault{code: CodeBundleFields, text: "mev bundle too deep"}
	}
	b := new(shareBundle)
	f := d.object(func(name []byte, _ int) *fault {
		if string(name) == "metadata" {
			return d.noMetadata()
		}
		if ok, f := d.shareMember(b, name, depth); ok || f != nil {
			return f
		}
		return d.skip()
	})
	if f != nil {
		return nil, f
	}
	if len(b.bodies) == 0 {
		return nil, &fault{code: CodeEmptyBundle, text: "bundle with no txs"}
	}
	return b, nil
}

func (d *decoder) validity(b *shareBundle) *fault {
	return d.object(func(name []byte, _ int) *fault {
		switch string(name) {
		case "refund":
			return d.optional(func() *fault {
				return d.array(func(int) *fault { return d.refundConstraint(b) })
			}).in("refund")
		case "refundConfig":
			return d.optional(func() *fault {
				return d.array(func(int) *fault { return d.refundConfig(b) })
			}).in("refundConfig")
		}
		return d.skip()
	})
}

func (d *decoder) refundConstraint(b *shareBundle) *fault {
	var c refundConstraint
	f := d.object(func(name []byte, _ int) *fault {
		switch string(name) {
		case "bodyIdx":
			return d.optionalTo(&c.body, d.number).in("bodyIdx")
		case "percent":
			return d.optionalTo(&c.percent, d.number).in("percent")
		}
		return d.skip()
	})
	b.refunds = append(b.refunds, c)
	return f
}

func (d *decoder) refundConfig(b *shareBundle) *fault {
	var c refundConfig
	f := d.object(func(name []byte, _ int) *fault {
		switch string(name) {
		case "address":
			return d.optional(func() (f *fault) {
				c.address, f = d.address()
				return f
			}).in("address")
		case "percent":
			return d.optionalTo(&c.percent, d.number).in("percent")
		}
		return d.skip()
	})
	b.refundConfigs = append(b.refundConfigs, c)
	return f
}

// allReverting reports whether every body may revert: by canRevert, by its mode, or because all of
// its own bodies may.
func (b *shareBundle) allReverting() bool {
	for _, body := range b.bodies {
		switch {
		case body.canRevert, body.mode == revertAllow, body.mode == revertDrop:
		case body.bundle != nil && body.bundle.allReverting():
		default:
			return false
		}
	}
	return true
}
