package engineapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// TokenAge is how far a token's issue may lie from now, in both directions: the specification's
// and every client's figure.
const TokenAge = 60 * time.Second

const (
	scheme = "Bearer "
	// tokenHead is {"alg":"HS256","typ":"JWT"}.
	tokenHead = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" //nolint:gosec // no credential: the same for everybody
)

// algorithms are what geth's token library has a name for: those are invalid here, others are
// unavailable.
var algorithms = map[string]bool{ //nolint:gochecknoglobals // a table
	"none": true, "HS256": true, "HS384": true, "HS512": true, "RS256": true, "RS384": true, "RS512": true,
	"PS256": true, "PS384": true, "PS512": true, "ES256": true, "ES384": true, "ES512": true, "EdDSA": true,
}

// Mint makes a token issued at now. It is the token alone; Authorization puts it into a header.
func (s Secret) Mint(now time.Time) string {
	var claims [32]byte
	b := append(claims[:0], `{"iat":`...)
	b = append(strconv.AppendInt(b, now.Unix(), 10), '}')
	token := append(make([]byte, 0, 128), tokenHead...)
	token = base64.RawURLEncoding.AppendEncode(append(token, '.'), b)
	sum := s.sum(token)
	return string(base64.RawURLEncoding.AppendEncode(append(token, '.'), sum))
}

// Authorization is the value of the header of that name, with a token issued at now.
func (s Secret) Authorization(now time.Time) string { return scheme + s.Mint(now) }

// Verify checks an Authorization header's value. What it refuses and the error's text are geth's:
// HS256 alone, issued within TokenAge of now, not expired if it says when; every other claim is
// ignored. The text is fit to be sent.
func (s Secret) Verify(authorization string, now time.Time) error {
	token := tokenOf(authorization)
	if token == "" {
		return ErrMissingToken
	}
	claims, err := s.open(token)
	if err != nil {
		return err
	}
	switch {
	case claims.Expires != nil && !now.Before(claims.Expires.Time):
		return ErrExpiredToken
	case claims.Issued == nil:
		return ErrMissingIssuedAt
	case now.Sub(claims.Issued.Time) > TokenAge:
		return ErrStaleToken
	case claims.Issued.Sub(now) > TokenAge:
		return ErrFutureToken
	}
	return nil
}

// tokenOf is the token of an Authorization header's value, empty without one.
func tokenOf(authorization string) string {
	if len(authorization) < len(scheme) || !strings.EqualFold(authorization[:len(scheme)], scheme) {
		return ""
	}
	return authorization[len(scheme):]
}

// Claimed is when an Authorization header's token says that it was issued, and when it ends, zero where it
// does not say; nothing is verified. false for what has no time of issue.
func Claimed(authorization string) (issued, expires time.Time, ok bool) {
	var c claims
	parts := strings.Split(tokenOf(authorization), ".")
	if len(parts) != 3 || segment(parts[1], &c) != nil || c.Issued == nil {
		return issued, expires, false
	}
	if c.Expires != nil {
		expires = c.Expires.Time
	}
	return c.Issued.Time, expires, true
}

// claims is what is read of a token's second segment.
type claims struct {
	Issued  *seconds `json:"iat"`
	Expires *seconds `json:"exp"`
}

// open reads a token in the order in which geth's library finds faults: shape, algorithm,
// signature.
func (s Secret) open(token string) (claims, error) {
	var c claims
	head, rest, ok := strings.Cut(token, ".")
	body, signature, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || strings.Contains(signature, ".") {
		return c, errors.New("token contains an invalid number of segments")
	}
	var h struct {
		Algorithm any `json:"alg"`
	}
	if err := segment(head, &h); err != nil {
		return c, err
	}
	if err := segment(body, &c); err != nil {
		return c, err
	}
	switch name, ok := h.Algorithm.(string); {
	case !ok:
		return c, errUnspecified
	case !algorithms[name]:
		return c, errUnavailable
	case name != "HS256":
		return c, fmt.Errorf("signing method %s is invalid", name)
	}
	given, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		return c, err
	}
	if !hmac.Equal(given, s.sum([]byte(token[:len(head)+1+len(body)]))) {
		return c, ErrInvalidSignature
	}
	return c, nil
}

func (s Secret) sum(signed []byte) []byte {
	mac := hmac.New(sha256.New, s[:])
	mac.Write(signed)
	return mac.Sum(nil)
}

func segment(encoded string, into any) error {
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// seconds is a NumericDate of RFC 7519: a number, by some writers as a string, with or without a
// fraction, which is dropped.
type seconds struct{ time.Time }

// UnmarshalJSON reads a number or a number as a string.
func (s *seconds) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > 1<<53 {
		return errors.New("could not parse NumericData: " + strconv.Quote(text(b, maxStatus)))
	}
	s.Time = time.Unix(int64(f), 0)
	return nil
}
