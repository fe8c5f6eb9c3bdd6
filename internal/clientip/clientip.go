// Package clientip says whose request it is: the peer of the connection, or, behind trusted proxies only, whom
// they name. What an untrusted peer writes into a header is never believed.
package clientip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// site is the prefix that one IPv6 client can use at will.
const site = 64

// Of is the address that a request's budget belongs to: remote, as http.Request has it in RemoteAddr, or, if that is
// a trusted proxy, the last entry of the X-Forwarded-For lines that is not one. An IPv6 address is that of its
// /64. The zero Addr is of what did not come over TCP; all of that counts as one client.
func Of(remote string, forwarded []string, trusted []netip.Prefix) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	addr := ap.Addr().Unmap()
	if within(addr, trusted) {
		addr = forwardedFor(forwarded, addr, trusted)
	}
	return Site(addr)
}

// Site is the address as one client's: of an IPv6 address the first of its /64, an IPv4 address itself.
func Site(addr netip.Addr) netip.Addr {
	addr = addr.Unmap()
	if addr.Is6() {
		if p, err := addr.WithZone("").Prefix(site); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// Networks parses trusted networks, in CIDR; a plain address is a network of one. The error names all that are none.
func Networks(texts []string) ([]netip.Prefix, error) {
	var faults []error
	nets := make([]netip.Prefix, 0, len(texts))
	for _, s := range texts {
		p, err := netip.ParsePrefix(s)
		if a, e := netip.ParseAddr(s); e == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%q is not a network", s))
			continue
		}
		nets = append(nets, p.Masked())
	}
	return nets, errors.Join(faults...)
}

// forwardedFor walks the chain from its end, where our own proxies wrote.
func forwardedFor(lines []string, addr netip.Addr, trusted []netip.Prefix) netip.Addr {
	for _, rest := range slices.Backward(lines) {
		for rest != "" {
			entry := rest
			if cut := strings.LastIndexByte(rest, ','); cut >= 0 {
				rest, entry = rest[:cut], rest[cut+1:]
			} else {
				rest = ""
			}
			next, err := netip.ParseAddr(strings.TrimSpace(entry))
			if err != nil {
				return addr // what lies before can't be believed
			}
			if addr = next.Unmap(); !within(addr, trusted) {
				return addr
			}
		}
	}
	return addr
}

func within(addr netip.Addr, nets []netip.Prefix) bool {
	for _, n := range nets {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}
