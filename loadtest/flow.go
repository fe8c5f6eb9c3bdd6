package loadtest

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Spacing is how an open loop spaces its orders.
type Spacing uint8

// The spacings.
const (
	SpacingEven    Spacing = iota + 1 // one every 1/rate seconds
	SpacingPoisson                    // independent arrivals with that mean
)

// String is the spacing in reports and flags.
func (s Spacing) String() string {
	switch s {
	case SpacingEven:
		return "even"
	case SpacingPoisson:
		return "poisson"
	}
	return fmt.Sprintf("unknown_%d", uint8(s))
}

// MarshalText is the name.
func (s Spacing) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes a name.
func (s *Spacing) UnmarshalText(b []byte) error {
	for _, known := range []Spacing{SpacingEven, SpacingPoisson} {
		if known.String() == string(b) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("%w: spacing %q", ErrConfig, b)
}

// Flow is one stream of orders over its own connections.
type Flow struct {
	Name        string
	Corpus      CorpusConfig
	URLs        []string      // doors; connection i uses URLs[i % len]
	Rate        float64       // orders per second; zero: closed loop
	Spacing     Spacing       // default even
	Connections int           // default 32
	Duration    time.Duration // how long to send; zero: until Count or the context's end
	Count       uint64        // orders in all; zero: until Duration
	First       uint64        // first order of the corpus
	Preload     uint64        // orders made before the start
	Timeout     time.Duration // per request, default 10 s
	// Resend is how often an order without a final answer (unknown, unsent, 503) is sent again,
	// byte by byte the same, as a careful sender does; ResendPause lies between.
	Resend      int
	ResendPause time.Duration
}

// parseDoor reads the URL of a door, which is plain HTTP; "host:port" is enough.
func parseDoor(raw string) (*url.URL, error) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" || u.Port() == "" {
		return nil, fmt.Errorf("%w: door %q", ErrConfig, raw)
	}
	return u, nil
}
