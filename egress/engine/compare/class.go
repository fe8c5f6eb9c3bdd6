package compare

import (
	"fmt"
	"net/http"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/engineapi"
)

// Class is what two answers to one call mean together.
type Class uint8

// The classes, from harmless to grave.
const (
	OK          Class = iota + 1 // the same
	NotCompared                  // one side was not asked, or its answer is not known
	Expected                     // different by design of the clients
	Lag                          // one side is behind
	Info                         // the primary is behind, or not deterministic
	Transient                    // the secondary is in trouble of its own
	Warn                         // different, may be a fault
	Config                       // the secondary is another version or set up differently
	Critical                     // the clients disagree about a block
)

var classNames = [...]string{
	"", "ok", "not_compared", "expected", "lag", "info", "transient", "warn", "config", "critical",
}

// Classes lists every class.
func Classes() []Class {
	return []Class{OK, NotCompared, Expected, Lag, Info, Transient, Warn, Config, Critical}
}

// String is the class as a metric label.
func (c Class) String() string {
	if c == 0 || int(c) >= len(classNames) {
		return fmt.Sprintf("unknown_%d", uint8(c))
	}
	return classNames[c]
}

// MarshalText is String.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Class) UnmarshalText(text []byte) error {
	for i, name := range classNames {
		if i > 0 && name == string(text) {
			*c = Class(i)
			return nil
		}
	}
	return fmt.Errorf("comparison class %.32q is not known", text)
}

// Divergent says whether the class is worth an event.
func (c Class) Divergent() bool { return c == Warn || c == Config || c == Critical }

// Call is what was asked, as far as the comparison depends on it.
type Call struct {
	// Block is the payload's hash, or the forkchoice's head.
	Block common.Hash
	// Attributes: the primary's forkchoice had attributes, which the secondary's has not.
	Attributes bool
}

// Of compares the primary's answer with the secondary's, and says why in a few words.
func Of(c Call, primary, secondary engineapi.Result) (Class, string) {
	switch {
	case !answered(primary):
		return NotCompared, "the primary's answer is not known"
	case secondary.HTTPStatus == 0 || secondary.HTTPStatus >= http.StatusInternalServerError:
		return Transient, "the secondary did not answer"
	case secondary.HTTPStatus != http.StatusOK:
		return Config, fmt.Sprintf("the secondary answered HTTP %d", secondary.HTTPStatus)
	case secondary.Malformed:
		return Transient, "the secondary's answer can't be read"
	case primary.Code != 0:
		return primaryFault(c, primary, secondary)
	case secondary.Code != 0:
		return secondaryFault(primary, secondary)
	}
	return statuses(c, primary, secondary)
}

func answered(r engineapi.Result) bool {
	return r.HTTPStatus == http.StatusOK && !r.Malformed
}

// primaryFault compares when the primary answered with an error.
func primaryFault(c Call, primary, secondary engineapi.Result) (Class, string) {
	if secondary.Code == primary.Code {
		return OK, ""
	}
	attributes := c.Attributes &&
		(primary.Code == engineapi.CodeInvalidAttributes || primary.Code == engineapi.CodeUnsupportedFork)
	why := fmt.Sprintf("the primary answered error %d, the secondary %s", primary.Code, words(secondary))
	switch {
	case secondary.Code != 0 && attributes:
		return OK, ""
	case secondary.Code != 0:
		return Info, why
	case attributes && secondary.Verdict() == engineapi.Valid:
		return Expected, why
	case attributes && secondary.Verdict() == engineapi.Undetermined:
		return OK, ""
	case secondary.Verdict() == engineapi.Invalid:
		return Warn, why
	case secondary.Verdict() == engineapi.Valid && deterministic(primary.Code):
		return Config, why
	}
	return Info, why
}

// secondaryFault compares when only the secondary answered with an error.
func secondaryFault(primary, secondary engineapi.Result) (Class, string) {
	why := fmt.Sprintf("the primary answered %s, the secondary error %d", words(primary), secondary.Code)
	if !deterministic(secondary.Code) {
		return Transient, why
	}
	return Config, why
}

// deterministic says whether asking again gives the same error.
func deterministic(code int) bool {
	return code != engineapi.CodeInternal && code != engineapi.CodeServer
}

func statuses(c Call, primary, secondary engineapi.Result) (Class, string) {
	p, s := primary.Verdict(), secondary.Verdict()
	switch {
	case p == s && p == engineapi.Undetermined:
		return OK, ""
	case p == s:
		return sameStatus(c, primary, secondary)
	}
	why := fmt.Sprintf("the primary answered %s, the secondary %s", words(primary), words(secondary))
	switch {
	case s == engineapi.Undetermined:
		return Lag, why
	case p == engineapi.Undetermined && s == engineapi.Valid:
		return Info, why
	case p == engineapi.Undetermined:
		return Warn, why
	}
	return Critical, why
}

// sameStatus compares the rest of two VALID or two INVALID answers.
func sameStatus(c Call, primary, secondary engineapi.Result) (Class, string) {
	if primary.Verdict() == engineapi.Invalid {
		if !sameInvalid(primary.LatestValid, secondary.LatestValid) {
			return Warn, "both refuse the block, with another latestValidHash"
		}
	} else if !validNames(c.Block, secondary.LatestValid) {
		return Critical, "the secondary's VALID names another latestValidHash than the block"
	} else if !validNames(c.Block, primary.LatestValid) {
		return Critical, "the primary's VALID names another latestValidHash than the block"
	}
	if p, s := primary.InclusionList, secondary.InclusionList; p != nil && s != nil && *p != *s {
		return Warn, "inclusionListSatisfied differs"
	}
	return OK, ""
}

// sameInvalid compares the latestValidHash of two refusals: null and zero match anything, the
// specification leaves it to the client how far it looks.
func sameInvalid(a, b *common.Hash) bool {
	none := func(h *common.Hash) bool { return h == nil || *h == common.Hash{} }
	return none(a) || none(b) || *a == *b
}

func validNames(block common.Hash, latest *common.Hash) bool {
	return latest != nil && *latest == block
}

func words(r engineapi.Result) string {
	if r.Code != 0 {
		return fmt.Sprintf("error %d", r.Code)
	}
	if r.Status == "" {
		return "no status"
	}
	return string(r.Status)
}
