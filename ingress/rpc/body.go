package rpc

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"

	"millrace/internal/jsonrpc"
	"millrace/internal/rpcapi"
)

const (
	// firstRead bounds what is reserved for a body on the word of its Content-Length alone.
	firstRead = 256 << 10
	// unknownLength is where a body begins to grow that does not say how long it is.
	unknownLength = 4 << 10
	// keptBody bounds what a message keeps for the body of the next one: most bodies fit, and a few large ones do not
	// stay in memory for many small ones.
	keptBody = 64 << 10
	// gzipOverhead is what a decompressor holds, charged to the budget.
	gzipOverhead = 64 << 10
)

// Errors of reading a body.
var (
	errTooLarge  = &refusal{reason: rpcapi.ReasonTooLarge, code: jsonrpc.CodeInvalidRequest, text: textTooLarge, status: http.StatusRequestEntityTooLarge}
	errTruncated = invalid(textParse, jsonrpc.CodeParse)
	errSlow      = &refusal{reason: rpcapi.ReasonInvalid, code: jsonrpc.CodeInvalidRequest, text: "request timeout", status: http.StatusRequestTimeout}
	errEncoding  = &refusal{reason: rpcapi.ReasonInvalid, code: jsonrpc.CodeInvalidRequest, text: "unsupported content encoding", status: http.StatusUnsupportedMediaType}
)

// budget bounds the bytes of all bodies in flight. Nobody waits for it: when it is used up, a request is refused.
type budget struct {
	total atomic.Int64
	inUse atomic.Int64
}

func (b *budget) grow(n int64) bool {
	if b.inUse.Add(n) <= b.total.Load() {
		return true
	}
	b.inUse.Add(-n)
	return false
}

// body is one request's bytes. They are used again by another one, when everybody who was given them has returned.
type body struct {
	data []byte
	room []byte // what data is in, unless it was too small; at most keptBody
	held int64  // of the budget
}

// read reads a body of at most limit bytes, and no byte behind them. The caller releases b.held in any case.
func (d *Door) read(b *body, r *http.Request, limit int64, gz Switch) error {
	size := r.ContentLength
	if size == 0 {
		return nil
	}
	if size > limit {
		return errTooLarge
	}
	src := io.Reader(r.Body)
	encoding := first(r.Header, "Content-Encoding")
	if gz == On && encoding != "" && encoding != "identity" {
		if !strings.EqualFold(encoding, "gzip") {
			return errEncoding
		}
		if !d.reserve(b, gzipOverhead) {
			return rpcapi.ErrQueueFull
		}
		zr, _ := d.unzippers.Get().(*gzip.Reader)
		if zr == nil {
			zr = new(gzip.Reader)
		}
		defer d.unzippers.Put(zr)
		// What the compressed bytes may be is bounded like what becomes of them.
		if err := zr.Reset(io.LimitReader(src, limit)); err != nil {
			return readError(err)
		}
		src, size = zr, -1
	}
	return d.fill(b, src, size, limit)
}

// fill reads src to its end, which is at size when that is not below 0.
func (d *Door) fill(b *body, src io.Reader, size, limit int64) error {
	next := min(size, firstRead)
	if size < 0 {
		next = min(unknownLength, limit+1)
	}
	if !d.reserve(b, next) {
		return rpcapi.ErrQueueFull
	}
	if int64(cap(b.room)) >= next {
		b.data = b.room[:0:next]
	} else {
		b.data = make([]byte, 0, next)
	}
	for {
		if len(b.data) == cap(b.data) {
			switch n := int64(len(b.data)); {
			case n == size:
				return nil // the server has seen the end: from here on it watches for the client to leave
			case n > limit:
				return errTooLarge
			default:
				if err := d.enlarge(b, size, limit); err != nil {
					return err
				}
			}
		}
		n, err := src.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		if errors.Is(err, io.EOF) {
			if int64(len(b.data)) > limit {
				return errTooLarge
			}
			return nil
		}
		if err != nil {
			return readError(err)
		}
	}
}

// enlarge doubles b's room, up to its size, or to one byte beyond limit, which tells a body that is too large.
func (d *Door) enlarge(b *body, size, limit int64) error {
	room := int64(cap(b.data))
	next := min(2*room, limit+1)
	if size >= 0 {
		next = min(2*room, size)
	}
	if !d.reserve(b, next-room) {
		return rpcapi.ErrQueueFull
	}
	b.data = append(make([]byte, 0, next), b.data...)
	return nil
}

func (d *Door) reserve(b *body, n int64) bool {
	if !d.budget.grow(n) {
		return false
	}
	b.held += n
	return true
}

// readError says whose fault a failed read was.
func readError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSlow
	}
	return errTruncated
}
