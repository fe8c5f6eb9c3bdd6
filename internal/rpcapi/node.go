package rpcapi

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Tag names a node in few bits, the same in every process and after every restart; 0 is none.
type Tag uint32

// Node is an execution node as it is configured.
type Node struct {
	// URI is the node's name to who configures it: what it was added as, and what it is removed by.
	URI string
	// URL is where it is dialled: URI without what is said about it there.
	URL *url.URL
	// Label is its place in metrics and logs: host and path, with the tag where that is not all, never credentials.
	Label string
	// Workers is how many calls it is given at a time; 0: the default of all.
	Workers int
	// Weight is its share where callers are spread by hash; 0 means 1.
	Weight float64
	// WS is where it is subscribed at; nil: nowhere.
	WS *url.URL
	// Pin is what its TLS has to prove; the zero Pin: nothing.
	Pin Pin
	// Tag is derived from URL.
	Tag Tag
}

// Pin demands that a node proves what it runs.
type Pin struct {
	Kind  PinKind
	Value string // as in the URI, without the prefix
}

// PinKind is the technology of the proof.
type PinKind uint8

// Kinds of pins, written before the value in the URI's user part: TDX_, SGX_, SEV_.
const (
	PinTDX PinKind = iota + 1
	PinSGX
	PinSEV
)

// Errors of ParseNode.
var (
	ErrNodeURI     = errors.New("not a node's URI")
	ErrNodeScheme  = errors.New("scheme is neither http nor https")
	ErrNodeWorkers = errors.New("_workers is no number")
	ErrPinScheme   = errors.New("a pinned node needs https")
)

// maxWorkers bounds what a URI may ask for.
const maxWorkers = 100_000

// ParseNode reads a node's URI as prio-load-balancer takes it: http(s)://[user@]host[:port][/path][?_workers=N].
// A user that begins with TDX_, SGX_ or SEV_ is a pin, which is never sent anywhere; any other is basic
// authentication. _workers is taken out of the query.
func ParseNode(uri string) (*Node, error) {
	u, err := url.Parse(strings.TrimSpace(uri))
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return nil, fmt.Errorf("%w: %s", ErrNodeURI, redact(uri))
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: %s", ErrNodeScheme, redact(uri))
	}
	n := &Node{URI: uri, Weight: 1}
	if n.Workers, err = takeWorkers(u); err != nil {
		return nil, fmt.Errorf("%w: %s", err, redact(uri))
	}
	if n.Pin = pinOf(u); n.Pin.Kind != 0 {
		if u.Scheme != "https" {
			return nil, fmt.Errorf("%w: %s", ErrPinScheme, redact(uri))
		}
		u.User = nil
	}
	u.Fragment = ""
	n.URL = u
	n.Label = u.Host + strings.TrimSuffix(u.EscapedPath(), "/")
	sum := sha256.Sum256([]byte(u.Scheme + "://" + n.Label + "?" + u.RawQuery))
	n.Tag = Tag(max(binary.BigEndian.Uint32(sum[:]), 1))
	if u.RawQuery != "" || u.Scheme != "http" { // host and path may be another node's, too
		n.Label += fmt.Sprintf("#%08x", uint32(n.Tag))
	}
	return n, nil
}

func takeWorkers(u *url.URL) (int, error) {
	const key = "_workers"
	if !strings.Contains(u.RawQuery, key) {
		return 0, nil
	}
	q := u.Query()
	if !q.Has(key) {
		return 0, nil
	}
	n, err := strconv.Atoi(q.Get(key))
	if err != nil || n < 0 || n > maxWorkers {
		return 0, ErrNodeWorkers
	}
	q.Del(key)
	u.RawQuery = q.Encode()
	if n == 0 {
		return NoWorkers, nil
	}
	return n, nil
}

// NoWorkers is Workers of a node that is given no calls: ?_workers=0.
const NoWorkers = -1

func pinOf(u *url.URL) Pin {
	user := u.User.Username()
	for kind, prefix := range map[PinKind]string{PinTDX: "TDX_", PinSGX: "SGX_", PinSEV: "SEV_"} {
		if value, ok := strings.CutPrefix(user, prefix); ok {
			return Pin{Kind: kind, Value: value}
		}
	}
	return Pin{}
}

// redact is a URI without what may be secret in it.
func redact(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "(unreadable)"
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

// String is the kind as its prefix.
func (k PinKind) String() string {
	switch k {
	case PinTDX:
		return "TDX"
	case PinSGX:
		return "SGX"
	case PinSEV:
		return "SEV"
	default:
		return fmt.Sprintf("pin(%d)", uint8(k))
	}
}
