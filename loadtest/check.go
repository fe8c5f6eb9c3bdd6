package loadtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/order"
)

// Break is a promise that a check found broken.
type Break string

// The breaks.
const (
	BreakLost           Break = "accepted_without_record"    // a success, and no terminal record
	BreakTwoRecords     Break = "two_records"                // an acceptance with two records for one target
	BreakNoReceipt      Break = "delivered_without_receipt"  // recorded delivered, never seen by the sink
	BreakNotRecorded    Break = "taken_but_not_delivered"    // the sink took it, the record says otherwise
	BreakTwice          Break = "taken_twice_unmarked"       // a second delivery without the repeat mark
	BreakManyRepeats    Break = "more_repeats_than_window"   // more orders delivered twice than may be in flight
	BreakInvalid        Break = "refused_order_delivered"    // told the sender no, and delivered it
	BreakNonce          Break = "nonce_not_increasing"       // an older replacement after a newer one
	BreakHash           Break = "hash_differs"               // the builder got another hash than the sender
	BreakInvalidPasses  Break = "invalid_order_passed"       // an order made invalid reached the builder
	BreakRecordOfNobody Break = "receipt_without_submission" // the sink got an order that nobody sent
)

// maxExamples bounds the examples kept per break.
const maxExamples = 5

// Expect says what a check may assume.
type Expect struct {
	// Targets were configured when the orders were validated; each acceptance owes each a record.
	Targets []string
	// Window is how many orders may have reached the sink twice: the in-flight window of each
	// process that was killed.
	Window int
	// NoLedger judges by receipts alone, as for a proxy that keeps no records: then every accepted
	// order must have been taken, or a newer one of its signer and replacement key.
	NoLedger bool
}

// Verification is the outcome of a check.
type Verification struct {
	Accepted   int            `json:"accepted"`             // orders with a success
	Acceptance int            `json:"acceptances"`          // distinct acceptances in the ledger
	Records    int            `json:"records"`              // of these orders
	Taken      int            `json:"taken"`                // orders that the sink took at least once
	Repeated   int            `json:"repeated"`             // orders that the sink took more than once
	Untagged   int            `json:"untagged"`             // receipts without a tag
	Late       int            `json:"unknown_but_stored"`   // orders without an answer that have a record all the same
	Overtaken  int            `json:"taken_but_superseded"` // orders that the sink took before a kill, and whose record names the newer one
	Superseded int            `json:"superseded_presumed"`  // orders that the sink never took, but a newer one that replaces them; without a ledger only
	Outcomes   map[string]int `json:"outcomes"`             // records by outcome

	Breaks   map[Break]int      `json:"breaks,omitempty"`
	Examples map[Break][]string `json:"examples,omitempty"`
}

// OK reports whether no promise was broken.
func (v *Verification) OK() bool { return len(v.Breaks) == 0 }

// Err is nil or an error that names each break and its first example.
func (v *Verification) Err() error {
	if v.OK() {
		return nil
	}
	var text strings.Builder
	for _, b := range slices.Sorted(maps.Keys(v.Breaks)) {
		fmt.Fprintf(&text, "; %s: %d, such as %q", b, v.Breaks[b], v.Examples[b])
	}
	return fmt.Errorf("%w%s", ErrViolations, text.String())
}

func (v *Verification) found(b Break, format string, args ...any) {
	v.Breaks[b]++
	v.example(b, format, args...)
}

func (v *Verification) example(b Break, format string, args ...any) {
	if len(v.Examples[b]) < maxExamples {
		v.Examples[b] = append(v.Examples[b], fmt.Sprintf(format, args...))
	}
}

// fate is all that is known about one generated order.
type fate struct {
	results  []Result
	receipts []Receipt
	records  []Record
}

// Check holds results, receipts and ledger records of one run against each other. Orders of other
// runs are left out; the caller waits until the pipeline has settled (see Trial.Settle).
func Check(sent []Result, receipts []Receipt, records []Record, want Expect) *Verification {
	v := &Verification{Outcomes: map[string]int{}, Breaks: map[Break]int{}, Examples: map[Break][]string{}}
	fates := gather(v, sent, receipts, records)
	var taken map[replacement]uint64
	if want.NoLedger { // else the records tell what was superseded
		taken = newest(fates)
	}
	for tag, f := range fates {
		v.judge(tag, f, want, taken)
	}
	if v.Repeated+v.Overtaken > want.Window {
		v.Breaks[BreakManyRepeats] = v.Repeated
	} else {
		delete(v.Examples, BreakManyRepeats)
	}
	v.nonces(fates, receipts)
	return v
}

