package peerlink

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Verifier has the last word about a connection of a peer whose certificate has been accepted, on both
// sides: here attestation plugs in. It is called within a handshake and must answer within its few seconds; what
// it returns ends the handshake.
type Verifier interface {
	Verify(peer string, cs tls.ConnectionState) error
}

// Why handshakes are refused: the closed set of the metric's label.
const (
	refusedVersion   = "tls_version"
	refusedAbsent    = "no_certificate"
	refusedUnknown   = "unknown_certificate"
	refusedValidity  = "not_valid_now"
	refusedVerifier  = "verifier"
	refusedLane      = "unknown_lane"
	refusedWrongPeer = "wrong_peer"
)

func refusals() []string {
	return []string{
		refusedVersion, refusedAbsent, refusedUnknown, refusedValidity, refusedVerifier, refusedLane, refusedWrongPeer,
	}
}

// trust knows the peers' certificates. It is safe for concurrent use; handshakes ask it.
type trust struct {
	authority *x509.CertPool // nil: pins only
	verifier  Verifier       // nil: none
	refused   func(reason string)
	now       func() time.Time

	mu    sync.RWMutex
	pins  map[string]string // pin -> peer
	known map[string]bool   // peer -> whether it has pins
	seen  map[string]shown  // account -> what the last handshake showed
}

// shown is the certificate of a connection.
type shown struct {
	pin     string
	expires time.Time
}

func newTrust(caFile string, v Verifier, refused func(string)) (*trust, error) {
	t := &trust{verifier: v, refused: refused, now: time.Now, seen: map[string]shown{}}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("%w: tls.ca: %w", ErrConfig, err)
	}
	t.authority = x509.NewCertPool()
	if !t.authority.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: tls.ca: no certificate in %s", ErrConfig, caFile)
	}
	return t, nil
}

// set replaces who is trusted, from this moment on. It returns the accounts whose connection showed a
// certificate that is not trusted any more.
func (t *trust) set(peers []Peer) (distrusted []string) {
	pins, known := map[string]string{}, map[string]bool{}
	for _, p := range peers {
		known[p.Name] = len(p.Pins) > 0
		for _, pin := range p.Pins {
			pins[strings.ToLower(pin)] = p.Name
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pins, t.known = pins, known
	for account, s := range t.seen {
		peer := peerOf(account)
		pinned, ok := known[peer]
		if !ok || pinned && pins[s.pin] != peer {
			distrusted = append(distrusted, account)
			delete(t.seen, account)
		}
	}
	return distrusted
}

// peerOf is the peer's name in that of one of its accounts.
func peerOf(account string) string {
	name := account[strings.IndexByte(account, '_')+1:]
	return name[:strings.LastIndexByte(name, '_')]
}

// identify tells whose certificate a connection shows.
func (t *trust) identify(cs tls.ConnectionState) (peer, reason string, err error) {
	if len(cs.PeerCertificates) == 0 {
		return "", refusedAbsent, errors.New("no certificate")
	}
	cert := cs.PeerCertificates[0]
	if now := t.now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return "", refusedValidity, fmt.Errorf("certificate is valid from %s to %s only", cert.NotBefore, cert.NotAfter)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if peer, ok := t.pins[pinOf(cert)]; ok {
		return peer, "", nil
	}
	if peer := t.issued(cs.PeerCertificates); peer != "" {
		return peer, "", nil
	}
	return "", refusedUnknown, fmt.Errorf("no peer has the certificate of key %s", pinOf(cert))
}

// issued finds the one peer without pins that an authority of ours has made the certificate for.
func (t *trust) issued(chain []*x509.Certificate) string {
	if t.authority == nil {
		return ""
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: t.authority, Intermediates: between, CurrentTime: t.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return ""
	}
	names := append([]string{chain[0].Subject.CommonName}, chain[0].DNSNames...)
	slices.Sort(names)
	found := ""
	for _, name := range slices.Compact(names) {
		if pinned, ok := t.known[name]; !ok || pinned {
			continue
		}
		if found != "" {
			return "" // in the name of two
		}
		found = name
	}
	return found
}

// judge ends a handshake, unless it is with a peer (want empty), or with that one.
func (t *trust) judge(cs tls.ConnectionState, want string) error {
	peer, reason, err := t.identify(cs)
	if err == nil && want != "" && peer != want {
		reason, err = refusedWrongPeer, fmt.Errorf("%s answers for %s", peer, want)
	}
	if err == nil && t.verifier != nil {
		if err = t.verifier.Verify(peer, cs); err != nil {
			reason, err = refusedVerifier, fmt.Errorf("%s: %w", peer, err)
		}
	}
	if err != nil {
		return t.refuse(reason, err)
	}
	return nil
}

func (t *trust) refuse(reason string, err error) error {
	t.refused(reason)
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// note remembers the certificate of an account's connection.
func (t *trust) note(account string, cs tls.ConnectionState) {
	cert := cs.PeerCertificates[0]
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.known[peerOf(account)]; ok {
		t.seen[account] = shown{pin: pinOf(cert), expires: cert.NotAfter}
	}
}

// expires is when the certificate of an account's connection ends; zero: none was seen.
func (t *trust) expires(account string) time.Time {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.seen[account].expires
}

// pinOf is the SHA-256 of a certificate's public key.
func pinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
