package enginelog

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"

	"millrace/internal/engineapi/record"
	"millrace/subjects"
)

// A frame is a record as the spool holds it: length and CRC-32C of the rest, then version, kind, epoch,
// sequence, when it was taken, the method and the encoded record. Numbers are big-endian.
const (
	frameHead    = 8 // length and checksum
	frameVersion = 1
	frameFixed   = 1 + 1 + 8 + 8 + 8 + 1
	// maxFrame bounds what a length may say: the largest request and what describes it.
	maxFrame = record.MaxRaw + 1<<20
	// maxMethod is how much of a method's name is kept for its subject; a longer one has none of its own.
	maxMethod = 64
)

// item is one record on its way to the stream.
type item struct {
	id     record.ID
	kind   subjects.EngineKind
	taken  time.Time
	method string
	body   []byte // of the message, chunks aside
}

// message is the id of the item's message, or of a part of it.
func (it *item) message(try, index int) subjects.EngineMessage {
	return subjects.EngineMessage{Epoch: it.id.Epoch, Sequence: it.id.Sequence, Kind: it.kind, Try: try, Index: index}
}

// subject is where the item's messages go.
func (it *item) subject() string {
	if it.kind == subjects.EngineOutcomeKind {
		return subjects.EngineOutcome(it.method)
	}
	return subjects.EngineCall(it.method)
}

// appendFrame appends the frame of it to b.
func appendFrame(b []byte, it *item) []byte {
	method := it.method[:min(len(it.method), maxMethod)]
	start := len(b)
	b = append(b, make([]byte, frameHead)...)
	b = append(b, frameVersion, byte(it.kind))
	b = binary.BigEndian.AppendUint64(b, it.id.Epoch)
	b = binary.BigEndian.AppendUint64(b, it.id.Sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(it.taken.UnixMicro()))
	b = append(b, byte(len(method))) //nolint:gosec // at most maxMethod
	b = append(b, method...)
	b = append(b, it.body...)
	payload := b[start+frameHead:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(payload))) //nolint:gosec // at most maxFrame, see the recorder
	binary.BigEndian.PutUint32(b[start+4:], checksum(payload))
	return b
}

// frameLength reads a frame's head and is the length of what follows. The error is errFrame for what
// can't be a frame's length.
func frameLength(head []byte) (n int, sum uint32, err error) {
	length := binary.BigEndian.Uint32(head)
	if length < frameFixed || length > maxFrame || length > math.MaxInt32 {
		return 0, 0, errFrame
	}
	return int(length), binary.BigEndian.Uint32(head[4:]), nil
}

// parseFrame reads what follows a frame's head; the item keeps payload. The error is errFrame.
func parseFrame(payload []byte, sum uint32) (*item, error) {
	if len(payload) < frameFixed || payload[0] != frameVersion ||
		checksum(payload) != sum {
		return nil, errFrame
	}
	it := &item{kind: subjects.EngineKind(payload[1])}
	it.id.Epoch = binary.BigEndian.Uint64(payload[2:])
	it.id.Sequence = binary.BigEndian.Uint64(payload[10:])
	it.taken = time.UnixMicro(int64(binary.BigEndian.Uint64(payload[18:]))) //nolint:gosec // as it was written
	n := int(payload[26])
	if n > len(payload)-frameFixed || !it.kind.Valid() {
		return nil, errFrame
	}
	it.method = string(payload[frameFixed : frameFixed+n])
	it.body = payload[frameFixed+n:]
	return it, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
