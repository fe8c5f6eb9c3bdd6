package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"time"

	"millrace/internal/engineapi"
	calls "millrace/internal/engineapi/record"
)

// entriesOf are the two records of a call and its answer in a capture. Its tokens are gone, and whoever
// captured it saw the answers: what was answered with 200 may be replayed.
func entriesOf(p *calls.Pair, id calls.ID) (*calls.Request, *calls.Outcome) {
	var c engineapi.Call
	if found, batch, err := engineapi.ParseCalls(p.Request); err == nil && !batch {
		c = found[0]
	}
	c.Raw = p.Request
	q := calls.NewRequest(id, p.Time, c)
	q.Verified = p.HTTPStatus == http.StatusOK
	o := &calls.Outcome{
		ID: id, Method: q.Method, HTTPStatus: p.HTTPStatus, Result: engineapi.ParseResult(p.HTTPStatus, p.Answer),
		Duration: time.Duration(p.Micros) * time.Microsecond, Size: int64(len(p.Answer)), SHA256: sha256.Sum256(p.Answer),
		Eligible: p.HTTPStatus == http.StatusOK,
	}
	if q.Class == engineapi.ClassPayload {
		o.Built = calls.ParseBuilt(c.PayloadID(), p.Answer)
	}
	return q, o
}

// readCapture calls f with the records of each call in a file, and is how many calls there were. They are
// numbered here, under the epoch: of the numbers in the file nothing is known, and captures that were put
// one behind the other have the same ones twice.
// What the file says is missing is told to lost.
func readCapture(path string, epoch uint64, lost func(calls.Lost), f func(q *calls.Request, o *calls.Outcome) error) (n uint64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, usage(err)
	}
	defer file.Close() //nolint:errcheck // read only
	for p, err := range calls.ReadCapture(file, lost) {
		if err != nil {
			return n, fmt.Errorf("%s: %w", path, err)
		}
		n++
		q, o := entriesOf(&p, calls.ID{Epoch: epoch, Sequence: n})
		if err := f(q, o); err != nil {
			return n, err
		}
	}
	return n, nil
}

// captureRecord is a capture as a record, in memory. What it says is missing was told when it was opened.
type captureRecord struct{ entries []calls.Entry }

func openCapture(path string, lost func(calls.Lost)) (*captureRecord, error) {
	r := &captureRecord{}
	_, err := readCapture(path, 1, lost, func(q *calls.Request, o *calls.Outcome) error {
		for _, e := range []calls.Entry{{Request: q}, {Outcome: o}} {
			e.Stream, e.Stored = uint64(len(r.entries)+1), q.Received
			r.entries = append(r.entries, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Read calls f with each entry.
func (r *captureRecord) Read(_ context.Context, from uint64, f func(calls.Entry) error) error {
	for i := max(from, 1); i <= uint64(len(r.entries)); i++ {
		if err := f(r.entries[i-1]); err != nil {
			return err
		}
	}
	return nil
}

// Follow is not for a file.
func (r *captureRecord) Follow(context.Context, uint64, func(calls.Entry) error) error {
	return errNoFollow
}

// First is one.
func (r *captureRecord) First(context.Context) (uint64, error) { return 1, nil }

// Last is how many there are.
func (r *captureRecord) Last(context.Context) (uint64, error) { return uint64(len(r.entries)), nil }

// At is the first entry at or after t.
func (r *captureRecord) At(_ context.Context, t time.Time) (uint64, error) {
	for _, e := range r.entries {
		if !e.Stored.Before(t) {
			return e.Stream, nil
		}
	}
	return uint64(len(r.entries) + 1), nil
}

func (r *captureRecord) close() {}
