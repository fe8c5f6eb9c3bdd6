package post

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"millrace/internal/order"
)

// signatures is how many recent signatures a Signer keeps for further attempts and receivers, about
// 250 bytes each; when full, the oldest goes.
const signatures = 8192

// Signer makes X-Flashbots-Signature with our own order-flow key. Keccak and signature cost about
// 70 µs, so it signs an order once. Safe for concurrent use.
type Signer struct {
	key *ecdsa.PrivateKey

	mu    sync.Mutex
	known map[signed]string
	ring  []signed // the keys of known, oldest at next once it is full
	next  int
}

// signed is what a signature is kept for.
type signed struct {
	order order.AcceptID
	form  Form
}

// Form says which form of an order's body is meant: there is one signature for each.
type Form uint8

// The forms.
const (
	// FormBuilder is the order's own body.
	FormBuilder Form = iota + 1
	// FormStrict is what a receiver gets that can't read every builder-ready form.
	FormStrict
)

// NewSigner returns a signer with the key in s: hex with or without 0x, or the name of a file that
// holds it. Empty: a random key.
func NewSigner(s string) (*Signer, error) {
	key, err := loadKey(s)
	if err != nil {
		return nil, err
	}
	return &Signer{key: key, known: map[signed]string{}}, nil
}

func loadKey(s string) (*ecdsa.PrivateKey, error) {
	if s == "" {
		key, err := crypto.GenerateKey()
		if err != nil {
			return nil, fmt.Errorf("make order-flow key: %w", err)
		}
		return key, nil
	}
	if key, err := crypto.HexToECDSA(strings.TrimPrefix(s, "0x")); err == nil {
		return key, nil
	}
	// The errors don't repeat s: it may be a key with a typing error.
	b, err := os.ReadFile(s)
	if err != nil {
		return nil, errors.New("egress.orderflow_signer: neither a private key in hex nor a readable file")
	}
	key, err := crypto.HexToECDSA(strings.TrimPrefix(strings.TrimSpace(string(b)), "0x"))
	if err != nil {
		return nil, errors.New("egress.orderflow_signer: the file does not hold a private key in hex")
	}
	return key, nil
}

// Address is the address that receivers see.
func (s *Signer) Address() common.Address { return crypto.PubkeyToAddress(s.key.PublicKey) }

// Sign returns the header value for the body that order a has in a form.
func (s *Signer) Sign(a order.AcceptID, f Form, body []byte) (string, error) {
	k := signed{a, f}
	s.mu.Lock()
	v, ok := s.known[k]
	s.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := order.Sign(s.key, body)
	if err != nil {
		return "", err
	}
	s.keep(k, v)
	return v, nil
}

func (s *Signer) keep(k signed, v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[k]; ok {
		return
	}
	s.known[k] = v
	if len(s.ring) < signatures {
		s.ring = append(s.ring, k)
		return
	}
	delete(s.known, s.ring[s.next])
	s.ring[s.next] = k
	s.next = (s.next + 1) % signatures
}
