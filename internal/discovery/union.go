package discovery

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// Self is how we ourselves are known, so that we are not our own peer.
type Self struct {
	// Name is ours among operators; empty: nobody is left out by name.
	Name string
	// Signer is the address of our order-flow key; zero: we don't register with a hub.
	Signer common.Address
	// Certificate returns ours in PEM as it is now, for the hub; nil, or empty: registered without. A
	// renewed one is registered again.
	Certificate func() string
}

// is reports whether a peer is us. A hub may list us by the key of a process before this one.
func (s *Self) is(p *Peer) bool {
	return s.Name != "" && p.Name == s.Name || s.Signer != (common.Address{}) && p.Signer == s.Signer
}

// Skip is an entry that is left out, and why.
type Skip struct {
	Name string
	Err  error
}

// union merges sets: who comes first keeps the name, the signer and the pins.
type union struct {
	self   Self
	peers  []Peer
	owners map[string]string // of "signer 0x…" and "pin …": names
	named  map[string]bool
}

func newUnion(self Self) *union {
	return &union{self: self, owners: map[string]string{}, named: map[string]bool{}}
}

// add takes a source's peers in an order of its own: hubs and DNS list them in another one each time, and
// the outcome must not change with it. It returns those that can't be in the same set.
func (u *union) add(peers []Peer) (skips []Skip) {
	peers = slices.Clone(peers)
	slices.SortStableFunc(peers, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Address, b.Address), a.Signer.Cmp(b.Signer),
			slices.Compare(a.Pins, b.Pins), cmp.Compare(a.Certificate, b.Certificate))
	})
	for i := range peers {
		p := &peers[i]
		if u.self.is(p) {
			continue
		}
		if err := u.claim(p); err != nil {
			skips = append(skips, Skip{Name: p.Name, Err: err})
			continue
		}
		u.peers = append(u.peers, *p)
	}
	return skips
}

// claim makes p the owner of its name, signer and pins, of all or of none.
func (u *union) claim(p *Peer) error {
	if u.named[p.Name] {
		return fmt.Errorf("name %w", ErrTaken)
	}
	keys := make([]string, 0, len(p.Pins)+1)
	if p.Signer != (common.Address{}) {
		keys = append(keys, "signer "+p.Signer.Hex())
	}
	for _, pin := range p.Pins {
		keys = append(keys, "pin "+pin)
	}
	for _, k := range keys {
		if owner, ok := u.owners[k]; ok {
			return fmt.Errorf("%s %w, %s", k, ErrTaken, owner)
		}
	}
	u.named[p.Name] = true
	for _, k := range keys {
		u.owners[k] = p.Name
	}
	return nil
}

// sorted is the union by name.
func (u *union) sorted() []Peer {
	slices.SortFunc(u.peers, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	return u.peers
}
