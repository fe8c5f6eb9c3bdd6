package index

import (
	"errors"
	"fmt"
	"time"
)

// Config says what is kept of orders to answer for them. Keys under trace.*.
type Config struct {
	Enabled  bool          `name:"enabled" help:"Keep an index of orders, their transactions and what became of them, for millrace trace and millrace_orderStatus; in processes that deliver (node, egress)." default:"true" negatable:""`
	Dir      string        `name:"dir" help:"Folder of the index; trace in the data directory when not set. One process at a time has it."`
	MaxAge   time.Duration `name:"max_age" help:"How long orders can be traced." default:"24h"`
	MaxBytes int64         `name:"max_bytes" help:"Most bytes of the index; the oldest orders go first. About 300 bytes an order." default:"4GiB" type:"bytes"`
}

// minBytes leaves room for what is written before it can be taken away again.
const minBytes = 64 << 20

// maxMaxAge bounds the minutes that a look-up asks.
const maxMaxAge = 31 * 24 * time.Hour

// Validate reports every fault, joined.
func (c Config) Validate() error {
	var errs []error
	if c.MaxAge < time.Minute || c.MaxAge > maxMaxAge {
		errs = append(errs, fmt.Errorf("trace.max_age: %s is not between 1m and %s", c.MaxAge, maxMaxAge))
	}
	if c.MaxBytes < minBytes {
		errs = append(errs, fmt.Errorf("trace.max_bytes: %d is less than %d", c.MaxBytes, minBytes))
	}
	return errors.Join(errs...)
}
