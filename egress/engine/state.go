package engine

import (
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/egress/engine/chain"
)

// State is where a replayer stands with its client.
type State uint8

// The states.
const (
	// Probe asks the client who and where it is, again after each anomaly.
	Probe State = iota + 1
	// CatchUp sends what the client lacks, by a plan.
	CatchUp
	// Live sends each call as it is recorded. For the primary: it is in order, nothing is sent.
	Live
	// Follow feeds the newest payload and forkchoice to a client that syncs from its peers, or that
	// the record can't help.
	Follow
	// Halted sends nothing: the client is not one that may be called, for the reason given. It is asked
	// again from time to time.
	Halted
	// NeedsResync sends nothing: the client says VALID and does not get on. An operator has to wipe it,
	// or give it peers.
	NeedsResync
	// Diverged feeds the newest payload to a client that refuses a block which the primary took.
	Diverged
	// Observing only asks for the head.
	Observing
	// Off does nothing.
	Off
	// LiveOnly is Live or Follow of a client that is called with the consensus client's tokens: it gets
	// live calls and is not caught up.
	LiveOnly
)

var stateNames = [...]string{
	"", "probe", "catchup", "live", "follow", "halted", "needs_resync", "diverged", "observe", "off", "live_only",
}

// States lists every state.
func States() []State {
	return []State{Probe, CatchUp, Live, Follow, Halted, NeedsResync, Diverged, Observing, Off, LiveOnly}
}

// String is the state as a metric label.
func (s State) String() string { return name(stateNames[:], uint8(s)) }

// MarshalText is String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func name(names []string, i uint8) string {
	if i == 0 || int(i) >= len(names) {
		return fmt.Sprintf("unknown_%d", i)
	}
	return names[i]
}

// Mode is what a replayer may do with its client; it is switchable at run time.
type Mode uint8

// The modes.
const (
	// ModeFollow keeps the client at the head: attributes removed, getPayload skipped.
	ModeFollow Mode = iota + 1
	// ModeShadowBuild also lets it build: attributes kept in live calls, getPayload sent and compared.
	ModeShadowBuild
	// ModeObserve only reads its head.
	ModeObserve
	// ModeOff leaves it alone.
	ModeOff
)

var modeNames = [...]string{"", "follow", "shadow-build", "observe", "off"}

// AllModes lists every mode.
func AllModes() []Mode { return []Mode{ModeFollow, ModeShadowBuild, ModeObserve, ModeOff} }

// String is the mode as it is configured.
func (m Mode) String() string { return name(modeNames[:], uint8(m)) }

// MarshalText is String.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (m *Mode) UnmarshalText(text []byte) error {
	for i, n := range modeNames {
		if i > 0 && n == string(text) {
			*m = Mode(i)
			return nil
		}
	}
	return fmt.Errorf("mode %.32q: expected follow, shadow-build, observe or off", text)
}

// Role is a client's part.
type Role uint8

// The roles.
const (
	Secondary Role = iota + 1
	Primary
)

// String is the role in words.
func (r Role) String() string { return name([]string{"", "secondary", "primary"}, uint8(r)) }

// MarshalText is String.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Status is what a replayer knows at the moment.
type Status struct {
	Target string `json:"target"`
	Role   Role   `json:"role"`
	Mode   Mode   `json:"mode"`
	State  State  `json:"state"`
	// Reason says why the state is not Live; one of a small set of words, maybe followed by ": " and
	// particulars.
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"` // of the state
	// Head and Number are the client's, as far as its last answers tell.
	Head   common.Hash `json:"head"`
	Number uint64      `json:"number"`
	Cursor uint64      `json:"cursor"` // position of the last finished call
	// Want is the head of the last eligible forkchoice in the record.
	Want       common.Hash `json:"want"`
	WantNumber uint64      `json:"want_number,omitempty"`
	LagBlocks  uint64      `json:"lag_blocks"`
	// Oldest is the age of the oldest call that the client has not got, 0 without one.
	Oldest        time.Duration `json:"oldest_unreplayed_ns"`
	Gap           *chain.Gap    `json:"gap,omitempty"`
	ForeignWriter bool          `json:"foreign_writer,omitempty"`
	BreakerOpen   bool          `json:"breaker_open,omitempty"`
	Version       string        `json:"version,omitempty"` // the client's, raw JSON
}

// InSync says whether the client stands at the last eligible forkchoice: what a promotion asks for.
// The reason says why not.
func (s Status) InSync() (ok bool, reason string) {
	switch {
	case s.State != Live:
		return false, fmt.Sprintf("state is %s (%s)", s.State, s.Reason)
	case s.Want == common.Hash{}:
		return false, "the record has no forkchoice"
	case s.Head != s.Want:
		return false, fmt.Sprintf("head is %s, the last forkchoice names %s", s.Head, s.Want)
	}
	return true, ""
}
