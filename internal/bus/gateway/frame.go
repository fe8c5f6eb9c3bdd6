package gateway

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"millrace/internal/rpcapi"
)

// Errors of frames.
var (
	errFrame = errors.New("unreadable frame")
	errLong  = errors.New("a text is too long for a frame")
)

const (
	callVersion  = 1
	answerMarker = 1 // a whole result is an answer,
	nodeMarker   = 2 // what a node said with an error status,
	errorMarker  = 3 // or why there is none
)

// callID names a call: who asks, and its number there.
type callID struct{ process, number uint64 }

func (id callID) append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, id.process), id.number)
}

func decodeID(b []byte) (id callID, ok bool) {
	if len(b) != 16 {
		return id, false
	}
	return callID{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, true
}

// repeat says whether a call may be run twice.
type repeat uint8

const (
	repeatNever repeat = iota + 1
	repeatOnce
)

// wireCall is a call as it is stored.
type wireCall struct {
	id     callID
	repeat repeat
	inbox  string // of its answer
	call   rpcapi.Call
}

func (w *wireCall) append(b []byte) ([]byte, error) {
	c := &w.call
	if max(len(c.Method), len(c.RequestID), len(w.inbox)) > math.MaxUint16 {
		return nil, errLong
	}
	b = append(b, callVersion, byte(w.repeat), byte(c.Class), byte(c.Block.Kind))
	b = w.id.append(b)
	b = binary.BigEndian.AppendUint64(b, c.Block.Number)
	b = append(b, c.Block.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, c.Client)
	b = binary.BigEndian.AppendUint32(b, uint32(c.Node))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Received.UnixNano()))
	for _, s := range []string{w.inbox, c.Method, c.RequestID} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s))) //nolint:gosec // checked above
		b = append(b, s...)
	}
	return append(b, c.Body...), nil
}

// callHead is what stands before the texts.
const callHead = 4 + 16 + 8 + 32 + 8 + 4 + 8

// decodeCall reads a stored call, whose Body is part of b.
func decodeCall(b []byte) (w wireCall, err error) {
	if len(b) < callHead || b[0] != callVersion {
		return w, errFrame
	}
	c := &w.call
	w.repeat, c.Class, c.Block.Kind = repeat(b[1]), rpcapi.Class(b[2]), rpcapi.BlockKind(b[3])
	if w.repeat < repeatNever || w.repeat > repeatOnce || c.Class < rpcapi.FastTrack || c.Class > rpcapi.Low || c.Block.Kind > rpcapi.BlockFinalized {
		return wireCall{}, errFrame
	}
	w.id, _ = decodeID(b[4:20])
	c.Block.Number = binary.BigEndian.Uint64(b[20:])
	copy(c.Block.Hash[:], b[28:])
	c.Client = binary.BigEndian.Uint64(b[60:])
	c.Node = rpcapi.Tag(binary.BigEndian.Uint32(b[68:]))
	c.Received = time.Unix(0, int64(binary.BigEndian.Uint64(b[72:]))) //nolint:gosec // there and back
	b = b[callHead:]
	for _, s := range []*string{&w.inbox, &c.Method, &c.RequestID} {
		var ok bool
		if *s, b, ok = text(b); !ok {
			return wireCall{}, errFrame
		}
	}
	c.Body = b
	return w, nil
}

func text(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return "", nil, false
	}
	return string(b[2:n]), b[n:], true
}

// causes are the errors that travel, by their number, which never changes.
func causes() []error {
	return []error{
		rpcapi.ErrQueueFull, rpcapi.ErrQueueTimeout, rpcapi.ErrNodeTimeout, rpcapi.ErrNoNode, rpcapi.ErrUnreachable,
		rpcapi.ErrFilterNotFound, rpcapi.ErrAnswerTooLarge, rpcapi.ErrStopping,
	}
}

// ErrElsewhere is an error of the gateway that served the call, of no kind that callers know; it is in its log.
var ErrElsewhere = errors.New("the gateway that served the call could not")

// encodeResult writes how a call ended.
func encodeResult(a *rpcapi.Answer, err error) []byte {
	var b []byte
	var node *rpcapi.NodeError
	switch {
	case err == nil:
		return appendAnswer(append(b, answerMarker), a)
	case errors.As(err, &node):
		return appendAnswer(append(b, nodeMarker), &rpcapi.Answer{Status: node.Status, Body: node.Body, Node: node.Node, Tries: node.Tries})
	}
	for i, cause := range causes() {
		if errors.Is(err, cause) {
			return append(b, errorMarker, byte(i+1), byte(min(rpcapi.TriesOf(err), math.MaxUint8))) //nolint:gosec // bounded
		}
	}
	return append(b, errorMarker, 0, 0)
}

func appendAnswer(b []byte, a *rpcapi.Answer) []byte {
	var tag rpcapi.Tag
	var label string
	if a.Node != nil {
		tag, label = a.Node.Tag, a.Node.Label[:min(len(a.Node.Label), math.MaxUint16)]
	}
	for _, n := range []int{a.Status, a.Tries, a.QueueStart, a.QueueEnd} {
		b = binary.BigEndian.AppendUint32(b, uint32(max(n, 0))) //nolint:gosec // small counts
	}
	for _, n := range []uint64{a.Height, uint64(a.Queued), uint64(a.Served)} { //nolint:gosec // there and back
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(tag))
	b = binary.BigEndian.AppendUint16(b, uint16(len(label))) //nolint:gosec // cut above
	return append(append(b, label...), a.Body...)
}

// errorLength is of an error: its marker, its number and the tries.
const errorLength = 3

const answerHead = 4*4 + 3*8 + 4

// decodeResult reads how a call ended; a body is part of b.
func decodeResult(b []byte) (*rpcapi.Answer, error) {
	if len(b) == errorLength && b[0] == errorMarker {
		if all := causes(); b[1] > 0 && int(b[1]) <= len(all) {
			return nil, rpcapi.Tried(all[b[1]-1], int(b[2]))
		}
		return nil, ErrElsewhere
	}
	if len(b) < 1+answerHead || b[0] != answerMarker && b[0] != nodeMarker {
		return nil, errFrame
	}
	marker := b[0]
	b = b[1:]
	a := &rpcapi.Answer{}
	for i, n := range []*int{&a.Status, &a.Tries, &a.QueueStart, &a.QueueEnd} {
		*n = int(binary.BigEndian.Uint32(b[4*i:]))
	}
	a.Height = binary.BigEndian.Uint64(b[16:])
	a.Queued = time.Duration(binary.BigEndian.Uint64(b[24:])) //nolint:gosec // there and back
	a.Served = time.Duration(binary.BigEndian.Uint64(b[32:])) //nolint:gosec // there and back
	tag := rpcapi.Tag(binary.BigEndian.Uint32(b[40:]))
	label, body, ok := text(b[answerHead:])
	if !ok {
		return nil, errFrame
	}
	if tag != 0 || label != "" {
		a.Node = &rpcapi.Node{Tag: tag, Label: label}
	}
	a.Body = body
	if marker == nodeMarker {
		return nil, &rpcapi.NodeError{Status: a.Status, Body: body, Node: a.Node, Tries: a.Tries}
	}
	return a, nil
}
