package engine

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"

	"millrace/internal/engineapi"
	"millrace/internal/jsonrpc"
)

const contentTypeJSON = "application/json"

// contentTypeTable is what geth takes for JSON-RPC.
var contentTypeTable = []string{contentTypeJSON, "application/json-rpc", "application/jsonrequest"}

// handler serves calls whose life root bounds, not the connection that they came on.
func (d *Door) handler(root context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.visits.Enter() {
			http.Error(w, "the door is stopping", http.StatusServiceUnavailable)
			return
		}
		defer d.visits.Leave()
		d.serve(root, w, r)
	})
}

// serve answers in the order of geth's own layers: path, token, method, length, type.
func (d *Door) serve(root context.Context, w http.ResponseWriter, r *http.Request) {
	upgrade := isUpgrade(r)
	if r.URL.Path != "/" {
		if upgrade {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if err := d.authenticate(root, r); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	if upgrade {
		d.socket(root, w, r)
		return
	}
	if r.Method == http.MethodGet && r.ContentLength == 0 && r.URL.RawQuery == "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	if status, err := d.acceptable(r); err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	d.call(root, w, r)
}

// acceptable is geth's check of what can be a call.
func (d *Door) acceptable(r *http.Request) (status int, err error) {
	switch {
	case r.Method == http.MethodPut || r.Method == http.MethodDelete:
		return http.StatusMethodNotAllowed, errors.New("method not allowed")
	case r.ContentLength > d.cfg.MaxBody:
		return http.StatusRequestEntityTooLarge, fmt.Errorf("content length too large (%d>%d)", r.ContentLength, d.cfg.MaxBody)
	case r.Method == http.MethodOptions:
		return 0, nil
	}
	// The usual spelling needs no parser.
	value := r.Header.Get("Content-Type")
	if value == contentTypeJSON {
		return 0, nil
	}
	if mt, _, err := mime.ParseMediaType(value); err == nil && slices.Contains(contentTypeTable, mt) {
		return 0, nil
	}
	return http.StatusUnsupportedMediaType, errors.New("invalid content type, only application/json is supported")
}

// call passes one body on.
func (d *Door) call(root context.Context, w http.ResponseWriter, r *http.Request) {
	body, held, err := d.budget.read(r.Body, r.ContentLength, d.cfg.MaxBody)
	defer d.budget.release(held)
	if err != nil {
		d.unread(w, err)
		return
	}
	x := d.exchange(body)
	x.method = r.Method
	x.header = make(http.Header, len(r.Header))
	endToEnd(x.header, r.Header)
	if d.cfg.Auth == AuthForward {
		x.authorization = r.Header.Get("Authorization")
	}
	d.carry(root, x, func(rep reply) { rep.writeTo(w) })
}

// exchange reads what the body holds. It stays nil-free whatever that is.
func (d *Door) exchange(body []byte) *exchange {
	x := &exchange{
		message:  message{method: http.MethodPost, body: body},
		verified: d.cfg.Auth == AuthVerify,
		received: d.ports.Clock.Now(),
	}
	var err error
	x.calls, x.batch, err = engineapi.ParseCalls(body)
	x.tooMany = errors.Is(err, engineapi.ErrBatchTooLong)
	if len(x.calls) == 0 {
		x.batch = false
	}
	x.classify()
	return x
}

// carry takes an exchange to its end.
func (d *Door) carry(root context.Context, x *exchange, deliver func(reply)) {
	if x.tooMany {
		d.metrics.called(engineapi.MethodOther, outcomeRefused)
		deliver(reply{status: http.StatusOK, body: tooManyCalls(x.body)})
		return
	}
	ctx, cancel := context.WithTimeout(root, d.cfg.Timeout)
	defer cancel()
	if d.begin(ctx, x, deliver) {
		d.finish(ctx, x, deliver)
	}
}

// begin dispatches the exchange; false when its time ended before its turn came, which is answered.
func (d *Door) begin(ctx context.Context, x *exchange, deliver func(reply)) bool {
	if err := d.dispatch(ctx, x); err != nil {
		_, status := unknownOf(ctx, err)
		d.metrics.called(engineapi.MethodOther, outcomeTimeout)
		deliver(reply{status: status, body: failure(x, status)})
		return false
	}
	return true
}

// unread answers a body that did not arrive.
func (d *Door) unread(w http.ResponseWriter, err error) {
	d.metrics.called(engineapi.MethodOther, outcomeRefused)
	var timeout net.Error
	e := &jsonrpc.Error{Code: jsonrpc.CodeParse, Message: "read error"}
	switch {
	case errors.Is(err, errBodyTooLarge):
		http.Error(w, fmt.Sprintf("content length too large (>%d)", d.cfg.MaxBody), http.StatusRequestEntityTooLarge)
		return
	case errors.Is(err, errExhausted):
		e.Code, e.Message = jsonrpc.CodeInternal, messageBusy
		reply{status: http.StatusServiceUnavailable, body: appendError(nil, nil, e)}.writeTo(w)
		return
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Message = "read timeout"
	}
	reply{status: http.StatusOK, body: appendError(nil, nil, e)}.writeTo(w)
}

// isUpgrade is geth's test for a WebSocket handshake.
func isUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") &&
		strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
}
