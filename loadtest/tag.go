package loadtest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
)

const (
	// TagSize is the length of an encoded tag, bytes: that of a transaction hash.
	TagSize = 32

	tagMagic    = "millrace"
	tagMagicHex = "6d696c6c72616365"
)

// Tag names one generated order: which run, which flow of it, and which order of the flow. It
// travels inside the order as 32 bytes that start with ASCII "millrace".
type Tag struct {
	Run  uint64 // from the seed, so that two runs against one store don't mix
	Flow uint16
	Seq  uint64 // below 2^48
}

// Bytes is the encoded tag.
func (t Tag) Bytes() [TagSize]byte {
	var b [TagSize]byte
	copy(b[:], tagMagic)
	binary.BigEndian.PutUint64(b[8:], t.Run)
	binary.BigEndian.PutUint64(b[16:], t.Seq)
	binary.BigEndian.PutUint16(b[16:], t.Flow)
	return b
}

// FindTag returns the first tag in body, which is JSON with hex in it; ok is false when there is
// none.
func FindTag(body []byte) (t Tag, ok bool) {
	i := bytes.Index(body, []byte(tagMagicHex))
	if i < 0 || len(body) < i+2*TagSize {
		return Tag{}, false
	}
	var b [TagSize]byte
	if _, err := hex.Decode(b[:], body[i:i+2*TagSize]); err != nil {
		return Tag{}, false
	}
	return Tag{
		Run:  binary.BigEndian.Uint64(b[8:]),
		Flow: binary.BigEndian.Uint16(b[16:]),
		Seq:  binary.BigEndian.Uint64(b[16:]) & (1<<48 - 1),
	}, true
}
