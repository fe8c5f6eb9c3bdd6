package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// AccountOrders is the account that holds our streams, as with servers elsewhere (package access): the
// global account can't export anything to peers.
const AccountOrders = "ORDERS"

// globalAccount is where stores were written before there were named accounts.
const globalAccount = "$G"

// accountsConfig is what the server knows of accounts when there are no peers.
const accountsConfig = "accounts: {\n  ORDERS: { jetstream: enabled }\n}\n"

// parseAccounts returns fresh options with the accounts of a configuration text. Fresh each time, because
// the server keeps and changes what it is given.
func parseAccounts(text string) (*server.Options, error) {
	o := &server.Options{}
	if err := o.ProcessConfigString(text); err != nil {
		return nil, fmt.Errorf("accounts of embedded server: %w", err)
	}
	return o, nil
}

// accountOf finds an account of the options by its name.
func accountOf(o *server.Options, name string) *server.Account {
	for _, a := range o.Accounts {
		if a.GetName() == name {
			return a
		}
	}
	return nil
}

// adoptStore gives what is stored under the global account to ours, in one step that a crash does not
// divide. Two of them are ErrTwoStores: an older version ran on the store meanwhile, and what it accepted
// must not be left lying.
func adoptStore(dir string) error {
	js := filepath.Join(dir, jsDir)
	before, now := filepath.Join(js, globalAccount), filepath.Join(js, AccountOrders)
	streams, err := os.ReadDir(filepath.Join(before, "streams"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for an older store: %w", err)
	}
	switch {
	case !exists(before):
		return nil
	case !exists(now):
		if err := os.Rename(before, now); err != nil {
			return fmt.Errorf("adopt older store: %w", err)
		}
		return flushDir(js)
	case len(streams) > 0:
		return fmt.Errorf("%w: %s and %s", ErrTwoStores, before, now)
	}
	return nil
}
