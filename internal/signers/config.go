package signers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"
)

// minSecret is the shortest secret that is taken, bytes: half of HMAC-SHA256's strength.
const minSecret = 16

// Config sizes the cache; its keys are below worker.signer_cache.
type Config struct {
	// Size is the number of entries: rate of new transactions times TTL, and some. 262,144 last
	// 36 s at 7,000 new transactions a second, in about 50 MB.
	Size int `name:"size" help:"Transactions that the signer cache remembers." default:"262144"`
	// TTL is how long an entry lives after its last use.
	TTL time.Duration `name:"ttl" help:"How long a transaction is remembered after its last use." default:"36s"`
	// Secret authenticates what worker processes tell each other; empty with an empty SecretFile:
	// nothing is shared.
	Secret string `name:"secret" help:"Secret that all worker processes share, at least 16 bytes; without one the cache is not shared."`
	// SecretFile names a file that holds the secret; white space around it is ignored.
	SecretFile string `name:"secret_file" help:"File with the secret that all worker processes share."`
}

// Validate reports every fault of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Size <= 0 {
		errs = append(errs, fmt.Errorf("%w: size must be positive, is %d", ErrConfig, c.Size))
	}
	if c.TTL <= 0 {
		errs = append(errs, fmt.Errorf("%w: ttl must be positive, is %s", ErrConfig, c.TTL))
	}
	if c.Secret != "" && c.SecretFile != "" {
		errs = append(errs, fmt.Errorf("%w: secret and secret_file exclude each other", ErrConfig))
	}
	if c.Secret != "" && len(c.Secret) < minSecret {
		errs = append(errs, fmt.Errorf("%w: shorter than %d bytes", ErrSecret, minSecret))
	}
	return errors.Join(errs...)
}

// secret returns the shared secret, nil when there is none.
func (c Config) secret() ([]byte, error) {
	if c.SecretFile == "" {
		return []byte(c.Secret), nil
	}
	b, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecret, err)
	}
	if b = bytes.TrimSpace(b); len(b) < minSecret {
		return nil, fmt.Errorf("%w: %s holds less than %d bytes", ErrSecret, c.SecretFile, minSecret)
	}
	return b, nil
}
