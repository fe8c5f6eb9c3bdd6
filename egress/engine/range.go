package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi/record"
)

// Play is how a range is replayed.
type Play uint8

// The ways.
const (
	// PlayPath brings the client to the range's last forkchoice, as a secondary that was away.
	PlayPath Play = iota + 1
	// PlayVerbatim sends every eligible payload and forkchoice in order, without attributes.
	PlayVerbatim
	// PlayPayloads sends every payload once, with a forkchoice of our own after each Checkpoint.
	PlayPayloads
	// PlayBuild is PlayVerbatim with attributes, and asks for what the client built.
	PlayBuild
)

var playNames = [...]string{"", "path", "verbatim", "payload-only", "build"}

// String is the way as it is named on a command line.
func (p Play) String() string { return name(playNames[:], uint8(p)) }

// MarshalText is String.
func (p Play) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *Play) UnmarshalText(text []byte) error {
	for i, n := range playNames {
		if i > 0 && n == string(text) {
			*p = Play(i)
			return nil
		}
	}
	return fmt.Errorf("mode %.32q: expected path, verbatim, payload-only or build", text)
}

// Range is a closed part of the record and how to replay it.
type Range struct {
	Play Play
	// From and Until are positions in the record, both included; zero is open.
	From, Until uint64
	// After and Before bound the calls' arrival, the first included; zero is open.
	After, Before time.Time
	// Rate is the speed in multiples of the original; zero is as fast as the client answers.
	Rate float64
	// Identity, if set, is the chain that the client must be on.
	Identity *Identity
}

// Validate reports every fault.
func (g *Range) Validate() error {
	var errs []error
	if g.Play < PlayPath || g.Play > PlayBuild {
		errs = append(errs, errors.New("a range needs a mode"))
	}
	if g.Rate < 0 {
		errs = append(errs, fmt.Errorf("rate %v: expected zero or more", g.Rate))
	}
	if g.Until != 0 && g.Until < g.From {
		errs = append(errs, fmt.Errorf("the range ends at %d, before it begins at %d", g.Until, g.From))
	}
	if !g.Before.IsZero() && !g.After.IsZero() && !g.After.Before(g.Before) {
		errs = append(errs, errors.New("the range ends before it begins"))
	}
	return errors.Join(errs...)
}

// one says whether the range is a single call, to reproduce its answer.
func (g *Range) one() bool { return g.From != 0 && g.From == g.Until }

func (g *Range) holds(at uint64, received time.Time) bool {
	return at >= g.From && (g.Until == 0 || at <= g.Until) &&
		(g.After.IsZero() || !received.Before(g.After)) && (g.Before.IsZero() || received.Before(g.Before))
}

// Bounds of reading a range: how many times more calls than a live index may be held, and how far
// behind the end an outcome is looked for.
const (
	rangeCalls = 16
	rangeTail  = 4096
)

// errBehind ends the reading of a range.
var errBehind = errors.New("behind the range")

// loadRange is a tape of a range alone, as it is now.
func loadRange(ctx context.Context, cfg Config, g Range, log Log, clock Clock, logger *slog.Logger) (*Tape, error) {
	cfg.MaxCalls *= rangeCalls
	// Nothing is waited for: what has no outcome will not get one.
	cfg.OutcomeWait, cfg.VouchedWait = 0, 0
	t := NewTape(cfg, log, clock, logger)
	first, err := log.First(ctx)
	if err != nil {
		return nil, fmt.Errorf("oldest entry of the record: %w", err)
	}
	err = log.Read(ctx, max(g.From, first), func(e record.Entry) error {
		if g.Until != 0 && e.Stream > g.Until+rangeTail {
			return errBehind
		}
		if e.Request == nil || g.holds(e.Stream, e.Request.Received) {
			t.add(e)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errBehind) {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	return t, nil
}

// calls lists the range's calls by position.
func (t *Tape) calls() (calls []chain.Call, standings []chain.Standing) {
	t.look(func(x *chain.Index, now chain.Time) {
		for at := uint64(0); ; {
			c, s, ok := x.Next(at, now)
			if !ok {
				return
			}
			calls, standings, at = append(calls, c), append(standings, s), c.At
		}
	})
	return calls, standings
}
