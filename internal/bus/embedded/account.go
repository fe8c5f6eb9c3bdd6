package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// AccountOrders is the account that holds our streams, as with servers elsewhere (package access): the
// global account can't export anything to peers.
const AccountOrders = "ORDERS"

// globalAccount is where stores were written before there were named accounts.
const globalAccount = "$G"

// Account is one account of a server, as data: the embedded server and one elsewhere are configured from the
// same description.
type Account struct {
	Name             string
	JetStream        bool
	Exports, Imports []Crossing
}

// Crossing is one subject that passes from an account to another.
type Crossing struct {
	Kind    CrossingKind
	Account string // for an import: whose; for an export: to whom
	Subject string
	As      string // for an import of a service: what it is called here; empty: the same
}

// CrossingKind is what passes: requests with their answers, or messages.
type CrossingKind string

// The kinds, as servers call them.
const (
	Service CrossingKind = "service"
	Stream  CrossingKind = "stream"
)

// RenderAccounts is the accounts as a server's configuration.
func RenderAccounts(all []Account) string {
	var b strings.Builder
	b.WriteString("accounts: {\n")
	for i := range all {
		a := &all[i]
		fmt.Fprintf(&b, "  %q: {\n", a.Name)
		if a.JetStream {
			b.WriteString("    jetstream: enabled\n")
		}
		renderCrossings(&b, "exports", a.Exports, func(c Crossing) string {
			return fmt.Sprintf("{%s: %q, accounts: [%q]}", c.Kind, c.Subject, c.Account)
		})
		renderCrossings(&b, "imports", a.Imports, func(c Crossing) string {
			to := ""
			if c.As != "" {
				to = fmt.Sprintf(", to: %q", c.As)
			}
			return fmt.Sprintf("{%s: {account: %q, subject: %q}%s}", c.Kind, c.Account, c.Subject, to)
		})
		b.WriteString("  }\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func renderCrossings(b *strings.Builder, name string, all []Crossing, text func(Crossing) string) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(b, "    %s: [\n", name)
	for _, c := range all {
		fmt.Fprintf(b, "      %s\n", text(c))
	}
	b.WriteString("    ]\n")
}

// withoutImports is what a server can be given before it has the accounts that the others import from.
func withoutImports(all []Account) []Account {
	all = slices.Clone(all)
	for i := range all {
		all[i].Imports = nil
	}
	return all
}

// importInto adds the imports to the accounts of options for a server that runs, and returns how many had to be
// left out because the server does not have what they import yet. They refer to the server's own
// accounts: while it takes options over, whoever subscribes to an import that refers to the options' accounts, as
// those of a configuration do, brings it down (v2.15.2).
func importInto(o *server.Options, all []Account, ns *server.Server) (left int, err error) {
	for i := range all {
		into := accountOf(o, all[i].Name)
		for _, c := range all[i].Imports {
			from, err := ns.LookupAccount(c.Account)
			if err != nil {
				left++
				continue
			}
			if c.Kind == Service {
				err = into.AddServiceImport(from, orDefault(c.As, c.Subject), c.Subject)
			} else {
				err = into.AddStreamImport(from, c.Subject, "")
			}
			switch {
			case errors.Is(err, server.ErrServiceImportAuthorization), errors.Is(err, server.ErrStreamImportAuthorization):
				left++
			case err != nil:
				return left, fmt.Errorf("account %s imports %s: %w", all[i].Name, c.Subject, err)
			}
		}
	}
	return left, nil
}

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
