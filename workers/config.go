package workers

import (
	"errors"
	"fmt"
	"runtime"

	"millrace/internal/order"
	"millrace/internal/signers"
)

// Config is the worker section.
type Config struct {
	// Concurrency is how many orders are validated at a time; zero: the CPUs that this process may use.
	Concurrency int `name:"concurrency" help:"Orders validated at a time; 0 takes the number of usable CPUs." default:"0"`
	// SignerCache sizes the cache that cmd puts in front of the rules.
	SignerCache signers.Config `embed:"" prefix:"signer_cache."`
	// Limits are those of the door (orders.max_txs); cmd fills them in.
	Limits order.Limits `kong:"-" yaml:"-"`
}

// Validate reports every fault of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Concurrency < 0 {
		errs = append(errs, fmt.Errorf("%w: concurrency must not be negative, is %d", ErrConfig, c.Concurrency))
	}
	if c.Limits.MaxTxs < 0 {
		errs = append(errs, fmt.Errorf("%w: the limit of transactions must not be negative, is %d", ErrConfig, c.Limits.MaxTxs))
	}
	return errors.Join(append(errs, c.SignerCache.Validate())...)
}

func (c Config) slots() int {
	if c.Concurrency > 0 {
		return c.Concurrency
	}
	return min(runtime.NumCPU(), runtime.GOMAXPROCS(0))
}
