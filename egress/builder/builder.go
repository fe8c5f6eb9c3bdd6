package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"millrace/egress"
	"millrace/egress/post"
)

// Clock is the bus clock.
type Clock interface {
	Now() time.Time
}

// Destinations returns one egress destination per configured builder. inFlight is the loop's bound
// on requests on the wire; connections are capped accordingly. The signer is shared, so that an
// order is signed once for all of them.
func Destinations(c Config, s *post.Signer, clock Clock, inFlight int) ([]egress.Destination, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var ds []egress.Destination
	for _, t := range c.Targets() {
		b, err := New(t, c.BusyCodes, s, clock, inFlight)
		if err != nil {
			return nil, err
		}
		ds = append(ds, egress.Destination{Name: t.Name, Fingerprint: Fingerprint(t.URL), Sender: b})
	}
	return ds, nil
}

// Fingerprint names a builder by its URL: scheme, host and path, hashed, without credentials and
// query, so that a rotated password is no other builder.
func Fingerprint(rawURL string) string {
	u, err := post.ParseURL(rawURL)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(u.Scheme + "://" + strings.ToLower(u.Host) + strings.TrimSuffix(u.EscapedPath(), "/")))
	return hex.EncodeToString(sum[:8])
}

// New returns the sender for one builder; it dials on the first order.
func New(t Target, busyCodes []int, s *post.Signer, clock Clock, inFlight int) (*post.Poster, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	u, err := post.ParseURL(t.URL)
	if err != nil {
		return nil, fmt.Errorf("builder %s: %w", t.Name, err)
	}
	p, err := post.New(post.Config{URL: u, Timeout: t.Timeout, InFlight: inFlight, BusyCodes: busyCodes}, s, clock)
	if err != nil {
		return nil, fmt.Errorf("builder %s: %w", t.Name, err)
	}
	return p, nil
}
