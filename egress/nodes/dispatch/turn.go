package dispatch

import "millrace/internal/rpcapi"

// perClass has one value for each class; index 0 is not used.
type perClass[T any] [rpcapi.Classes + 1]T

// turn says whose turn it is: the counters of the serving order.
type turn struct {
	fastPerHigh, lowEvery int
	drainFast             bool

	fast   int // fast-track calls since a high one had its turn, or since none waited
	others int // calls of other classes since a low one was served, or since none waited
}

// next takes one turn: the class that is served, of those that have a call; 0 if none has.
func (t *turn) next(has perClass[bool]) rpcapi.Class {
	if has == (perClass[bool]{}) {
		return 0
	}
	if !has[rpcapi.FastTrack] {
		t.fast = 0
	}
	if !has[rpcapi.Low] {
		t.others = 0
	} else if t.lowEvery > 0 && t.others >= t.lowEvery {
		t.others = 0
		return rpcapi.Low
	}
	switch {
	case has[rpcapi.FastTrack] && (!t.yields() || !has[rpcapi.High]):
		t.others++
		return rpcapi.FastTrack
	case has[rpcapi.High]:
		t.others++
		return rpcapi.High
	default:
		t.others = 0
		return rpcapi.Low
	}
}

// yields counts a fast-track turn and says whether high calls go first this once. The turn is used up even when
// no high call is there to take it.
func (t *turn) yields() bool {
	if t.drainFast {
		return false
	}
	if t.fast++; t.fast <= t.fastPerHigh {
		return false
	}
	t.fast = 0
	return true
}
