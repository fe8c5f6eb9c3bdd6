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

	"millrace/internal/bus"
	"millrace/internal/bus/enginelog"
	"millrace/internal/engineapi"
	calls "millrace/internal/engineapi/record"
	"millrace/internal/telemetry"
)

// entriesOf are the two records of a call and its answer in a capture. Its tokens are gone, and whoever
// captured it saw the answers: what was answered with 200 may be replayed.
func entriesOf(p *calls.Pair, epoch uint64) (*calls.Request, *calls.Outcome) {
	id := calls.ID{Epoch: epoch, Sequence: p.Seq}
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

// captureRecord is a capture as a record, in memory but for its bytes, which are the file's.
type captureRecord struct{ entries []calls.Entry }

func openCapture(path string) (*captureRecord, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usage(err)
	}
	defer f.Close() //nolint:errcheck // read only
	r := &captureRecord{}
	for p, err := range calls.ReadPairs(f) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		q, o := entriesOf(&p, 1)
		for _, e := range []calls.Entry{{Request: q}, {Outcome: o}} {
			e.Stream, e.Stored = uint64(len(r.entries)+1), p.Time
			r.entries = append(r.entries, e)
		}
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

// engineImportCmd puts a capture into a record.
type engineImportCmd struct {
	settings `embed:""`
	Input    string `arg:"" name:"input" help:"File of JSON lines, as engine export writes them."`
}

// Help is the long help text.
func (engineImportCmd) Help() string {
	return `Stores calls and answers under an epoch of their own, with now as their place in the record and the capture's times as those of the calls. Needs nats.url, or nats.store_dir of a process that does not run: it embeds the server meanwhile. engine.primary of the configuration is not called.

Import into a record of its own: the replayers of a process that uses the record would take the last forkchoice in it for the consensus client's.`
}

// Run stores the capture.
func (c *engineImportCmd) Run(ctx context.Context, a *app) error {
	r, err := openCapture(c.Input)
	if err != nil {
		return err
	}
	cfg := &c.Keys
	cfg.complete()
	if !cfg.Engine.enabled() {
		cfg.Engine.Door.Primary = "http://127.0.0.1:8551" // declares the streams; nothing is sent there
	}
	if err := cfg.validate(0); err != nil {
		return usage(err)
	}
	log, err := telemetry.NewLog(a.stderr, cfg.Log)
	if err != nil {
		return usage(err)
	}
	reg := telemetry.NewRegistry(build())
	cfg.NATS.Role = "engine"
	b, err := bus.Dial(ctx, cfg.NATS, cfg.topology(), log.Logger, reg)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	defer b.Close() //nolint:contextcheck // closing has bounds of its own
	epoch, err := enginelog.NewState(b, log.Logger).ClaimEpoch(ctx)
	if err != nil {
		return err
	}
	rec, err := enginelog.New(cfg.Engine.Spool, b, log.Logger, reg)
	if err != nil {
		return usage(err)
	}
	if err := store(ctx, rec, r, epoch); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%d calls imported as epoch %d\n", len(r.entries)/2, epoch)
	return err
}

// store hands a capture to a recorder that runs only for it.
func store(ctx context.Context, rec *enginelog.Recorder, r *captureRecord, epoch uint64) error {
	recording, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- rec.Run(recording) }()
	for _, e := range r.entries {
		switch {
		case e.Request != nil:
			e.Request.ID.Epoch = epoch
			rec.Request(e.Request)
		case e.Outcome != nil:
			e.Outcome.ID.Epoch = epoch
			rec.Outcome(e.Outcome)
		}
	}
	stop() // it stores what it was given before it ends
	return <-done
}