// gather joins the three by tag; records are joined through the hash that the door answered or that
// the sink saw.
func gather(v *Verification, sent []Result, receipts []Receipt, records []Record) map[Tag]*fate {
	fates := make(map[Tag]*fate, len(sent))
	byHash := make(map[common.Hash]*fate, len(sent))
	for _, r := range sent {
		f := fates[r.Tag]
		if f == nil {
			f = &fate{}
			fates[r.Tag] = f
		}
		f.results = append(f.results, r)
		if r.Hash != (common.Hash{}) {
			byHash[r.Hash] = f
		}
	}
	for _, r := range receipts {
		f := fates[r.Tag]
		switch {
		case !r.Tagged:
			v.Untagged++
		case f == nil:
			if len(sent) > 0 && r.Tag.Run == sent[0].Tag.Run {
				v.found(BreakRecordOfNobody, "%+v", r.Tag)
			}
		default:
			f.receipts = append(f.receipts, r)
			if r.Hash != (common.Hash{}) && byHash[r.Hash] == nil {
				byHash[r.Hash] = f
			}
		}
	}
	for _, r := range records {
		if f := byHash[r.Hash]; f != nil {
			f.records = append(f.records, r)
			v.Records++
			v.Outcomes[r.Outcome]++
		}
	}
	return fates
}

func (v *Verification) judge(tag Tag, f *fate, want Expect, newest map[replacement]uint64) {
	accepted, refused := f.answers()
	taken := f.taken()
	if accepted {
		v.Accepted++
	}
	if taken > 0 {
		v.Taken++
	}
	if taken > 1 {
		v.Repeated++
		v.example(BreakManyRepeats, "%+v %s taken at %s", tag, f.results[0].Shape, f.times())
	}
	if !accepted && len(f.records) > 0 {
		v.Late++
	}
	if refused && !accepted && taken > 0 {
		v.found(BreakInvalid, "%+v: %s", tag, f.results[0].Reason)
	}
	if f.results[0].Shape == ShapeInvalid && taken > 0 {
		v.found(BreakInvalidPasses, "%+v", tag)
	}
	v.repeats(tag, f)
	v.hashes(tag, f)
	if want.NoLedger {
		switch {
		case !accepted || taken > 0:
		case f.results[0].Nonce < newest[f.replaces()]:
			v.Superseded++
		default:
			v.found(BreakLost, "%+v", tag)
		}
		return
	}
	v.account(tag, f, want, accepted, taken)
}

// account checks the records of one order: each acceptance has exactly one per target, and they
// agree with what the sink saw.
func (v *Verification) account(tag Tag, f *fate, want Expect, accepted bool, taken int) {
	if accepted && len(f.records) == 0 {
		r := f.results[0]
		v.found(BreakLost, "%+v %s hash %s answered %s, taken %d times", tag, r.Shape, r.Hash, r.Done.UTC().Format("15:04:05.000"), taken)
		return
	}
	if taken > 0 && len(f.records) == 0 && f.named() {
		v.found(BreakNotRecorded, "%+v answered %s has no record", tag, f.results[0].Answer)
	}
	delivered, mayBeTaken, superseded := false, false, false
	per := map[string]map[string]int{}
	for _, r := range f.records {
		if per[r.Accept] == nil {
			per[r.Accept] = map[string]int{}
			v.Acceptance++
		}
		per[r.Accept][r.Target]++
		delivered = delivered || r.Outcome == "delivered"
		superseded = superseded || r.Outcome == "superseded"
		mayBeTaken = mayBeTaken || r.Outcome == "delivered" || r.Ambiguous
	}
	for accept, targets := range per {
		v.owed(tag, accept, targets, want.Targets)
	}
	if delivered && taken == 0 {
		v.found(BreakNoReceipt, "%+v hash %s", tag, f.records[0].Hash)
	}
	// Whether the target had taken an order when its owner was killed is what nobody knows; when a
	// newer one of its key was delivered since, that is what the record says.
	if superseded && taken > 0 && !mayBeTaken && want.Window > 0 {
		v.Overtaken++
		return
	}
	if taken > 0 && !mayBeTaken && len(f.records) > 0 {
		v.found(BreakNotRecorded, "%+v hash %s is %s", tag, f.records[0].Hash, f.records[0].Outcome)
	}
}

