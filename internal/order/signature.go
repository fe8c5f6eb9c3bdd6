package order

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

const (
	signatureSize = 65
	// eip155V is the first v of EIP-155: from there on parity is (v-35) mod 2.
	eip155V = 35
	// legacyV is what Ethereum adds to the parity outside transactions.
	legacyV = 27
	// personalPrefix begins every EIP-191 text of 66 bytes: "0x" and the hex of a digest.
	personalPrefix = "\x19Ethereum Signed Message:\n66"
)

// halfOrder is half of the curve's order: a signature with a larger s is the malleable twin of
// another one.
var halfOrder = new(big.Int).Rsh(crypto.S256().Params().N, 1).FillBytes(make([]byte, 32)) //nolint:gochecknoglobals // a constant

// RecoverSigner verifies a signature header value "0xaddress:0xsignature" over body and returns the
// signer (EIP-191 over the hex of keccak256(body)). The prefix 0x is optional on both sides, the
// address has exactly 20 bytes in any case, v is 0, 1, 27, 28 or an EIP-155 value, and a high s is
// refused. Errors are ErrNoSignature or wrap ErrSignature.
func RecoverSigner(header string, body []byte) (common.Address, error) {
	if header == "" {
		return common.Address{}, ErrNoSignature
	}
	claimed, sigHex, ok := splitHeader(header)
	if !ok {
		return common.Address{}, fmt.Errorf("%w: expected address:signature", ErrSignature)
	}
	sig, err := parseSignature(sigHex)
	if err != nil {
		return common.Address{}, err
	}
	digest := signedDigest(body)
	pub, err := crypto.Ecrecover(digest[:], sig[:])
	if err != nil {
		return common.Address{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	key := crypto.Keccak256Hash(pub[1:])
	if signer := common.Address(key[12:]); signer == claimed {
		return signer, nil
	}
	return common.Address{}, fmt.Errorf("%w: not made by the address before the colon", ErrSignature)
}

// ClaimedSigner returns the address that a header value claims, unverified.
func ClaimedSigner(header string) (common.Address, bool) {
	claimed, _, ok := splitHeader(header)
	return claimed, ok
}

// Sign returns the header value of key over body: the lower-case address, a colon, and the
// signature with v 27 or 28.
func Sign(key *ecdsa.PrivateKey, body []byte) (string, error) {
	digest := signedDigest(body)
	sig, err := crypto.Sign(digest[:], key)
	if err != nil {
		return "", fmt.Errorf("sign body: %w", err)
	}
	sig[signatureSize-1] += legacyV
	address := crypto.PubkeyToAddress(key.PublicKey)
	return "0x" + hex.EncodeToString(address[:]) + ":0x" + hex.EncodeToString(sig), nil
}

// splitHeader reads the address and leaves the signature's hex, without its prefix.
func splitHeader(header string) (claimed common.Address, signature string, ok bool) {
	address, signature, ok := strings.Cut(header, ":")
	if !ok {
		return claimed, "", false
	}
	address = strings.TrimPrefix(address, "0x")
	if len(address) != 2*common.AddressLength {
		return claimed, "", false
	}
	var text [2 * common.AddressLength]byte
	copy(text[:], address)
	_, err := hex.Decode(claimed[:], text[:])
	return claimed, strings.TrimPrefix(signature, "0x"), err == nil
}

// parseSignature returns r, s and the parity.
func parseSignature(text string) (sig [signatureSize]byte, err error) {
	var digits [2 * signatureSize]byte
	if len(text) != len(digits) {
		return sig, fmt.Errorf("%w: expected 65 bytes of hex", ErrSignature)
	}
	copy(digits[:], text)
	if _, err := hex.Decode(sig[:], digits[:]); err != nil {
		return sig, fmt.Errorf("%w: expected 65 bytes of hex", ErrSignature)
	}
	switch v := sig[signatureSize-1]; {
	case v <= 1:
	case v == legacyV || v == legacyV+1:
		sig[signatureSize-1] = v - legacyV
	case v >= eip155V:
		sig[signatureSize-1] = (v - eip155V) % 2
	default:
		return sig, fmt.Errorf("%w: v is none of 0, 1, 27, 28, 35 and up", ErrSignature)
	}
	if bytes.Compare(sig[32:64], halfOrder) > 0 {
		return sig, fmt.Errorf("%w: high s", ErrSignature)
	}
	return sig, nil
}

// signedDigest is what is signed for a body.
func signedDigest(body []byte) common.Hash {
	sum := crypto.Keccak256Hash(body)
	var text [len(personalPrefix) + 2 + 2*common.HashLength]byte
	n := copy(text[:], personalPrefix)
	n += copy(text[n:], "0x")
	hex.Encode(text[n:], sum[:])
	return crypto.Keccak256Hash(text[:])
}
