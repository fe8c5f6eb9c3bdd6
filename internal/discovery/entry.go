package discovery

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
)

// Bounds of one peer.
const (
	maxName        = 32
	maxPins        = 8
	maxPEM         = 64 << 10
	maxChain       = 8
	maxHost        = 253
	pinDigits      = 2 * sha256.Size
	nameSumDigits  = 8
	pemCertificate = "CERTIFICATE"
)

// Entry is a peer as an operator writes it, in the configuration or in the file.
type Entry struct {
	Name        string         `name:"name" yaml:"name" help:"Name in metrics, subjects and records: 1 to 32 letters, digits, - and _."`
	Address     string         `name:"address" yaml:"address" help:"host:port of its leaf or HTTPS listener; without one it only fetches from us."`
	DNSName     string         `name:"dns_name" yaml:"dns_name" help:"Name that its certificate has to show; the address's own by default."`
	Transport   Transport      `name:"transport" yaml:"transport" default:"auto" help:"leafnode, https or auto."`
	Certificate string         `name:"certificate" yaml:"certificate" help:"Certificates in PEM that its own is checked against, or a file with them."`
	Pins        []string       `name:"pins" yaml:"pins" help:"SHA-256 sums of its public key (SPKI) in hexadecimal; several while it rotates."`
	Signer      common.Address `name:"signer" yaml:"signer" help:"Address of its order-flow key, by which it is known when it sends over HTTPS."`
}

// peer checks an entry; files that it names are relative to dir.
func (e *Entry) peer(dir string, source Source) (Peer, error) {
	p := Peer{Name: e.Name, Address: e.Address, DNSName: e.DNSName, Transport: e.Transport, Signer: e.Signer, Source: source}
	if p.Transport == 0 {
		p.Transport = Auto
	}
	if !validName(e.Name) {
		return p, fmt.Errorf("%w: %.64q", ErrName, e.Name)
	}
	text, err := certificateText(e.Certificate, dir)
	if err != nil {
		return p, err
	}
	p.Certificate, p.Pins = text, e.Pins
	return p, p.complete()
}

// certificateText is PEM as it is, or the content of a file.
func certificateText(s, dir string) (string, error) {
	if s == "" || strings.Contains(s, "-----BEGIN") {
		return s, nil
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(dir, s)
	}
	f, err := os.Open(s)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return string(b), nil
}

// complete checks all but the name, which sources treat differently, and writes the rest in one way, so
// that sets can be compared.
func (p *Peer) complete() (err error) {
	if p.Address != "" {
		host, port, err := splitAddress(p.Address)
		if err != nil {
			return err
		}
		p.Address = net.JoinHostPort(host, port)
		if p.DNSName == "" && net.ParseIP(host) == nil {
			p.DNSName = host
		}
	}
	if p.DNSName = strings.TrimSuffix(p.DNSName, "."); p.DNSName != "" && !validHost(p.DNSName) {
		return fmt.Errorf("%w: dns name %.64q", ErrAddress, p.DNSName)
	}
	if p.Certificate, err = normalPEM(p.Certificate); err != nil {
		return err
	}
	if p.Pins, err = normalPins(p.Pins); err != nil {
		return err
	}
	if p.Address == "" && p.Certificate == "" && len(p.Pins) == 0 && p.Signer == (common.Address{}) {
		return ErrStranger
	}
	return nil
}

func splitAddress(s string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(s)
	if err != nil || net.ParseIP(host) == nil && !validHost(strings.TrimSuffix(host, ".")) {
		return "", "", fmt.Errorf("%w: %.64q", ErrAddress, s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("%w: port of %.64q", ErrAddress, s)
	}
	return strings.TrimSuffix(host, "."), port, nil
}

// validHost takes what a resolver does: no address, no scheme, nothing to escape.
func validHost(s string) bool {
	if s == "" || len(s) > maxHost {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool { return !nameRune(r) }) {
			return false
		}
	}
	return true
}

func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// validName is subjects.ValidName: the name becomes part of subjects.
func validName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool { return !nameRune(r) })
}

// token makes a name of one that others gave without knowing our rules: other names give other tokens.
func token(s string) string {
	if validName(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	clean := strings.Map(func(r rune) rune {
		if nameRune(r) {
			return r
		}
		return '-'
	}, s)
	return clean[:min(len(clean), maxName-nameSumDigits-1)] + "-" + hex.EncodeToString(sum[:nameSumDigits/2])
}

func normalPins(pins []string) ([]string, error) {
	if len(pins) > maxPins {
		return nil, fmt.Errorf("%w: more than %d of them", ErrPin, maxPins)
	}
	out := make([]string, 0, len(pins))
	for _, s := range pins {
		s = strings.ToLower(s)
		if _, err := hex.DecodeString(s); err != nil || len(s) != pinDigits {
			return nil, fmt.Errorf("%w: %.80q", ErrPin, s)
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// normalPEM checks that s is certificates and nothing else: a key that slipped in must not be passed on.
func normalPEM(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", nil
	}
	if len(s) > maxPEM {
		return "", fmt.Errorf("%w: more than %d bytes", ErrCertificate, maxPEM)
	}
	var out []byte
	n := 0
	for rest := []byte(s); ; n++ {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			if n == 0 || strings.Contains(string(rest), "-----BEGIN") { // cut off
				return "", ErrCertificate
			}
			return string(out), nil
		}
		if b.Type != pemCertificate || n == maxChain {
			return "", fmt.Errorf("%w: a block is none, or there are more than %d", ErrCertificate, maxChain)
		}
		if _, err := x509.ParseCertificate(b.Bytes); err != nil {
			return "", fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: b.Bytes})...)
	}
}
