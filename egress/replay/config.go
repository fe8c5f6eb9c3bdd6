package replay

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// As is whose part the replay plays.
type As uint8

// The parts.
const (
	AsIngress As = iota + 1 // a sender's, towards an order door
	AsBuilder               // ours, towards a builder
)

// ParseAs reads "ingress" or "builder".
func ParseAs(s string) (As, error) {
	switch s {
	case "ingress":
		return AsIngress, nil
	case "builder":
		return AsBuilder, nil
	}
	return 0, fmt.Errorf("%w: --as: %q is neither ingress nor builder", ErrConfig, s)
}

const (
	// LateAfter is how far behind its time an order may begin without counting as late.
	LateAfter = 10 * time.Millisecond
	// ReorderWindow is how far apart the classes' copies of one moment may lie in the record.
	ReorderWindow = 2 * time.Second

	defaultConnections = 64
	defaultTries       = 5
	defaultDrain       = 10 * time.Second
)

// Config says what is replayed and how. The zero value sends everything with its own signature as
// fast as it is answered; As is required.
type Config struct {
	As As
	// Speed scales the recorded spacing: 1 keeps it, 5 is five times as fast; 0: no spacing.
	Speed float64
	// Key signs what is sent; nil: as a sender the recorded signature, as a builder feed none here.
	Key *ecdsa.PrivateKey
	// ShiftTime moves minTimestamp and maxTimestamp by as much as the order is later than it was:
	// the whole seconds between its receipt and the time at which it is due now.
	ShiftTime bool
	// ShiftBlocks is added to every target block.
	ShiftBlocks int64
	// Filters choose the orders, see ParseFilter.
	Filters Filters
	Range   Range
	// Limit ends the replay after so many orders were chosen; 0: none.
	Limit int
	// Connections bounds the requests on the wire, default 64.
	Connections int
	// Tries bounds the requests for one order, default 5.
	Tries int
	// Drain bounds the wait for answers when the replay is broken off, default 10 s.
	Drain time.Duration
	// DryRun makes everything ready and sends nothing.
	DryRun bool
	// MaxTxs is orders.max_txs; ChainID names the rules that a builder feed is checked by.
	MaxTxs  int
	ChainID uint64
}

// ErrConfig is wrapped by every fault of a configuration.
var ErrConfig = errors.New("replay")

// Range says which part of the record is read; the zero value is all of it.
type Range struct {
	From  uint64    // first sequence in the record
	Since time.Time // received at or after
	Until time.Time // received before
}

// Validate reports every fault of c, joined.
func (c *Config) Validate() error {
	var errs []error
	fault := func(text string) { errs = append(errs, fmt.Errorf("%w: %s", ErrConfig, text)) }
	if c.As != AsIngress && c.As != AsBuilder {
		fault("neither as a sender nor as a builder feed")
	}
	if c.As == AsIngress && c.Key == nil && (c.ShiftTime || c.ShiftBlocks != 0) {
		fault("shifted times and blocks change the bytes, which the recorded signature does not fit any more: sign them anew (--resign) or replay --as builder")
	}
	if c.Speed < 0 || c.Speed > 1e6 {
		fault("the speed is not between 0 and a million")
	}
	if c.Connections < 0 || c.Connections > 65_536 || c.Tries < 0 || c.Drain < 0 || c.Limit < 0 {
		fault("connections, tries, drain and limit must not be negative, connections not above 65536")
	}
	if !c.Range.Until.IsZero() && !c.Range.Since.Before(c.Range.Until) {
		fault("the range ends before it begins")
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Connections == 0 {
		c.Connections = defaultConnections
	}
	if c.Tries == 0 {
		c.Tries = defaultTries
	}
	if c.Drain == 0 {
		c.Drain = defaultDrain
	}
	if c.ChainID == 0 {
		c.ChainID = 1
	}
	return c
}

// ParseRate reads "1x", "0.5x", "20x", or "max", which is a speed of 0.
func ParseRate(s string) (speed float64, err error) {
	if s == "max" {
		return 0, nil
	}
	number, ok := strings.CutSuffix(s, "x")
	speed, err = strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(speed > 0 && speed <= 1e6) {
		return 0, fmt.Errorf("%w: rate: %q is neither max nor a multiple like 1x or 5x", ErrConfig, s)
	}
	return speed, nil
}