func (v *Verification) owed(tag Tag, accept string, got map[string]int, targets []string) {
	for target, n := range got {
		if n > 1 || target != AnyTarget && got[AnyTarget] > 0 {
			v.found(BreakTwoRecords, "%+v accept %s: %v", tag, accept, got)
			return
		}
	}
	if got[AnyTarget] > 0 {
		return
	}
	for _, target := range targets {
		if got[target] == 0 {
			v.found(BreakLost, "%+v accept %s has no record for %s", tag, accept, target)
		}
	}
}

// repeats checks that every success of the sink after the first was marked as a possible repeat.
func (v *Verification) repeats(tag Tag, f *fate) {
	seen := false
	for _, r := range f.receipts {
		if !r.Taken() {
			continue
		}
		if seen && !r.Repeat {
			v.found(BreakTwice, "%+v at %s", tag, r.At.UTC().Format("15:04:05.000"))
		}
		seen = true
	}
}

func (v *Verification) hashes(tag Tag, f *fate) {
	for _, a := range f.results {
		for _, r := range f.receipts {
			if a.Hash != (common.Hash{}) && r.Hash != (common.Hash{}) && a.Hash != r.Hash {
				v.found(BreakHash, "%+v answered %s, delivered %s", tag, a.Hash, r.Hash)
				return
			}
		}
	}
}

// nonces checks that per signer and replacement key the sink took rising nonces. A marked repeat may
// come after a newer one: whether the target has it already is what nobody knew.
func (v *Verification) nonces(fates map[Tag]*fate, receipts []Receipt) {
	highest := map[replacement]uint64{}
	for _, r := range receipts {
		f := fates[r.Tag]
		if f == nil || !r.Taken() || f.results[0].UUID.IsZero() {
			continue
		}
		k, nonce := f.replaces(), f.results[0].Nonce
		if nonce <= highest[k] && !r.Repeat {
			v.found(BreakNonce, "%s %s: %d after %d", k.signer, k.uuid, nonce, highest[k])
		}
		highest[k] = max(highest[k], nonce)
	}
}

// replacement is what the orders have in common of which the newest counts.
type replacement struct {
	signer common.Address
	uuid   order.UUID
}

// replaces is what the order replaces; without a replacement key it can't be replaced.
func (f *fate) replaces() replacement {
	return replacement{f.results[0].Signer, f.results[0].UUID}
}

// newest is the highest nonce that the sink took of each replacement key.
func newest(fates map[Tag]*fate) map[replacement]uint64 {
	highest := map[replacement]uint64{}
	for _, f := range fates {
		if k := f.replaces(); !k.uuid.IsZero() && f.taken() > 0 {
			highest[k] = max(highest[k], f.results[0].Nonce)
		}
	}
	return highest
}

func (f *fate) answers() (accepted, refused bool) {
	for _, r := range f.results {
		accepted = accepted || r.Answer == AnswerAccepted
		refused = refused || r.Answer == AnswerRefused
	}
	return accepted, refused
}

func (f *fate) taken() int {
	n := 0
	for _, r := range f.receipts {
		if r.Taken() {
			n++
		}
	}
	return n
}

// times are when the sink took the order, with a star when it was marked as a repeat.
func (f *fate) times() string {
	var b strings.Builder
	for _, r := range f.receipts {
		if !r.Taken() {
			continue
		}
		b.WriteString(r.At.UTC().Format(" 15:04:05.000"))
		if r.Repeat {
			b.WriteByte('*')
		}
	}
	return b.String()
}

// named reports whether the order's public id is known, without which no record can be found.
func (f *fate) named() bool {
	for _, r := range f.receipts {
		if r.Hash != (common.Hash{}) {
			return true
		}
	}
	return f.results[0].Hash != (common.Hash{})
}
