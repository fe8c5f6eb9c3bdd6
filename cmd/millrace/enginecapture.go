package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/ethereum/go-ethereum/common"

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
func readCapture(path string, epoch uint64, f func(q *calls.Request, o *calls.Outcome) error) (n uint64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, usage(err)
	}
	defer file.Close() //nolint:errcheck // read only
	for p, err := range calls.ReadPairs(file) {
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

// captureRecord is a capture as a record, in memory.
type captureRecord struct{ entries []calls.Entry }

func openCapture(path string) (*captureRecord, error) {
	r := &captureRecord{}
	_, err := readCapture(path, 1, func(q *calls.Request, o *calls.Outcome) error {
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

// engineExportCmd writes a capture.
type engineExportCmd struct {
	settings   `embed:""`
	engineFrom `embed:""`
	From       string `name:"from" help:"Calls since: a time, or how long ago."`
	Until      string `name:"until" help:"Calls before: a time, or how long ago."`
}

// Help is the long help text.
func (engineExportCmd) Help() string {
	return `Writes one JSON object per call: seq, ts, target, method, req, httpStatus, resp, durUs. The record keeps the requests whole and of the answers what comparing needs, so resp is rebuilt from that: status, latestValidHash, payloadId, error. Calls whose outcome is not known have no httpStatus. No token is in it.

Reads through a running process's admin listener (--admin, with the token in data/admin.token), from nats.url, or from --store.`
}

// Run writes the capture.
func (c *engineExportCmd) Run(ctx context.Context, a *app) error {
	c.localToken()
	from, err := c.open(ctx, a, &c.Keys)
	if err != nil {
		return err
	}
	defer from.close()
	start, until, err := bounds(ctx, from, c.From, c.Until)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(a.stdout)
	w := &captureWriter{out: out, until: until, open: map[calls.ID]*calls.Request{}}
	if err := from.Read(ctx, start, w.add); err != nil {
		return err
	}
	if err := w.rest(); err != nil {
		return err
	}
	return out.Flush()
}

// localToken uses the admin token of a process that runs here.
func (c *engineFrom) localToken() {
	if c.TokenFile == "" && exists("data/admin.token") {
		c.TokenFile = "data/admin.token"
	}
}

// bounds turns the times of flags into a place in the record and a time.
func bounds(ctx context.Context, r engineRecord, from, until string) (start uint64, end time.Time, err error) {
	now := time.Now()
	if start, err = r.First(ctx); err != nil {
		return 0, end, err
	}
	if from != "" {
		t, err := parseMoment("from", from, now)
		if err != nil {
			return 0, end, usage(err)
		}
		if start, err = r.At(ctx, t); err != nil {
			return 0, end, err
		}
	}
	if until != "" {
		if end, err = parseMoment("until", until, now); err != nil {
			return 0, end, usage(err)
		}
	}
	return start, end, nil
}

// captureWriter joins calls and outcomes, in the order of the calls.
type captureWriter struct {
	out   *bufio.Writer
	until time.Time
	open  map[calls.ID]*calls.Request // without an outcome yet
	order []calls.ID
	ended map[calls.ID]*calls.Outcome
	seq   uint64
	line  []byte
}

func (w *captureWriter) add(e calls.Entry) error {
	switch {
	case e.Request != nil && w.open[e.Request.ID] == nil && (w.until.IsZero() || e.Request.Received.Before(w.until)):
		w.open[e.Request.ID] = e.Request
		w.order = append(w.order, e.Request.ID)
	case e.Outcome != nil && w.open[e.Outcome.ID] != nil:
		if w.ended == nil {
			w.ended = map[calls.ID]*calls.Outcome{}
		}
		w.ended[e.Outcome.ID] = e.Outcome
	}
	// A call waits for those before it, but not for ever: one without an outcome must not hold all others in memory.
	for len(w.order) > 0 && (w.ended[w.order[0]] != nil || len(w.order) > maxAwaited) {
		if err := w.first(); err != nil {
			return err
		}
	}
	return nil
}

// maxAwaited is how many calls an export keeps while the outcome of an earlier one is missing.
const maxAwaited = 1024

func (w *captureWriter) rest() error {
	for len(w.order) > 0 {
		if err := w.first(); err != nil {
			return err
		}
	}
	return nil
}

// first writes the oldest call.
func (w *captureWriter) first() (err error) {
	id := w.order[0]
	w.order = w.order[1:]
	q, o := w.open[id], w.ended[id]
	delete(w.open, id)
	delete(w.ended, id)
	w.seq++
	p := calls.Pair{Seq: w.seq, Time: q.Received, Target: primaryName, Method: q.Method, Request: q.Raw}
	if o != nil {
		p.HTTPStatus, p.Micros = o.HTTPStatus, o.Duration.Microseconds()
		p.Answer = answerOf(q, o)
	}
	if w.line, err = p.AppendTo(w.line[:0]); err != nil {
		return err
	}
	_, err = w.out.Write(w.line)
	return err
}

// answerOf rebuilds an answer from what the record keeps of it; nil for what it can't say.
func answerOf(q *calls.Request, o *calls.Outcome) json.RawMessage {
	type status struct {
		Status engineapi.Status `json:"status"`
		Latest *common.Hash     `json:"latestValidHash"`
		Error  *string          `json:"validationError"`
	}
	type fault struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	r := o.Result
	answer := map[string]any{"jsonrpc": "2.0"}
	if id := q.Call().ID; id != nil {
		answer["id"] = json.RawMessage(id)
	}
	s := status{Status: r.Status, Latest: r.LatestValid}
	if r.Validation != "" {
		s.Error = &r.Validation
	}
	switch {
	case o.HTTPStatus == 0 || r.Malformed:
		return nil
	case r.Code != 0:
		answer["error"] = fault{r.Code, r.Message}
	case q.Class == engineapi.ClassReplay:
		answer["result"] = s
	case q.Class == engineapi.ClassForkchoice:
		var id *string
		if r.PayloadID != "" {
			id = &r.PayloadID
		}
		answer["result"] = map[string]any{"payloadStatus": s, "payloadId": id}
	default:
		return nil
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return nil
	}
	return b
}
