package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"millrace/internal/rpcapi"
)

// prio passes one body on, whatever it is.
func (d *Door) prio(w http.ResponseWriter, r *http.Request) {
	m := d.begin(r, dialectPrio)
	defer d.end(m)
	if err := d.read(&m.body, r, m.policy.MaxBody, Off); err != nil {
		w.Header()["Connection"] = []string{"close"} // the rest of the body was not read; don't wait for it
		d.failPrio(r.Context(), w, m, err)
		return
	}
	if err := d.limit(&m.client, ""); err != nil {
		d.failPrio(r.Context(), w, m, err)
		return
	}
	m.writer = w
	e := d.errand(m)
	defer e.end()
	e.call.Body = m.body.data
	a, err := e.ask(r.Context())
	if err != nil {
		d.failPrio(r.Context(), w, m, err)
		return
	}
	m.answer = a
	m.elapsed = time.Since(m.received)
	h := w.Header()
	d.prioHeaders(h, m)
	d.write(r.Context(), w, m, http.StatusOK, a.Body)
}

// prioHeaders are prio-load-balancer's, with ours behind them. All their values are in one string.
func (d *Door) prioHeaders(h http.Header, m *message) {
	a := m.answer
	h["Content-Type"] = d.jsonType
	values := [...]int64{
		a.Queued.Microseconds(), a.Served.Microseconds(), m.elapsed.Microseconds(), int64(a.QueueStart), int64(a.QueueEnd),
		int64(a.Tries), int64(a.Height), //nolint:gosec // a block number
	}
	var ends [len(values)]int
	var buf [12 * len(values)]byte
	b := buf[:0]
	for i, v := range values {
		b = strconv.AppendInt(b, v, 10)
		ends[i] = len(b)
	}
	text, start := string(b), 0
	lines := make([]string, len(values))
	for i, end := range ends {
		lines[i], start = text[start:end], end
	}
	h["X-Priolb-Queuedurationus"] = lines[0:1:1]
	h["X-Priolb-Simdurationus"] = lines[1:2:2]
	h["X-Priolb-Totaldurationus"] = lines[2:3:3]
	h["X-Priolb-Queuesizestart"] = lines[3:4:4]
	h["X-Priolb-Queuesizeend"] = lines[4:5:5]
	h["X-Lb-Tries"] = lines[5:6:6]
	if a.Height > 0 {
		h["X-Lb-Block"] = lines[6:7:7]
	}
	if m.policy.NodeHeader == On && a.Node != nil {
		h["X-Lb-Node"] = []string{a.Node.Label}
	}
}

// failPrio answers with a line of text, or with what a node said. It is never a JSON-RPC error of ours.
func (d *Door) failPrio(ctx context.Context, w http.ResponseWriter, m *message, err error) {
	m.elapsed = time.Since(m.received)
	if node, ok := errors.AsType[*rpcapi.NodeError](err); ok && len(node.Body) > 0 {
		m.reason, m.tries, m.node = rpcapi.ReasonNodeError, node.Tries, node.Node
		triesHeader(w.Header(), m.tries)
		d.write(ctx, w, m, node.Status, node.Body)
		return
	}
	f := faultOf(err)
	switch f.reason {
	case rpcapi.ReasonTooLarge:
		f.text, f.prio = textTooLargePrio, http.StatusBadRequest
	case rpcapi.ReasonNodeError:
		f.text, f.prio = emptyNodeError(err)
	default:
		if errors.Is(err, errTruncated) {
			f.text = "the body is cut short"
		}
	}
	m.reason, m.tries = f.reason, rpcapi.TriesOf(err)
	h := w.Header()
	triesHeader(h, m.tries)
	f.headers(h)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	d.write(ctx, w, m, f.prio, append([]byte(f.text), '\n'))
}

// triesHeader says how many nodes were asked, if any was.
func triesHeader(h http.Header, tries int) {
	if tries > 0 {
		h["X-Lb-Tries"] = []string{strconv.Itoa(tries)}
	}
}

// emptyNodeError is prio-load-balancer's text for a node that failed without a word.
func emptyNodeError(err error) (text string, status int) {
	var node *rpcapi.NodeError
	errors.As(err, &node)
	return "error in response - statusCode: " + strconv.Itoa(node.Status) + " / ", node.Status
}

// name tells who answers here.
func (d *Door) name(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "prio-load-balancer\n") // the client went away
}
