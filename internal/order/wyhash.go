package order

import (
	"encoding/binary"
	"math/bits"
)

// wyhash's constants (wyhash 0.6.0 for Rust, the first variant of the algorithm).
const (
	wyP0 = 0xa0761d6478bd642f
	wyP1 = 0xe7037ed1a0b428db
	wyP2 = 0x8ebc6af09c88c6e3
	wyP3 = 0x589965cc75374cc3
	wyP4 = 0x1d8e4e27c47d124f
	wyP5 = 0xeb44accab455d165

	wyBlock = 32
)

// wyhash is the streaming hasher that FlowProxy derives bundle hashes with. Every write is closed
// by itself, so the division into writes matters. The zero value is the seed 0.
type wyhash struct{ h, size uint64 }

// write feeds the bytes that Rust's Hash feeds in one call.
func (w *wyhash) write(b []byte) {
	w.size += uint64(len(b))
	h := w.h
	for ; len(b) >= wyBlock; b = b[wyBlock:] {
		h = wyMum(h^wyP0, wyMum(le64(b)^wyP1, le64(b[8:])^wyP2)^wyMum(le64(b[16:])^wyP3, le64(b[24:])^wyP4))
	}
	h ^= wyP0
	switch {
	case len(b) == 0:
	case len(b) <= 8:
		h = wyMum(h, wyRest(b)^wyP1)
	case len(b) <= 16:
		h = wyMum(swapped64(b)^h, wyRest(b[8:])^wyP2)
	case len(b) <= 24:
		h = wyMum(swapped64(b)^h, swapped64(b[8:])^wyP2) ^ wyMum(h, wyRest(b[16:])^wyP3)
	default:
		h = wyMum(swapped64(b)^h, swapped64(b[8:])^wyP2) ^ wyMum(swapped64(b[16:])^h, wyRest(b[24:])^wyP4)
	}
	w.h = h
}

// uint64 feeds an integer.
func (w *wyhash) uint64(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	w.write(b[:])
}

// bytes feeds a slice: its length, then its contents.
func (w *wyhash) bytes(b []byte) {
	w.uint64(uint64(len(b)))
	w.write(b)
}

// text feeds a string, which Rust closes with a byte that UTF-8 never has.
func (w *wyhash) text(b []byte) {
	w.write(b)
	w.write([]byte{0xff})
}

// sum is the hash so far; more may be written after it.
func (w *wyhash) sum() uint64 { return wyMum(w.h, w.size^wyP5) }

// wyMum folds the 128-bit product.
func wyMum(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// swapped64 reads 8 bytes as two little-endian halves, the first one high.
func swapped64(b []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(b))<<32 | uint64(binary.LittleEndian.Uint32(b[4:]))
}

// wyRest reads the last one to eight bytes.
func wyRest(b []byte) uint64 {
	short := func(b []byte) uint64 { return uint64(binary.LittleEndian.Uint16(b)) }
	long := func(b []byte) uint64 { return uint64(binary.LittleEndian.Uint32(b)) }
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return short(b)
	case 3:
		return short(b)<<8 | uint64(b[2])
	case 4:
		return long(b)
	case 5:
		return long(b)<<8 | uint64(b[4])
	case 6:
		return long(b)<<16 | uint64(b[5])<<8 | uint64(b[4])
	case 7:
		return long(b)<<24 | uint64(b[5])<<16 | uint64(b[4])<<8 | uint64(b[6])
	default:
		return swapped64(b)
	}
}
