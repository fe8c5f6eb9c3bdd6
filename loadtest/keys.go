package loadtest

import (
	"crypto/ecdsa"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// key is a private key with its address at hand.
type key struct {
	private *ecdsa.PrivateKey
	address common.Address
}

// deriveKeys returns n keys that follow from the seed and the role.
func deriveKeys(seed uint64, role string, n int) ([]key, error) {
	ks := make([]key, n)
	for i := range ks {
		b := binary.BigEndian.AppendUint64([]byte("millrace loadtest "+role), seed)
		b = binary.BigEndian.AppendUint64(b, uint64(i))
		k, err := crypto.ToECDSA(crypto.Keccak256(b))
		if err != nil {
			return nil, fmt.Errorf("derive %s key %d: %w", role, i, err)
		}
		ks[i] = key{private: k, address: crypto.PubkeyToAddress(k.PublicKey)}
	}
	return ks, nil
}

// SignatureHeader is the name of the header that carries a sender's signature.
const SignatureHeader = "X-Flashbots-Signature"

// sign returns the signature header's value over body: "0xaddress:0xsignature", EIP-191 over the
// hex of keccak256(body).
func (k key) sign(body []byte) (string, error) {
	digest := crypto.Keccak256([]byte("\x19Ethereum Signed Message:\n66" + crypto.Keccak256Hash(body).Hex()))
	sig, err := crypto.Sign(digest, k.private)
	if err != nil {
		return "", fmt.Errorf("sign body: %w", err)
	}
	sig[crypto.RecoveryIDOffset] += 27
	return k.address.Hex() + ":0x" + hex.EncodeToString(sig), nil
}

// Signer signs bodies by hand, for requests that no corpus makes.
type Signer struct{ k key }

// NewSigner returns the signer that follows from the seed.
func NewSigner(seed uint64) (*Signer, error) {
	ks, err := deriveKeys(seed, "signer", 1)
	if err != nil {
		return nil, err
	}
	return &Signer{k: ks[0]}, nil
}

// Address is who the door recovers.
func (s *Signer) Address() common.Address { return s.k.address }

// Sign returns the value of the signature header for body.
func (s *Signer) Sign(body []byte) (string, error) { return s.k.sign(body) }
