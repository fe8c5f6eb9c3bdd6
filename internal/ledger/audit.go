package ledger

import (
	"cmp"
	"fmt"
	"slices"

	"millrace/internal/order"
)

// Audit checks the promise: exactly one terminal record per acceptance and target, or one record
// for all targets. It keeps about 100 bytes per acceptance, so it is meant for a bounded span of the
// ledger. Not safe for concurrent use.
type Audit struct {
	targets []string // as seen; index 0 is AnyTarget
	ends    map[order.AcceptID][]end
	owed    map[order.AcceptID]bool
}

type end struct {
	target  uint16
	outcome Outcome
}

// Violation is one broken promise.
type Violation struct {
	Accept order.AcceptID
	// Target is whose records are wrong; AnyTarget: the record for all of them.
	Target string
	// Outcomes are the records that there are; none: a record is missing.
	Outcomes []Outcome
}

// String says what is wrong.
func (v Violation) String() string {
	if len(v.Outcomes) == 0 {
		return fmt.Sprintf("%s: no record for target %s", v.Accept, v.Target)
	}
	return fmt.Sprintf("%s: %d records for target %s: %v", v.Accept, len(v.Outcomes), v.Target, v.Outcomes)
}

// NewAudit returns an audit of nothing yet.
func NewAudit() *Audit {
	return &Audit{targets: []string{AnyTarget}, ends: map[order.AcceptID][]end{}, owed: map[order.AcceptID]bool{}}
}

// Owe says that an order was accepted. Without it only what has a record is checked.
func (a *Audit) Owe(id order.AcceptID) { a.owed[id] = true }

// Add takes one batch of the given target's records (AnyTarget: of those that ended before OK).
func (a *Audit) Add(target string, batch []byte) error {
	es, err := Decode(batch)
	if err != nil {
		return fmt.Errorf("records of %s: %w", target, err)
	}
	t := slices.Index(a.targets, target)
	if t < 0 {
		t = len(a.targets)
		a.targets = append(a.targets, target)
	}
	for i := range es {
		id := es[i].Accept
		a.ends[id] = append(a.ends[id], end{target: uint16(t), outcome: es[i].Outcome}) //nolint:gosec // few targets
	}
	return nil
}

// Counts returns how many records there are of each outcome.
func (a *Audit) Counts() map[Outcome]int {
	counts := map[Outcome]int{}
	for _, es := range a.ends {
		for _, e := range es {
			counts[e.outcome]++
		}
	}
	return counts
}

// Violations returns every broken promise, by acceptance and target. owed are the targets that must
// have a record; for any other target that was added, one is allowed and two are not.
func (a *Audit) Violations(owed ...string) []Violation {
	var vs []Violation
	for id := range a.owed {
		if len(a.ends[id]) == 0 {
			vs = append(vs, Violation{Accept: id, Target: AnyTarget})
		}
	}
	for id, es := range a.ends {
		vs = append(vs, a.check(id, es, owed)...)
	}
	slices.SortFunc(vs, func(x, y Violation) int {
		return cmp.Or(slices.Compare(x.Accept[:], y.Accept[:]), cmp.Compare(x.Target, y.Target))
	})
	return vs
}

func (a *Audit) check(id order.AcceptID, es []end, owed []string) []Violation {
	by := map[string][]Outcome{}
	for _, e := range es {
		by[a.targets[e.target]] = append(by[a.targets[e.target]], e.outcome)
	}
	var vs []Violation
	early := by[AnyTarget]
	for target, outcomes := range by {
		if len(outcomes) > 1 || (target != AnyTarget && len(early) > 0) {
			vs = append(vs, Violation{Accept: id, Target: target, Outcomes: outcomes})
		}
	}
	for _, target := range owed {
		if len(early) == 0 && len(by[target]) == 0 {
			vs = append(vs, Violation{Accept: id, Target: target})
		}
	}
	return vs
}
