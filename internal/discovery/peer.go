package discovery

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
)

// Peer is another operator's node, as its source describes it.
type Peer struct {
	// Name is a token of at most 32 letters, digits, - and _.
	Name string
	// Address is host:port of its leaf or HTTPS listener; empty: it only fetches from us.
	Address string
	// DNSName is the name that its certificate has to show; empty when it is reached by IP address alone.
	DNSName string
	// Transport is what it speaks.
	Transport Transport
	// Certificate is PEM, the roots that its certificate is checked against: of a hub, the peer's own
	// certificate. Empty: the roots of the configuration or the system.
	Certificate string
	// Pins are SHA-256 sums of public keys (SPKI), 64 lower-case hexadecimal digits each, sorted.
	Pins []string
	// Signer is the address of its order-flow key; zero: not known.
	Signer common.Address
	// Source is who says so.
	Source Source
}

// Equal reports whether nothing changes for who is connected: all but Source is the same.
func (p *Peer) Equal(q *Peer) bool {
	return p.Name == q.Name && p.Address == q.Address && p.DNSName == q.DNSName && p.Transport == q.Transport &&
		p.Certificate == q.Certificate && p.Signer == q.Signer && slices.Equal(p.Pins, q.Pins)
}

// Difference is what makes one set another; the peers are as in the later set, the removed as in the
// earlier one.
type Difference struct{ Added, Changed, Removed []Peer }

// Empty reports whether there is none.
func (d *Difference) Empty() bool { return len(d.Added)+len(d.Changed)+len(d.Removed) == 0 }

// Diff compares two sets with one peer of each name.
func Diff(before, after []Peer) Difference {
	var d Difference
	known := make(map[string]*Peer, len(before))
	for i := range before {
		known[before[i].Name] = &before[i]
	}
	for i := range after {
		old, ok := known[after[i].Name]
		switch {
		case !ok:
			d.Added = append(d.Added, after[i])
		case !old.Equal(&after[i]):
			d.Changed = append(d.Changed, after[i])
		}
		delete(known, after[i].Name)
	}
	for i := range before {
		if known[before[i].Name] != nil {
			d.Removed = append(d.Removed, before[i])
		}
	}
	return d
}

// clone makes a set that its owner may change.
func clone(peers []Peer) []Peer {
	peers = slices.Clone(peers)
	for i := range peers {
		peers[i].Pins = slices.Clone(peers[i].Pins)
	}
	return peers
}

// Transport is what a peer speaks.
type Transport uint8

// Transports. Auto leaves the choice to who connects.
const (
	Leafnode Transport = iota + 1
	HTTPS
	Auto
)

var transportNames = [...]string{"", "leafnode", "https", "auto"}

func (t Transport) String() string {
	if int(t) < len(transportNames) {
		return transportNames[t]
	}
	return fmt.Sprintf("transport %d", uint8(t))
}

// MarshalText writes the name.
func (t Transport) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads a name.
func (t *Transport) UnmarshalText(text []byte) error {
	i := slices.Index(transportNames[:], string(text))
	if i < 1 {
		return fmt.Errorf("%w: %.32q", ErrTransport, text)
	}
	*t = Transport(i) //nolint:gosec // less than ten
	return nil
}

// Source is where a peer is known from. A lower one wins over a higher one.
type Source uint8

// Sources.
const (
	Static Source = iota + 1
	File
	DNS
	Hub
)

var sourceNames = [...]string{"", "static", "file", "dns", "hub"}

func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return fmt.Sprintf("source %d", uint8(s))
}

// MarshalText writes the name.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func names(peers []Peer) string {
	ns := make([]string, len(peers))
	for i := range peers {
		ns[i] = peers[i].Name
	}
	return strings.Join(ns, " ")
}
