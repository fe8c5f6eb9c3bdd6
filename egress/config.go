package egress

import (
	"errors"
	"fmt"
	"time"
)

// Config is the policy of every target loop, under egress.*. The zero value of a field is its
// default.
type Config struct {
	MaxAge     time.Duration `kong:"-"` // orders.max_age, set by the composer
	InFlight   int           `name:"in_flight" default:"64" help:"Requests on the wire per target: high orders may use all, medium three quarters, low half."`
	Window     int           `name:"window" default:"256" help:"Results per target that may wait for the ledger before sends pause."`
	MaxWaiting int           `name:"max_waiting" default:"131072" help:"Orders per target and class that wait in memory (about 400 bytes each); more wait in the store."`
	CacheBytes int64         `name:"cache_bytes" type:"bytes" default:"16MiB" help:"Bodies of waiting orders kept in memory per target; others are read again from the store."`
	WireBytes  int64         `name:"wire_bytes" type:"bytes" default:"32MiB" help:"Bodies on the wire per target and class below high; one order is always allowed."`
	RetryMin   time.Duration `name:"retry_min" default:"50ms" help:"First pause before an order is sent again; it doubles, with jitter."`
	RetryMax   time.Duration `name:"retry_max" default:"1s" help:"Longest pause before an order is sent again or a target that is down is probed."`
	FailStreak int           `name:"fail_streak" default:"16" help:"Failed requests in a row after which a target counts as down; a refused connection counts at once."`
	Drain      time.Duration `name:"drain" default:"4s" help:"How long requests on the wire may take at shutdown."`
}

// withDefaults fills in the zero fields.
func (c Config) withDefaults() Config {
	set(&c.MaxAge, 36*time.Second)
	set(&c.InFlight, 64)
	set(&c.Window, 256)
	set(&c.MaxWaiting, 1<<17)
	set(&c.CacheBytes, 16<<20)
	set(&c.WireBytes, 32<<20)
	set(&c.RetryMin, 50*time.Millisecond)
	set(&c.RetryMax, time.Second)
	set(&c.FailStreak, 16)
	set(&c.Drain, 4*time.Second)
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every fault of c, joined.
func (c Config) Validate() error {
	var errs []error
	between := func(name string, v, low, high int64) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("egress.%s: %d is not between %d and %d", name, v, low, high))
		}
	}
	c = c.withDefaults()
	between("in_flight", int64(c.InFlight), 8, 4096)
	between("window", int64(c.Window), batchMin, 1024)
	between("max_waiting", int64(c.MaxWaiting), 1024, 1<<22)
	between("cache_bytes", c.CacheBytes, 0, 1<<32)
	between("wire_bytes", c.WireBytes, 1<<20, 1<<32)
	between("fail_streak", int64(c.FailStreak), 1, 1000)
	for name, d := range map[string]time.Duration{"max_age": c.MaxAge, "retry_min": c.RetryMin, "retry_max": c.RetryMax, "drain": c.Drain} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("egress.%s: %s is not positive", name, d))
		}
	}
	if c.RetryMax < c.RetryMin {
		errs = append(errs, errors.New("egress.retry_max: less than egress.retry_min"))
	}
	return errors.Join(errs...)
}
