// Package hubtest is a BuilderHub for tests: a real HTTP server that registers and lists as the real
// one does, in random order, with builders that have registered nothing, and that can be broken.
//
// A real hub knows who calls by an attested tunnel. This one knows by the path: each process is given
// the address of URL(name) and registers as the builder of that name.
package hubtest

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is how a call goes wrong.
type Fault int

// Faults.
const (
	// FailStatus answers 500 with a text; ForbidStatus 403 without one, as a hub does to whom it does
	// not know.
	FailStatus Fault = iota + 1
	ForbidStatus
	// RedirectAway answers 302.
	RedirectAway
	// Hang takes the request and says nothing until the client leaves.
	Hang
	// Reset closes the connection without an answer.
	Reset
	// CutOff announces more than it sends.
	CutOff
	// NotJSON answers 200 with a web page; NotList with an object.
	NotJSON
	NotList
	// TooLarge never ends.
	TooLarge
	// NullList answers null, EmptyList a list of nobody.
	NullList
	EmptyList
)

// Credentials are what a service has registered.
type Credentials struct {
	Certificate string `json:"tls_cert,omitempty"`
	Signer      string `json:"ecdsa_pubkey_address,omitempty"`
}

// Builder is an element of the list. What is empty is left out, as the real one does.
type Builder struct {
	Name     string       `json:"name,omitempty"`
	IP       string       `json:"ip,omitempty"`
	DNSName  string       `json:"dns_name,omitempty"`
	Instance *Credentials `json:"instance,omitempty"`
	Proxy    *Credentials `json:"orderflow_proxy,omitempty"`
}

// Hub is the server.
type Hub struct {
	server *httptest.Server
	gone   chan struct{} // closed when the test ends

	mu            sync.Mutex
	builders      map[string]Builder
	raw           []json.RawMessage
	lists         int
	tries         int
	registrations []Registration
	listFault     Fault
	registerFault Fault
}

// Registration is a call that the hub took.
type Registration struct {
	Name string
	Credentials
	At time.Time
}

// Start starts a hub that ends with the test.
func Start(tb testing.TB) *Hub {
	tb.Helper()
	return start(tb, func(s *httptest.Server) { s.Start() })
}

// StartTLS starts one with a certificate for 127.0.0.1 and example.com.
func StartTLS(tb testing.TB) *Hub {
	tb.Helper()
	return start(tb, func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
		s.StartTLS()
	})
}

func start(tb testing.TB, run func(*httptest.Server)) *Hub {
	tb.Helper()
	h := &Hub{builders: map[string]Builder{}, gone: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{as}/api/l1-builder/v1/builders", h.serveList)
	mux.HandleFunc("POST /{as}/api/l1-builder/v1/register_credentials/{service}", h.serveRegister)
	h.server = httptest.NewUnstartedServer(mux)
	h.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	run(h.server)
	tb.Cleanup(func() {
		close(h.gone)
		h.server.CloseClientConnections()
		h.server.Close()
	})
	return h
}

// URL is where the builder of that name calls; it need not be one of the list.
func (h *Hub) URL(name string) string { return h.server.URL + "/" + name }

// Certificate is the TLS certificate, in PEM.
func (h *Hub) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.server.Certificate().Raw})
}

// Set puts a builder into the list, or another in its place.
func (h *Hub) Set(b Builder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.builders[b.Name] = b
}

// Remove takes a builder off the list.
func (h *Hub) Remove(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.builders, name)
}

// AddRaw lists these elements as they are, too, until RemoveRaw; they have to be JSON.
func (h *Hub) AddRaw(elements ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range elements {
		h.raw = append(h.raw, json.RawMessage(e))
	}
}

// RemoveRaw takes off the list what AddRaw has put there.
func (h *Hub) RemoveRaw() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.raw = nil
}

// BreakList has listing go wrong, until MendList.
func (h *Hub) BreakList(f Fault) { h.set(&h.listFault, f) }

// MendList ends what BreakList began.
func (h *Hub) MendList() { h.set(&h.listFault, 0) }

// BreakRegister has registering go wrong, until MendRegister.
func (h *Hub) BreakRegister(f Fault) { h.set(&h.registerFault, f) }

// MendRegister ends what BreakRegister began.
func (h *Hub) MendRegister() { h.set(&h.registerFault, 0) }

func (h *Hub) set(at *Fault, f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*at = f
}

// Lists is how many calls for the list have come.
func (h *Hub) Lists() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lists
}

// Tries is how many calls to register have come.
func (h *Hub) Tries() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tries
}

// Registrations are the calls to register that were taken.
func (h *Hub) Registrations() []Registration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.registrations)
}

func (h *Hub) serveList(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.lists++
	fault := h.listFault
	all := slices.Clone(h.raw)
	for _, b := range slices.Collect(maps.Values(h.builders)) {
		e, err := json.Marshal(b)
		if err != nil {
			panic(err) // strings only
		}
		all = append(all, e)
	}
	h.mu.Unlock()
	if fault != 0 {
		h.fail(w, r, fault)
		return
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) //nolint:gosec // a test's
	w.Header().Set("Content-Type", "application/json")
	if all == nil {
		all = []json.RawMessage{}
	}
	_ = json.NewEncoder(w).Encode(all) // the client has left
}

func (h *Hub) serveRegister(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("as")
	h.mu.Lock()
	h.tries++
	fault := h.registerFault
	h.mu.Unlock()
	if fault != 0 {
		h.fail(w, r, fault)
		return
	}
	var c Credentials
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || r.PathValue("service") != "orderflow_proxy" || !strings.HasPrefix(c.Signer, "0x") {
		http.Error(w, "bad credentials", http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.registrations = append(h.registrations, Registration{Name: name, Credentials: c, At: time.Now()})
	if b, ok := h.builders[name]; ok { // what was registered before is no longer listed
		b.Proxy = &c
		h.builders[name] = b
	}
}
