package cache

import (
	"errors"
	"fmt"
	"time"

	"millrace/internal/rpcapi"
)

// Config is what is kept, and how much.
type Config struct {
	// MaxBytes bounds what is kept; 0: nothing is.
	MaxBytes int64
	// TTL bounds the time of what another head ends; 0: 30 s.
	TTL time.Duration
	// Methods are the groups of methods whose answers are kept; nil: DefaultMethods.
	Methods []rpcapi.Group
	// Coalesce lets identical calls under way share an answer, also of methods that are not kept.
	Coalesce bool
}

const defaultTTL = 30 * time.Second

// ErrConfig is a configuration that makes no sense.
var ErrConfig = errors.New("cache configuration")

// DefaultMethods are all groups but eth_call and eth_estimateGas, whose answers are many and seldom asked for twice.
func DefaultMethods() []rpcapi.Group {
	var groups []rpcapi.Group
	for g := rpcapi.Group(1); g <= rpcapi.Groups; g++ {
		if g != rpcapi.GroupCall && g != rpcapi.GroupEstimateGas {
			groups = append(groups, g)
		}
	}
	return groups
}

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	if c.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("%w: max_bytes is negative", ErrConfig))
	}
	if c.TTL < 0 {
		errs = append(errs, fmt.Errorf("%w: ttl is negative", ErrConfig))
	}
	for _, g := range c.Methods {
		if g == 0 || g > rpcapi.Groups {
			errs = append(errs, fmt.Errorf("%w: methods: %s", ErrConfig, g))
		}
	}
	return errors.Join(errs...)
}

// settings are a configuration as Do uses it.
type settings struct {
	keep     [rpcapi.Groups + 1]bool
	ttl      time.Duration
	maxEntry int
	coalesce bool
}

func settingsOf(c Config) *settings {
	s := &settings{ttl: c.TTL, coalesce: c.Coalesce, maxEntry: int(c.MaxBytes / shareOfOne)}
	if s.ttl == 0 {
		s.ttl = defaultTTL
	}
	if c.MaxBytes == 0 {
		return s
	}
	if c.Methods == nil {
		c.Methods = DefaultMethods()
	}
	for _, g := range c.Methods {
		s.keep[g] = true
	}
	return s
}
