package compare

import (
	"fmt"

	"github.com/holiman/uint256"

	"millrace/internal/engineapi/record"
)

// BuiltDifference is how a secondary's payload for the same attributes differs from the primary's.
// Differences are no faults: the two may have other transactions and another taste.
type BuiltDifference struct {
	// ValueUp says the secondary's payload is worth more; Value is by how many wei.
	ValueUp      bool        `json:"value_up"`
	Value        uint256.Int `json:"value"`
	Gas          int64       `json:"gas"`          // secondary minus primary
	Transactions int         `json:"transactions"` // secondary minus primary
	SameBlock    bool        `json:"same_block"`
}

// Built compares two built payloads.
func Built(primary, secondary *record.Built) BuiltDifference {
	d := BuiltDifference{
		ValueUp:      secondary.Value.Gt(&primary.Value),
		Gas:          int64(secondary.GasUsed) - int64(primary.GasUsed), //nolint:gosec // gas is far below 2^63
		Transactions: secondary.Transactions - primary.Transactions,
		SameBlock:    secondary.Hash == primary.Hash,
	}
	if d.ValueUp {
		d.Value.Sub(&secondary.Value, &primary.Value)
	} else {
		d.Value.Sub(&primary.Value, &secondary.Value)
	}
	return d
}

// String is the difference in a few words.
func (d BuiltDifference) String() string {
	sign := "-"
	if d.ValueUp {
		sign = "+"
	}
	return fmt.Sprintf("value %s%s wei, gas %+d, transactions %+d", sign, d.Value.Dec(), d.Gas, d.Transactions)
}
