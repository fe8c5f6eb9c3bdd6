package compare

import (
	"strings"

	"github.com/ethereum/go-ethereum/common"
)

// HeadState is what a client shows of its head and of what lies behind it. Safe and Finalized are zero where it has none.
type HeadState struct {
	Number       uint64      `json:"number"`
	Hash         common.Hash `json:"hash"`
	StateRoot    common.Hash `json:"stateRoot"`
	ReceiptsRoot common.Hash `json:"receiptsRoot"`
	Safe         common.Hash `json:"safe"`
	Finalized    common.Hash `json:"finalized"`
}

// Heads compares what two clients show of one head, and says which of it differs. The reason names no values: it is the
// same one as long as the same things differ, whatever the head.
func Heads(primary, secondary HeadState) (Class, string) {
	if primary.Hash != secondary.Hash {
		return NotCompared, "the clients have different heads"
	}
	class, differs := OK, []string(nil)
	for _, f := range []struct {
		name  string
		same  bool
		class Class
	}{
		{"finalized", primary.Finalized == secondary.Finalized, Warn},
		{"safe", primary.Safe == secondary.Safe, Warn},
		// A hash stands for these: a client that shows others has lost or mixed up what it keeps.
		{"receiptsRoot", primary.ReceiptsRoot == secondary.ReceiptsRoot, Critical},
		{"stateRoot", primary.StateRoot == secondary.StateRoot, Critical},
		{"number", primary.Number == secondary.Number, Critical},
	} {
		if !f.same {
			class, differs = f.class, append(differs, f.name)
		}
	}
	if class == OK {
		return OK, ""
	}
	return class, "the same head with another " + strings.Join(differs, ", ")
}
