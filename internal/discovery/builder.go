package discovery

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// defaultPort is that of the predecessors' system listener, behind addresses that name none.
	defaultPort = "5544"
	// maxBuilders bounds a list.
	maxBuilders = 1024
)

// builder is what we need of an element of a hub's list; what else is there, now or one day, is passed
// over.
type builder struct {
	Name     string      `json:"name"`
	IP       string      `json:"ip"`
	DNSName  string      `json:"dns_name"`
	Instance credentials `json:"instance"`
	Proxy    credentials `json:"orderflow_proxy"`
}

type credentials struct {
	Certificate string `json:"tls_cert"`
	Signer      string `json:"ecdsa_pubkey_address"`
}

// decodeBuilders reads a hub's list. An element that can't be used is skipped, whatever is wrong inside
// of it; what is no list at all is an error. A null is a list without elements, as Go's hubs write it.
func decodeBuilders(body []byte, transport Transport) (peers []Peer, skips []Skip, err error) {
	d := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	switch token, err := d.ReadToken(); {
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	case token.Kind() == 'n':
		return nil, nil, ended(d)
	case token.Kind() != '[':
		return nil, nil, fmt.Errorf("%w: not a list", ErrMalformed)
	}
	for n := 0; d.PeekKind() != ']'; n++ {
		if n == maxBuilders {
			return nil, nil, fmt.Errorf("%w: more than %d builders", ErrTooLarge, maxBuilders)
		}
		raw, err := d.ReadValue()
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		p, err := decodeBuilder(raw, transport)
		if err != nil {
			skips = append(skips, Skip{Name: nameOf(raw), Err: err})
			continue
		}
		peers = append(peers, p)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return peers, skips, ended(d)
}

func ended(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); err != io.EOF { //nolint:errorlint // the decoder's own
		return fmt.Errorf("%w: data behind the list", ErrMalformed)
	}
	return nil
}

// nameOf is what a bad element is called in the log.
func nameOf(raw jsontext.Value) string {
	var v struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(raw, &v, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) // it may have none
	if len(v.Name) > 2*maxName {
		return v.Name[:2*maxName]
	}
	return v.Name
}

func decodeBuilder(raw jsontext.Value, transport Transport) (Peer, error) {
	var b builder
	if err := json.Unmarshal(raw, &b); err != nil || raw.Kind() != '{' {
		return Peer{}, ErrEntry
	}
	if b.Name == "" {
		return Peer{}, ErrName
	}
	p := Peer{Name: token(b.Name), DNSName: hostOf(b.DNSName), Transport: transport, Source: Hub}
	if b.Proxy.Signer == "" {
		return Peer{}, ErrUnregistered
	}
	if !common.IsHexAddress(b.Proxy.Signer) {
		return Peer{}, ErrSigner
	}
	if p.Signer = common.HexToAddress(b.Proxy.Signer); p.Signer == (common.Address{}) {
		return Peer{}, ErrSigner
	}
	// The instance's certificate is the one its TLS is terminated with, since hubs have it.
	if p.Certificate = b.Instance.Certificate; p.Certificate == "" {
		p.Certificate = b.Proxy.Certificate
	}
	if p.Address = b.address(); p.Address == "" {
		return Peer{}, ErrAddress
	}
	return p, p.complete()
}

// address prefers the name, as the predecessors do; a port may stand behind either.
func (b *builder) address() string {
	host, port := hostOf(b.DNSName), portOf(b.DNSName)
	if port == "" {
		port = portOf(b.IP)
	}
	if host == "" {
		host = hostOf(b.IP)
	}
	if port == "" {
		port = defaultPort
	}
	if host == "" {
		return ""
	}
	return net.JoinHostPort(host, port)
}

func hostOf(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
}

func portOf(s string) string {
	_, port, _ := net.SplitHostPort(s) // none
	return port
}
