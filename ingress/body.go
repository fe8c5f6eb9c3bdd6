package ingress

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

// The buffers' sizes. The first holds half of the published orders, the fifth a bundle with one blob:
// fresh memory of that size costs more than what is done with it. Bodies above the last pooled one
// are rare and allocated each time, so that the pools can't hold much.
const (
	bufferSteps   = 7
	pooledBuffers = 6
	gzipOverhead  = 64 << 10 // what a decompressor holds, charged to the byte budget
)

func bufferSize(step int) int {
	return [bufferSteps]int{8 << 10, 32 << 10, smallBody, 256 << 10, 512 << 10, 1 << 20, 4 << 20}[step]
}

// buffers are pools of body buffers, one per size, and of decompressors.
type buffers struct {
	pools [pooledBuffers]sync.Pool // of *[]byte with the step's capacity
	gzip  sync.Pool                // of *gzip.Reader
}

// body is one request's bytes, its buffer and its reservation.
type body struct {
	data []byte
	step int // of the buffer; bufferSteps: as large as allowed
	held int64
	gzip *gzip.Reader
}

// bodyReader reads bodies within the bounds of its policy.
type bodyReader struct {
	inflight *inflight
	buffers  buffers
}

// read fills b with r's plain body. Every error is one for faultOf. The caller calls release in
// any case.
func (br *bodyReader) read(b *body, w http.ResponseWriter, r *http.Request, p *policy) error {
	if r.ContentLength > p.MaxBody {
		return deny(deniedTooLarge, "body is larger than ingress.max_body")
	}
	var src io.Reader = http.MaxBytesReader(w, r.Body, p.MaxBody)
	step := 0
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		var err error
		if src, err = br.plain(b, src, encoding, p); err != nil {
			return err
		}
	} else {
		for step < 2 && int64(bufferSize(step)) <= r.ContentLength {
			step++
		}
	}
	if err := br.enlarge(b, step, p); err != nil {
		return err
	}
	return br.fill(b, src, w, p)
}

// plain returns a reader of the decompressed body.
func (br *bodyReader) plain(b *body, src io.Reader, encoding string, p *policy) (io.Reader, error) {
	if !p.Gzip || !strings.EqualFold(encoding, "gzip") {
		return nil, deny(deniedParse, "unsupported content encoding")
	}
	if !br.inflight.grow(b.held, b.held+gzipOverhead) {
		return nil, errBodyBytes()
	}
	b.held += gzipOverhead
	zr, ok := br.buffers.gzip.Get().(*gzip.Reader)
	if !ok {
		zr = new(gzip.Reader)
	}
	b.gzip = zr
	if err := zr.Reset(src); err != nil {
		return nil, readError(err)
	}
	return zr, nil
}

// fill reads src to its end. The deadline for the first smallBody bytes is the server's
// ReadTimeout; whatever is larger has to keep up min_body_rate.
func (br *bodyReader) fill(b *body, src io.Reader, w http.ResponseWriter, p *policy) error {
	start := time.Now()
	for {
		if len(b.data) == cap(b.data) {
			if int64(len(b.data)) > p.MaxBody {
				return deny(deniedTooLarge, "body is larger than ingress.max_body")
			}
			if err := br.enlarge(b, b.step+1, p); err != nil {
				return err
			}
			if cap(b.data) > smallBody {
				more := time.Duration(float64(cap(b.data)) / float64(p.MinBodyRate) * float64(time.Second))
				// A writer without deadlines has no slow client either (tests).
				_ = http.NewResponseController(w).SetReadDeadline(start.Add(p.BodyTimeout + more))
			}
		}
		n, err := src.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		if errors.Is(err, io.EOF) {
			return br.check(b, p)
		}
		if err != nil {
			return readError(err)
		}
	}
}

func (br *bodyReader) check(b *body, p *policy) error {
	if int64(len(b.data)) > p.MaxBody {
		return deny(deniedTooLarge, "body is larger than ingress.max_body")
	}
	return nil
}

// enlarge moves b's bytes into a buffer of the given step, or of the largest allowed size, once
// the bytes for it are reserved.
func (br *bodyReader) enlarge(b *body, step int, p *policy) error {
	size := int(p.MaxBody) + 1 // one more byte tells a body that is too large
	if step < bufferSteps && bufferSize(step) < size {
		size = bufferSize(step)
	} else {
		step = bufferSteps
	}
	held := b.held - int64(cap(b.data)) + int64(size)
	if !br.inflight.grow(b.held, held) {
		return errBodyBytes()
	}
	b.held = held
	next := br.take(step, size)
	next = append(next, b.data...)
	br.put(b)
	b.data, b.step = next, step
	return nil
}

func (br *bodyReader) take(step, size int) []byte {
	if step < pooledBuffers {
		if p, ok := br.buffers.pools[step].Get().(*[]byte); ok {
			return (*p)[:0]
		}
	}
	return make([]byte, 0, size)
}

// put gives b's buffer back to its pool.
func (br *bodyReader) put(b *body) {
	if b.step < pooledBuffers && cap(b.data) > 0 {
		buf := b.data[:0]
		br.buffers.pools[b.step].Put(&buf)
	}
	b.data = nil
}

// release ends b's use of memory; its bytes must not be touched any more.
func (br *bodyReader) release(b *body) {
	br.put(b)
	if b.gzip != nil {
		br.buffers.gzip.Put(b.gzip)
	}
	br.inflight.release(b.held)
	*b = body{}
}

func errBodyBytes() error { return deny(deniedBodyBytes, "too many bytes of orders in flight") }

// readError says whose fault a failed read was.
func readError(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return deny(deniedTooLarge, "body is larger than ingress.max_body")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return deny(deniedSlowBody, "body came too slowly")
	default:
		return deny(deniedParse, "body is truncated or not gzip")
	}
}
