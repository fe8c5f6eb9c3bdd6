package order

import "errors"

// Code is why an order was refused: a closed set, so it may be a metric label and a ledger field.
type Code uint8

// The codes. Their texts are go-ethereum's txpool texts where it has one.
const (
	CodeMalformed Code = iota + 1
	CodeUnsupportedType
	CodeBadSender
	CodeChainID
	CodeGasLimit
	CodeIntrinsicGas
	CodeTipAboveFeeCap
	CodeInitCodeSize
	CodeBlobHashes
	CodeBlobSidecar
	CodeAuthList
	CodeTxCount
	CodeBundleFields
	CodeEmptyBundle
	CodeNonceConflict
	CodeExpired
	CodeOversized
	CodePoisoned
)

var codeNames = [...]string{
	"", "malformed", "unsupported_type", "bad_sender", "chain_id", "gas_limit", "intrinsic_gas",
	"tip_above_fee_cap", "init_code_size", "blob_hashes", "blob_sidecar", "auth_list", "tx_count",
	"bundle_fields", "empty_bundle", "nonce_conflict", "expired", "oversized", "poisoned",
}

// String is the code as a metric label.
func (c Code) String() string { return nameOf(codeNames[:], uint8(c)) }

// Codes lists every code, so that metrics can create each label value at start.
func Codes() []Code {
	cs := make([]Code, 0, len(codeNames)-1)
	for i := 1; i < len(codeNames); i++ {
		cs = append(cs, Code(i))
	}
	return cs
}

// Reason is a refusal: the order itself is at fault, sending it again can't help. It is an error,
// and as a returned error it means "refused", never "try again".
type Reason struct { //nolint:errname // the domain's word; ledgers and verdicts carry it as a value
	Code Code
	// Text is shown to the sender and stored in the ledger.
	Text string
}

// Refuse returns a refusal with the given text.
func Refuse(c Code, text string) *Reason { return &Reason{Code: c, Text: text} }

// Error is the text for the sender.
func (r *Reason) Error() string { return r.Text }

// AsReason returns the refusal in err's chain, or nil.
func AsReason(err error) *Reason {
	r, _ := errors.AsType[*Reason](err)
	return r
}

// Errors of storing an order, shared by the door and the bus: each says what the sender may do.
var (
	// ErrFull: the class or the whole store has no room; the sender should retry later (503).
	ErrFull = errors.New("order store is full")
	// ErrUnavailable: whether the order was stored is unknown; the sender should retry (503).
	ErrUnavailable = errors.New("order store is unavailable")
	// ErrFenced: another process wrote the target's ledger; this one must stop delivering at once.
	ErrFenced = errors.New("another process owns this target")
	// ErrFingerprint: a target's name is already in use for another URL; an operator must say
	// which of the two is meant.
	ErrFingerprint = errors.New("target name belongs to another url")
)
