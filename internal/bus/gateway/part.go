package gateway

import (
	"encoding/binary"

	"millrace/internal/rpcapi"
)

const (
	partVersion = 1
	partHead    = 9
)

// part is a message to who offered a call; a count of zero says no more than that somebody is at work.
type part struct {
	server       uint32 // a number of this run of the call
	index, count uint16
	data         []byte
}

func (p *part) append(b []byte) []byte {
	b = append(b, partVersion)
	b = binary.BigEndian.AppendUint32(b, p.server)
	b = binary.BigEndian.AppendUint16(b, p.index)
	b = binary.BigEndian.AppendUint16(b, p.count)
	return append(b, p.data...)
}

func decodePart(b []byte) (p part, ok bool) {
	if len(b) < partHead || b[0] != partVersion {
		return p, false
	}
	p = part{binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint16(b[5:]), binary.BigEndian.Uint16(b[7:]), b[partHead:]}
	return p, p.index < max(p.count, 1)
}

// schedule is where the serving order of the classes stands.
type schedule struct {
	fast, others int // served since the last high one, low one
}

// next is in which order the classes are asked for the next call.
func (s *schedule) next(o *Order) [rpcapi.Classes]rpcapi.Class {
	high := o.Drain != DrainFirst && s.fast >= o.FastPerHigh
	low := o.LowEvery > 0 && s.others >= o.LowEvery
	switch {
	case low && high:
		return [...]rpcapi.Class{rpcapi.Low, rpcapi.High, rpcapi.FastTrack}
	case low:
		return [...]rpcapi.Class{rpcapi.Low, rpcapi.FastTrack, rpcapi.High}
	case high:
		return [...]rpcapi.Class{rpcapi.High, rpcapi.FastTrack, rpcapi.Low}
	default:
		return [...]rpcapi.Class{rpcapi.FastTrack, rpcapi.High, rpcapi.Low}
	}
}

// served counts a call that was taken.
func (s *schedule) served(c rpcapi.Class) {
	switch c {
	case rpcapi.FastTrack:
		s.fast++
		s.others++
	case rpcapi.High:
		s.fast = 0
		s.others++
	default:
		s.fast, s.others = 0, 0
	}
}
