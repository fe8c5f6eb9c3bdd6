package rpc

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"millrace/internal/rpcapi"
)

// rpc takes a request or a batch.
func (d *Door) rpc(w http.ResponseWriter, r *http.Request) {
	m := d.begin(r, dialectJSONRPC)
	defer d.end(m)
	var reply []byte
	if err := d.read(&m.body, w, r, m.policy.MaxBody, m.policy.Gzip); err != nil {
		w.Header()["Connection"] = []string{"close"} // the rest of the body was not read; don't wait for it
		reply = m.fail(err, nil)
	} else {
		reply = d.answer(r.Context(), m, m.body.data)
	}
	m.elapsed = time.Since(m.received)
	h := w.Header()
	d.allowOrigin(h, r, m.policy)
	d.rpcHeaders(h, m)
	switch {
	case len(reply) == 0:
		d.write(r.Context(), w, m, http.StatusNoContent, nil)
	case m.policy.Gzip == On && len(reply) >= zipFrom && acceptsGzip(r.Header):
		h["Content-Type"] = d.jsonType
		d.writeZipped(r.Context(), w, m, reply)
	default:
		h["Content-Type"] = d.jsonType
		d.write(r.Context(), w, m, m.status, reply)
	}
}

// rpcHeaders say how the reply came about.
func (d *Door) rpcHeaders(h http.Header, m *message) {
	if m.reason != "" {
		m.fault.headers(h)
	}
	if a := m.answer; a != nil {
		m.tries, m.height, m.node = a.Tries, a.Height, a.Node
	}
	if m.tries > 0 {
		h["X-Lb-Tries"] = []string{strconv.Itoa(m.tries)}
	}
	if m.height > 0 {
		h["X-Lb-Block"] = []string{strconv.FormatUint(m.height, 10)}
	}
	if m.source != 0 {
		h["X-Lb-Cache"] = []string{m.source.String()}
	}
	if m.node != nil && m.policy.NodeHeader == On {
		h["X-Lb-Node"] = []string{m.node.Label}
	}
}

// zipFrom is the size from which compressing pays.
const zipFrom = 1 << 10

func (d *Door) writeZipped(ctx context.Context, w http.ResponseWriter, m *message, reply []byte) {
	h := w.Header()
	h["Content-Encoding"] = []string{"gzip"}
	h["Vary"] = append(h["Vary"], "Accept-Encoding")
	zw, _ := d.zippers.Get().(*gzip.Writer)
	if zw == nil {
		zw, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level exists
	}
	defer d.zippers.Put(zw)
	d.writeHeader(w, m, m.status, len(reply))
	zw.Reset(w)
	_, _ = zw.Write(reply) // the client went away
	_ = zw.Close()
	d.account(ctx, m, len(reply))
}

// acceptsGzip reads the header as far as any client goes: gzip may stand with a weight, and 0 refuses it.
func acceptsGzip(h http.Header) bool {
	for _, line := range h["Accept-Encoding"] {
		for part := range strings.SplitSeq(line, ",") {
			name, weight, weighted := strings.Cut(part, ";")
			if strings.TrimSpace(name) != "gzip" {
				continue
			}
			weight = strings.TrimSpace(weight)
			return !weighted || strings.Trim(strings.TrimPrefix(weight, "q="), "0.") != ""
		}
	}
	return false
}

// allowOrigin lets a web page read the reply.
func (d *Door) allowOrigin(h http.Header, r *http.Request, p *policy) {
	from := first(r.Header, "Origin")
	if from == "" {
		return
	}
	if !p.anyOrigin {
		h["Vary"] = append(h["Vary"], "Origin")
	}
	if allowed := p.origin(from); allowed != "" {
		h["Access-Control-Allow-Origin"] = []string{allowed}
		h["Access-Control-Expose-Headers"] = []string{"*"}
	}
}

// preflightAge is for how many seconds a browser remembers a preflight; axon-proxy's.
const preflightAge = "300"

// other takes what is no call: handshakes of WebSockets, preflights of browsers, a look at whether anybody is there.
func (d *Door) other(w http.ResponseWriter, r *http.Request) {
	p := d.policy.Load()
	switch {
	case r.Method == http.MethodOptions:
		h := w.Header()
		d.allowOrigin(h, r, p)
		if h["Access-Control-Allow-Origin"] != nil {
			h["Access-Control-Allow-Methods"] = []string{"POST, GET"}
			h["Access-Control-Max-Age"] = []string{preflightAge}
			if asked := r.Header["Access-Control-Request-Headers"]; asked != nil {
				h["Access-Control-Allow-Headers"] = asked
			}
		}
		w.WriteHeader(http.StatusNoContent)
	case isUpgrade(r):
		d.upgrade(w, r)
	case r.URL.Path == "/":
		w.WriteHeader(http.StatusOK) // as geth does, for load balancers
	default:
		w.Header()["Allow"] = []string{http.MethodPost}
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// isUpgrade tells a WebSocket handshake.
func isUpgrade(r *http.Request) bool {
	return strings.EqualFold(first(r.Header, "Upgrade"), "websocket") &&
		strings.Contains(strings.ToLower(first(r.Header, "Connection")), "upgrade")
}

// upgrade leaves the connection to the sockets.
func (d *Door) upgrade(w http.ResponseWriter, r *http.Request) {
	if d.ports.Sockets == nil {
		http.Error(w, "no WebSocket here", http.StatusNotImplemented)
		return
	}
	if !d.sockets.Enter() {
		http.Error(w, rpcapi.ErrStopping.Error(), http.StatusServiceUnavailable)
		return
	}
	defer d.sockets.Leave()
	d.ports.Sockets.ServeHTTP(w, r)
}
