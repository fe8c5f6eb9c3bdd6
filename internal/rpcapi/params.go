package rpcapi

import (
	"bytes"
	"encoding/hex"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// place says where a method's parameters name the block that it reads.
type place struct {
	kind  placeKind
	index uint8 // of the parameter
}

type placeKind uint8

const (
	placeNowhere placeKind = iota + 1
	placeImplied           // always the head
	placeBlock             // a number, a tag, a hash, or an object of EIP-1898; the head when absent
	placeHash              // a block's hash
	placeRange             // a filter object
)

//nolint:gochecknoglobals // constants, if structs could be
var (
	nowhere    = place{kind: placeNowhere}
	implied    = place{kind: placeImplied}
	hashFirst  = place{kind: placeHash}
	rangeFirst = place{kind: placeRange}
)

func blockAt(index uint8) place { return place{kind: placeBlock, index: index} }

// Block is what a call with these parameters (a JSON array, or nothing) reads; of a range its last block. The zero
// Block: it reads none, or what it reads can't be told.
func (m Method) Block(params []byte) Block {
	switch m.place.kind {
	case placeImplied:
		return Block{Kind: BlockLatest}
	case placeBlock, placeHash, placeRange:
	default:
		return Block{}
	}
	r := read(params)
	defer r.release()
	v, ok := r.param(m.place.index)
	if !ok {
		return Block{}
	}
	return m.place.read(v).block
}

// reading is what a parameter says about the block.
type reading struct {
	block Block
	// canonical: an error is asked for as soon as the block is not part of the chain.
	canonical bool
	// from is where a range begins.
	from Block
}

// read understands a parameter, which may be absent; the zero reading: it does not.
func (p place) read(v []byte) reading {
	switch p.kind {
	case placeBlock:
		return readBlock(v)
	case placeHash:
		if b := readHash(v); b.Kind != 0 {
			return reading{block: b}
		}
	case placeRange:
		if len(v) > 0 {
			return readRange(v)
		}
	default:
	}
	return reading{}
}

func readBlock(v []byte) reading {
	switch {
	case isNull(v):
		return reading{block: Block{Kind: BlockLatest}}
	case v[0] == '{':
		return readObject(v)
	}
	if b := readHash(v); b.Kind != 0 {
		return reading{block: b}
	}
	return reading{block: readNumber(v)}
}

// readNumber reads a tag or a number: hexadecimal in a string, as the specification has it, or a bare integer, which
// some clients send.
func readNumber(v []byte) Block {
	s, ok := text(v)
	if !ok {
		n, err := strconv.ParseUint(string(v), 10, 64)
		if err != nil {
			return Block{}
		}
		return Block{Kind: BlockNumber, Number: n}
	}
	switch string(s) {
	case "latest":
		return Block{Kind: BlockLatest}
	case "pending":
		return Block{Kind: BlockPending}
	case "safe":
		return Block{Kind: BlockSafe}
	case "finalized":
		return Block{Kind: BlockFinalized}
	case "earliest":
		return Block{Kind: BlockEarliest}
	}
	digits, ok := bytes.CutPrefix(s, []byte("0x"))
	if !ok {
		return Block{}
	}
	n, ok := readHex(digits)
	if !ok {
		return Block{}
	}
	return Block{Kind: BlockNumber, Number: n}
}

func readHex(digits []byte) (uint64, bool) {
	if len(digits) == 0 || len(bytes.TrimLeft(digits, "0")) > 16 {
		return 0, false
	}
	var n uint64
	for _, c := range digits {
		d, ok := nibble(c)
		if !ok {
			return 0, false
		}
		n = n<<4 | uint64(d)
	}
	return n, true
}

func nibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	default:
		return 0, false
	}
}

func readHash(v []byte) Block {
	s, ok := text(v)
	if !ok || len(s) != 66 || s[0] != '0' || s[1] != 'x' {
		return Block{}
	}
	b := Block{Kind: BlockHash}
	if _, err := hex.Decode(b.Hash[:], s[2:]); err != nil {
		return Block{}
	}
	return b
}

// readObject reads an object of EIP-1898. A member that is not understood, or is there twice, makes all of it not
// understood.
func readObject(v []byte) reading {
	var number, hash, canonical []byte
	ok := eachMember(v, func(name string, value []byte) bool {
		switch name {
		case "blockNumber":
			return setOnce(&number, value)
		case "blockHash":
			return setOnce(&hash, value)
		case "requireCanonical":
			return setOnce(&canonical, value)
		default:
			return false
		}
	})
	if !ok || (isNull(number) == isNull(hash)) {
		return reading{}
	}
	if isNull(hash) {
		return reading{block: readNumber(number)}
	}
	b := readHash(hash)
	if b.Kind == 0 || (!isNull(canonical) && canonical[0] != 't' && canonical[0] != 'f') {
		return reading{}
	}
	return reading{block: b, canonical: !isNull(canonical) && canonical[0] == 't'}
}

func readRange(v []byte) reading {
	var from, to, hash []byte
	ok := eachMember(v, func(name string, value []byte) bool {
		switch name {
		case "fromBlock":
			return setOnce(&from, value)
		case "toBlock":
			return setOnce(&to, value)
		case "blockHash":
			return setOnce(&hash, value)
		default:
			return true
		}
	})
	if !ok {
		return reading{}
	}
	if !isNull(hash) {
		if !isNull(from) || !isNull(to) {
			return reading{}
		}
		b := readHash(hash)
		return reading{block: b, from: b}
	}
	ends := reading{block: Block{Kind: BlockLatest}, from: Block{Kind: BlockLatest}}
	if !isNull(from) {
		ends.from = readNumber(from)
	}
	if !isNull(to) {
		ends.block = readNumber(to)
	}
	if ends.from.Kind == 0 || ends.block.Kind == 0 {
		return reading{}
	}
	return ends
}

// setOnce keeps the first value and refuses another.
func setOnce(to *[]byte, value []byte) bool {
	if *to != nil {
		return false
	}
	*to = value
	return true
}

// eachMember calls f with the members of the object v until it returns false. It returns false then, and when v is
// no object or a name has escapes.
func eachMember(v []byte, f func(name string, value []byte) bool) bool {
	r := read(v)
	defer r.release()
	if !r.open(jsontext.KindBeginObject) {
		return false
	}
	for r.more() {
		name, ok := text(r.value())
		if !ok {
			return false
		}
		value := r.value()
		if value == nil || !f(string(name), value) {
			return false
		}
	}
	_, err := r.dec.ReadToken()
	return err == nil
}
