package order

import "github.com/ethereum/go-ethereum/common"

// Relayed is what a node that passes an order on says beside the sender's own members: in the members that a
// sender may not set itself. Nothing of it can be verified here.
type Relayed struct {
	// Signer is who signed towards that node; zero: not said.
	Signer common.Address

	// cancelled is a mev_sendBundle's: whatever its body is, it only cancels.
	cancelled bool
}

// DecodeRelayed is Decode for what another node passes on, in the form of AppendBuilderBody, or as the first proxy
// sends it to its peers: signingAddress and a mev_sendBundle's metadata count, Nonce is what they say, and a bundle
// needs a version. A bundleHash is ours to compute whoever sends it.
//
// MethodSubsidiseBlock has a block number.
func DecodeRelayed(m Method, params []byte, lim Limits) (*Submission, error) {
	return decode(&Submission{Method: m, Relayed: new(Relayed)}, params, lim)
}

// signingAddress is overwritten for senders; of another node's it counts.
func (d *decoder) signingAddress(sp *span, start int) *fault {
	if d.s.Relayed == nil {
		return d.overwritten(sp, start)
	}
	f := d.optional(func() (f *fault) {
		d.s.Relayed.Signer, f = d.address()
		return f
	}).in("signingAddress")
	*sp = d.member(start)
	return f
}

// relayedMetadata reads {signer, replacementNonce, cancelled}.
func (d *decoder) relayedMetadata() *fault {
	return d.optional(func() *fault {
		return d.object(func(name []byte, _ int) *fault { return d.metadataMember(string(name)) })
	}).in("metadata")
}

func (d *decoder) metadataMember(name string) *fault {
	switch name {
	case "signer":
		return d.optional(func() (f *fault) {
			d.s.Relayed.Signer, f = d.address()
			return f
		}).in(name)
	case "replacementNonce":
		return d.optional(func() *fault {
			n, f := d.number()
			d.s.Nonce = &n
			return f
		}).in(name)
	case "cancelled":
		return d.optional(func() (f *fault) {
			d.s.Relayed.cancelled, f = d.boolean()
			return f
		}).in(name)
	}
	return d.skip()
}

// decodeSubsidy reads the number of the block to subsidise.
func (d *decoder) decodeSubsidy() *fault {
	start := d.valueStart()
	n, f := d.number()
	if f != nil {
		return f.in("block")
	}
	d.s.Kind, d.s.TargetBlock, d.s.Params = KindSubsidy, n, d.input[start:d.offset()]
	return nil
}

// checkRelayed applies the first proxy's rules for its peers, in its order and words. To a cancel they don't apply, as
// in FlowProxy.
func (b *bundle) checkRelayed(cancel bool) *fault {
	refuse := func(text string) *fault { return &fault{code: CodeBundleFields, text: text} }
	switch {
	case cancel:
		return nil
	case b.version != versionV1 && b.version != versionV2:
		return refuse("invalid version")
	case len(b.refundTxs) > common.HashLength:
		return refuse("no more than one refund tx hash is allowed")
	case !b.hasAny(hasVersion):
		return refuse("version field should be set")
	case b.version == versionV2:
		return nil
	case len(b.dropping) > 0:
		return refuse("dropping tx hashes field should not be set")
	case b.hasAny(hasRefundPercent):
		return refuse("refund percent field should not be set")
	case b.hasAny(hasRefundRecipient):
		return refuse("refund recipient field should not be set")
	case len(b.refundTxs) > 0:
		return refuse("refund tx hashes field should not be set")
	}
	return nil
}
