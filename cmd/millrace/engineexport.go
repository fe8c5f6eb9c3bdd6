package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/bus/enginelog"
	"millrace/internal/engineapi"
	calls "millrace/internal/engineapi/record"
)

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

What is missing has a line of its own in its place, {"lost": {reason, what, epoch, from, to}}: not_stored are calls that the recorder lost, by their numbers in an epoch; retention, parts and damaged is what the store dropped or can't give back, by place in it where no call is named. The last line on standard error sums up; the exit code is 1 when anything is missing.

Reads through a running process's admin listener (--admin, with the token in data/admin.token), from nats.url, or from --store.`
}

// errLossy is an export that lacks what was asked for.
var errLossy = errors.New("the record has losses")

// Run writes the capture.
func (c *engineExportCmd) Run(ctx context.Context, a *app) error {
	c.localToken()
	w := &captureWriter{out: bufio.NewWriter(a.stdout), open: map[calls.ID]*calls.Request{}}
	c.lost = w.lost
	from, err := c.open(ctx, a, &c.Keys)
	if err != nil {
		return err
	}
	defer from.close()
	start, until, err := bounds(ctx, from, c.From, c.Until)
	if err != nil {
		return err
	}
	if err := w.begin(ctx, from, start, c.From != ""); err != nil {
		return err
	}
	w.until = until
	if err := errors.Join(from.Read(ctx, start, w.add), w.fault, w.rest()); err != nil {
		return err
	}
	if err := w.out.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "%d calls written, %d of them without an answer; %s\n", w.seq, w.unanswered, &w.missing)
	if !w.missing.none() {
		return fmt.Errorf("%w: %s", errLossy, &w.missing)
	}
	return nil
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

// captureWriter joins calls and outcomes, in the order of the calls, with what is missing between them.
type captureWriter struct {
	out   *bufio.Writer
	until time.Time
	open  map[calls.ID]*calls.Request // without an outcome yet
	order []captureItem
	ended map[calls.ID]*calls.Outcome
	seq   uint64
	line  []byte

	rows       callRows
	past       bool // a call at or behind until came
	missing    losses
	unanswered int
	fault      error // of writing a loss
}

// captureItem is a line to come: a call, or what is missing.
type captureItem struct {
	id   calls.ID
	lost *calls.Lost
}

// begin notes where the reading begins: what was asked for and is before the oldest entry is missing.
func (w *captureWriter) begin(ctx context.Context, from engineRecord, start uint64, asked bool) error {
	first, err := from.First(ctx)
	if err != nil {
		return err
	}
	w.rows.whole = start <= 1
	if asked && start == first && first > 1 {
		w.lost(calls.Lost{Reason: enginelog.LossRetention.String(), From: 1, To: first - 1})
	}
	return nil
}

// lost puts what a reader can't hand out in its place.
func (w *captureWriter) lost(l calls.Lost) {
	w.rows.pass(l)
	w.miss(l)
	w.fault = errors.Join(w.fault, w.write())
}

func (w *captureWriter) miss(l calls.Lost) {
	w.missing.add(l)
	w.order = append(w.order, captureItem{lost: &l})
}

func (w *captureWriter) add(e calls.Entry) error {
	switch {
	case e.Request != nil:
		w.request(e.Request)
	case e.Outcome != nil && w.open[e.Outcome.ID] != nil:
		if w.ended == nil {
			w.ended = map[calls.ID]*calls.Outcome{}
		}
		w.ended[e.Outcome.ID] = e.Outcome
	}
	return w.write()
}

func (w *captureWriter) request(q *calls.Request) {
	l, lost := w.rows.next(q.ID)
	if lost && !w.past {
		w.miss(l)
	}
	if !w.until.IsZero() && !q.Received.Before(w.until) {
		w.past = true
		return
	}
	if w.open[q.ID] == nil {
		w.open[q.ID] = q
		w.order = append(w.order, captureItem{id: q.ID})
	}
}

// write writes what is complete. A call waits for those before it, but not for ever: one without an outcome
// must not hold all others in memory.
func (w *captureWriter) write() error {
	for len(w.order) > 0 && (w.ready() || len(w.order) > maxAwaited) {
		if err := w.first(); err != nil {
			return err
		}
	}
	return nil
}

func (w *captureWriter) ready() bool { return w.order[0].lost != nil || w.ended[w.order[0].id] != nil }

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

// first writes the oldest line.
func (w *captureWriter) first() (err error) {
	next := w.order[0]
	w.order = w.order[1:]
	if next.lost != nil {
		if w.line, err = next.lost.AppendTo(w.line[:0]); err == nil {
			_, err = w.out.Write(w.line)
		}
		return err
	}
	id := next.id
	q, o := w.open[id], w.ended[id]
	delete(w.open, id)
	delete(w.ended, id)
	w.seq++
	p := calls.Pair{Seq: w.seq, Time: q.Received, Target: primaryName, Method: q.Method, Request: q.Raw}
	if o != nil {
		p.HTTPStatus, p.Micros = o.HTTPStatus, o.Duration.Microseconds()
		p.Answer = answerOf(q, o)
	} else {
		w.unanswered++
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
