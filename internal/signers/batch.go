package signers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/order"
)

// A batch is: version, 1 byte; origin, 8; sequence, 8, big endian; 1 to 64 records; HMAC-SHA256
// over all before it, 32. A record is the key, the transaction's hash and its sender. The version
// comes first for ever, so that old and new processes can run together.
const (
	batchVersion = 1
	maxRecords   = 64

	headSize   = 1 + 8 + 8
	recordSize = len(key{}) + common.HashLength + common.AddressLength
	macSize    = sha256.Size
)

// originID names one process life.
type originID [8]byte

// record is one entry on its way to the other processes.
type record struct {
	key key
	tx  order.TxInfo
}

// batch is a decoded view of a received message.
type batch struct {
	origin   originID
	sequence uint64
	records  []byte // whole records
	signed   []byte // what the code covers
	mac      []byte
}

// decodeBatch reads the shape of a message; it proves nothing about who sent it.
func decodeBatch(b []byte) (batch, error) {
	if len(b) == 0 {
		return batch{}, errMalformed
	}
	if b[0] != batchVersion {
		return batch{}, errVersion
	}
	records := len(b) - headSize - macSize
	if records <= 0 || records%recordSize != 0 || records/recordSize > maxRecords {
		return batch{}, errMalformed
	}
	end := headSize + records
	return batch{
		origin:   originID(b[1:9]),
		sequence: binary.BigEndian.Uint64(b[9:headSize]),
		records:  b[headSize:end],
		signed:   b[:end],
		mac:      b[end:],
	}, nil
}

// each calls f with every record.
func (b *batch) each(f func(record)) {
	for rest := b.records; len(rest) >= recordSize; rest = rest[recordSize:] {
		var r record
		n := copy(r.key[:], rest)
		n += copy(r.tx.Hash[:], rest[n:])
		copy(r.tx.From[:], rest[n:])
		f(r)
	}
}

// appendBatch appends the message that tells records to dst.
func appendBatch(dst []byte, from originID, sequence uint64, records []record, s sealer) []byte {
	start := len(dst)
	dst = append(dst, batchVersion)
	dst = append(dst, from[:]...)
	dst = binary.BigEndian.AppendUint64(dst, sequence)
	for i := range records {
		dst = append(dst, records[i].key[:]...)
		dst = append(dst, records[i].tx.Hash[:]...)
		dst = append(dst, records[i].tx.From[:]...)
	}
	return s.appendMAC(dst, dst[start:])
}

// sealer authenticates batches; nil: sharing is off.
type sealer []byte

// newSealer derives the key for one chain, so that two networks that were given one secret by
// mistake do not believe each other: the entries hold what was valid on one chain only.
func newSealer(secret []byte, chainID uint64) sealer {
	if len(secret) == 0 {
		return nil
	}
	m := hmac.New(sha256.New, secret)
	_, _ = m.Write([]byte("millrace signers v1 chain " + strconv.FormatUint(chainID, 10)))
	return m.Sum(nil)
}

func (s sealer) appendMAC(dst, signed []byte) []byte {
	m := hmac.New(sha256.New, s)
	_, _ = m.Write(signed)
	return m.Sum(dst)
}

// genuine compares in constant time.
func (s sealer) genuine(b *batch) bool {
	var buf [macSize]byte
	return hmac.Equal(s.appendMAC(buf[:0], b.signed), b.mac)
}
