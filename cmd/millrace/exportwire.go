package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"millrace/internal/ledger/export"
	"millrace/subjects"
)

// The export page is a stream of frames: four bytes of length, a byte that says what it is, then its
// parts, numbers as varints and everything else behind its length.
const (
	frameNone  = 'n' // nothing: there is no such log
	frameHead  = 'h' // first, last, created, node, its orders.max_txs
	frameOrder = 'o' // sequence, stored, body, then names and values of headers
	frameBatch = 'b' // sequence, stored, target, batch
	frameEnd   = 'e' // first, again: nothing was cut off

	// maxFrame bounds a frame: an order's largest body and its headers, with room.
	maxFrame = 64 << 20
)

var errFrame = errors.New("bad frame")

// frameWriter writes frames.
type frameWriter struct {
	out *bufio.Writer
	buf []byte
}

func (w *frameWriter) begin(kind byte) { w.buf = append(w.buf[:0], 0, 0, 0, 0, kind) }

func (w *frameWriter) number(n uint64) { w.buf = binary.AppendUvarint(w.buf, n) }

func (w *frameWriter) moment(t time.Time) { w.buf = binary.AppendVarint(w.buf, t.UnixNano()) }

func (w *frameWriter) part(b string) {
	w.number(uint64(len(b)))
	w.buf = append(w.buf, b...)
}

func (w *frameWriter) end() error {
	binary.BigEndian.PutUint32(w.buf, uint32(len(w.buf)-4)) //nolint:gosec // far below
	_, err := w.out.Write(w.buf)
	return err
}

func (w *frameWriter) head(s export.Span) error {
	w.begin(frameHead)
	w.number(s.First)
	w.number(s.Last)
	w.moment(s.Created)
	w.part(s.Node)
	w.number(uint64(max(s.MaxTxs, 0)))
	return w.end()
}

func (w *frameWriter) message(m *export.Message) error {
	if m.Order == nil {
		w.begin(frameBatch)
		w.number(m.Sequence)
		w.moment(m.StoredAt)
		w.part(m.Target)
		w.part(string(m.Batch))
		return w.end()
	}
	w.begin(frameOrder)
	w.number(m.Sequence)
	w.moment(m.StoredAt)
	w.number(uint64(len(m.Order.Body)))
	w.buf = append(w.buf, m.Order.Body...)
	for name, values := range subjects.EncodeOrder(m.Order) {
		w.part(name)
		w.part(values[0])
	}
	return w.end()
}

func (w *frameWriter) none() error {
	w.begin(frameNone)
	return errors.Join(w.end(), w.out.Flush())
}

func (w *frameWriter) finish(first uint64) error {
	w.begin(frameEnd)
	w.number(first)
	return errors.Join(w.end(), w.out.Flush())
}

// frame is one frame being read.
type frame struct {
	kind byte
	rest []byte
	bad  bool
}

// readFrame reads the next frame; io.ErrUnexpectedEOF when there is none, as the last is frameEnd.
// It is its own.
func readFrame(in *bufio.Reader) (frame, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > maxFrame {
		return frame{}, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	// What is there decides how much is taken, not what is announced.
	var b bytes.Buffer
	if got, err := io.CopyN(&b, in, int64(n)); err != nil {
		return frame{}, fmt.Errorf("%w: %d of %d bytes: %w", errFrame, got, n, io.ErrUnexpectedEOF)
	}
	return frame{kind: b.Bytes()[0], rest: b.Bytes()[1:]}, nil
}

func (f *frame) number() uint64 {
	n, size := binary.Uvarint(f.rest)
	return n & f.took(size)
}

func (f *frame) moment() time.Time {
	n, size := binary.Varint(f.rest)
	if f.took(size) == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// took moves on; its result is all ones, or zero when there was no number.
func (f *frame) took(size int) uint64 {
	if size <= 0 {
		f.bad, f.rest = true, nil
		return 0
	}
	f.rest = f.rest[size:]
	return ^uint64(0)
}

func (f *frame) part() []byte {
	n := f.number()
	if n > uint64(len(f.rest)) {
		f.bad, f.rest = true, nil
		return nil
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

// fault is nil when the frame had everything that was read, and nothing else.
func (f *frame) fault() error {
	if f.bad || len(f.rest) > 0 {
		return fmt.Errorf("%w of kind %q", errFrame, f.kind)
	}
	return nil
}

func (f *frame) span() (export.Span, error) {
	s := export.Span{First: f.number(), Last: f.number(), Created: f.moment(), Node: string(f.part())}
	s.MaxTxs = int(min(f.number(), math.MaxInt32))
	return s, f.fault()
}

// message reads an order or a batch. An order that can't be read is a message without one.
func (f *frame) message() (*export.Message, error) {
	m := &export.Message{Sequence: f.number(), StoredAt: f.moment()}
	if f.kind == frameBatch {
		m.Target, m.Batch = string(f.part()), f.part()
		return m, f.fault()
	}
	body, header := f.part(), map[string][]string{}
	for len(f.rest) > 0 {
		name := string(f.part())
		header[name] = []string{string(f.part())}
	}
	if err := f.fault(); err != nil {
		return nil, err
	}
	o, err := subjects.DecodeOrder(header, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	m.Order = o
	return m, nil
}
