package peers

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"millrace/egress"
	"millrace/egress/post"
	"millrace/internal/order"
)

const (
	// large is from how many bytes on an order goes over a connection for large ones, FlowProxy's figure.
	large = 32 << 10
	// largeShare is the part of a loop's requests that may be of large orders.
	largeShare = 4
	// defaultTimeout is FlowProxy's.
	defaultTimeout = 2 * time.Second
	// formBytes and formOrders bound the bodies in strict form that are kept for further peers and attempts.
	formBytes  = 8 << 20
	formOrders = 4096
)

// busyTexts are what a peer says that does not know us yet, before it has asked its hub again: the first proxy, its
// last version, FlowProxy. The order waits for that as for any peer that is down.
func busyTexts() []string {
	return []string{"unknown peers can't send", "Invalid signature", "Rate limited", "Disk full"}
}

// Target is a peer that takes orders over HTTPS.
type Target struct {
	// Name is the peer's, in metrics and records.
	Name string
	// URL is where its system door is, https.
	URL string
	// Certificate is the PEM that the peer has registered, its only authority; empty: the system's.
	Certificate string
	// DNSName is the name that the certificate is for; empty: the URL's host.
	DNSName string
	// Identity stays the same when the peer moves: its order-flow address. Empty: the URL is what the peer is.
	Identity string
	// Timeout is how long one request may take; zero: 2 s.
	Timeout time.Duration
}

// Fingerprint names the peer as a target of local orders.
func (t *Target) Fingerprint() string {
	id := strings.ToLower(t.Identity)
	if id == "" {
		id = t.URL
		if u, err := url.Parse(t.URL); err == nil {
			id = strings.ToLower(u.Scheme+"://"+u.Host) + strings.TrimSuffix(u.EscapedPath(), "/")
		}
	}
	sum := sha256.Sum256([]byte("peer " + id))
	return hex.EncodeToString(sum[:8])
}

// Destinations returns an egress destination for each target. inFlight is the loop's bound on requests on the wire. A
// target that can't be one is left out, and is in the error: one peer's fault is not another's.
func Destinations(ts []Target, f *Forms, s *post.Signer, clock Clock, inFlight int) ([]egress.Destination, error) {
	var ds []egress.Destination
	var errs []error
	for i := range ts {
		to, err := NewSender(ts[i], f, s, clock, inFlight)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ds = append(ds, egress.Destination{Name: ts[i].Name, Fingerprint: ts[i].Fingerprint(), Scope: order.ScopeLocal, Sender: to})
	}
	return ds, errors.Join(errs...)
}

// Sender sends orders to one peer. It is an egress.Sender.
type Sender struct {
	forms        *Forms
	small, large *post.Poster
}

// NewSender returns the sender for one peer; it dials on the first order. The error wraps ErrConfig.
func NewSender(t Target, f *Forms, s *post.Signer, clock Clock, inFlight int) (*Sender, error) {
	fail := func(what string) (*Sender, error) { return nil, fmt.Errorf("%w: peer %q: %s", ErrConfig, t.Name, what) }
	if !egress.ValidName(t.Name) {
		return fail("its name is not 1 to 32 letters, digits, - and _")
	}
	u, err := post.ParseURL(t.URL)
	if err != nil || u.Scheme != "https" {
		return fail("not an https url with a host")
	}
	if t.Timeout == 0 {
		t.Timeout = defaultTimeout
	}
	if t.Timeout < time.Millisecond || t.Timeout > time.Minute {
		return fail("its timeout is not between 1ms and 1m")
	}
	secured := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.DNSName}
	if t.Certificate != "" {
		secured.RootCAs = x509.NewCertPool()
		if !secured.RootCAs.AppendCertsFromPEM([]byte(t.Certificate)) {
			return fail("its certificate is not PEM")
		}
	}
	c := post.Config{URL: u, Timeout: t.Timeout, InFlight: inFlight, BusyTexts: busyTexts(), TLS: secured}
	to := &Sender{forms: f}
	if to.small, err = post.New(c, s, clock); err != nil {
		return fail(err.Error())
	}
	c.InFlight = max(inFlight/largeShare, 1)
	if to.large, err = post.New(c, s, clock); err != nil {
		return fail(err.Error())
	}
	return to, nil
}

// Send makes one request.
func (s *Sender) Send(ctx context.Context, a egress.Attempt) egress.Result {
	body, form := s.forms.of(a.Order)
	if form == post.FormStrict {
		o := *a.Order
		o.Body = body
		a.Order = &o
	}
	if len(body) >= large {
		return s.large.Post(ctx, a, form)
	}
	return s.small.Post(ctx, a, form)
}

// CloseIdle closes connections that nobody uses, once the peer is gone; those in use are closed after their request.
func (s *Sender) CloseIdle() {
	s.small.CloseIdle()
	s.large.CloseIdle()
}

// Forms are the bodies that peers get: the builder-ready ones, and where the first proxy could not read those, strict
// ones. All senders of a process share one, so that an order is looked at once. Safe for concurrent use.
type Forms struct {
	lim order.Limits

	mu    sync.Mutex
	known map[order.AcceptID][]byte // nil: the order's own body will do
	ring  []order.AcceptID          // the keys of known, oldest first
	bytes int
}

// NewForms returns the forms of orders within these limits.
func NewForms(lim order.Limits) *Forms {
	return &Forms{lim: lim, known: map[order.AcceptID][]byte{}}
}

// of returns the body for peers of an order.
func (f *Forms) of(o *order.Order) ([]byte, post.Form) {
	f.mu.Lock()
	strict, ok := f.known[o.Accept]
	f.mu.Unlock()
	if !ok {
		strict = f.make(o)
		f.keep(o.Accept, strict)
	}
	if strict == nil {
		return o.Body, post.FormBuilder
	}
	return strict, post.FormStrict
}

// make returns an order's strict form, nil where its own will do. A body that can't be read here goes out as it is: a
// worker made it, and whether it is an order is for the peer to say.
func (f *Forms) make(o *order.Order) []byte {
	sub, err := read(o.Body, f.lim)
	if err != nil || sub.Strict() {
		return nil
	}
	as := *o // in its builder-ready form, where our door's nonce is as good as the sender's
	as.Method, as.NonceDefaulted = sub.Method, sub.Nonce == nil
	body, err := sub.AppendStrictBody(make([]byte, 0, len(o.Body)), &as)
	if err != nil {
		return nil
	}
	return body
}

func (f *Forms) keep(a order.AcceptID, body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.known[a]; ok {
		return
	}
	f.known[a] = body
	f.ring = append(f.ring, a)
	f.bytes += len(body)
	for len(f.ring) > formOrders || f.bytes > formBytes {
		f.bytes -= len(f.known[f.ring[0]])
		delete(f.known, f.ring[0])
		f.ring = f.ring[1:]
	}
}
