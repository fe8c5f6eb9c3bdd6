package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Names of the generated seed files in Config.AuthDir.
const (
	AdminSeed = "admin.nk" // may do everything: the nats CLI, `millrace streams apply`
	RoleSeed  = "role.nk"  // a role in another process: data, consumers, buckets; no stream changes
	// CLIContext is a context file for the nats CLI as the admin: `nats --context <absolute path>`.
	CLIContext = "nats-cli.json"
)

// Connection types of the server's user permissions.
const (
	overPipe = "IN_PROCESS"
	overTCP  = "STANDARD"
)

// processKey is the identity of this process's own connections, peersKey that of those into the account
// PEERS. They live in memory only, are of no use over TCP, and are one per process, so that a connection
// outlives a server that is restarted.
var (
	processKey = sync.OnceValues(nkeys.CreateUser) //nolint:gochecknoglobals // see above
	peersKey   = sync.OnceValues(nkeys.CreateUser) //nolint:gochecknoglobals // see above
)

// users are the identities that the server knows.
type users struct {
	inProcess nkeys.KeyPair
	peers     nkeys.KeyPair // nil without peering
	admin     nkeys.KeyPair // nil without a listener
	role      nkeys.KeyPair
}

func newUsers(cfg *Config) (*users, error) {
	u := &users{}
	var err error
	if u.inProcess, err = processKey(); err != nil {
		return nil, fmt.Errorf("create nkey: %w", err)
	}
	if cfg.Peering != nil {
		if u.peers, err = peersKey(); err != nil {
			return nil, fmt.Errorf("create nkey: %w", err)
		}
	}
	if cfg.Listen == "" {
		return u, nil
	}
	dir := cfg.authDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create auth directory: %w", err)
	}
	if u.admin, err = seedFile(filepath.Join(dir, AdminSeed)); err != nil {
		return nil, err
	}
	u.role, err = seedFile(filepath.Join(dir, RoleSeed))
	return u, err
}

// seedFile reads the key in path, or makes one on the first start.
func seedFile(path string) (nkeys.KeyPair, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		kp, err := nkeys.FromSeed(bytes.TrimSpace(b))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		return kp, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read nkey seed: %w", err)
	}
	kp, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("create nkey: %w", err)
	}
	seed, err := kp.Seed()
	if err != nil {
		return nil, fmt.Errorf("create nkey: %w", err)
	}
	if err := writeDurably(path, string(seed)+"\n"); err != nil {
		return nil, fmt.Errorf("write nkey seed: %w", err)
	}
	return kp, nil
}

// writeCLIContext writes the context file anew, because the address may be another one at each start.
func writeCLIContext(cfg *Config, url string) (path string, err error) {
	dir, err := filepath.Abs(cfg.authDir())
	if err != nil {
		return "", fmt.Errorf("write cli context: %w", err)
	}
	b, err := json.Marshal(map[string]string{
		"description": "millrace, admin", "url": url, "nkey": filepath.Join(dir, AdminSeed),
	})
	if err != nil {
		return "", fmt.Errorf("write cli context: %w", err)
	}
	path = filepath.Join(dir, CLIContext)
	if err := writeDurably(path, string(b)+"\n"); err != nil {
		return "", fmt.Errorf("write cli context: %w", err)
	}
	return path, nil
}

// identities are the local connections that are let in, by their public key. Nobody else is: there is no
// anonymous user.
func (u *users) identities() map[string]identity {
	all := make(map[string]identity)
	add := func(kp nkeys.KeyPair, account, via string, perms *server.Permissions) {
		if kp == nil {
			return
		}
		// A key that was made, or was read as one, has a public half.
		if pub, err := kp.PublicKey(); err == nil {
			all[pub] = identity{key: pub, account: account, via: via, perms: perms}
		}
	}
	add(u.inProcess, AccountOrders, overPipe, nil)
	add(u.peers, AccountPeers, overPipe, nil)
	add(u.admin, AccountOrders, overTCP, nil)
	add(u.role, AccountOrders, overTCP, rolePermissions())
	return all
}

// nkeyUsers is the server's list of the same, with the accounts of its options.
func (u *users) nkeyUsers(o *server.Options) []*server.NkeyUser {
	var all []*server.NkeyUser
	for _, who := range u.identities() {
		all = append(all, &server.NkeyUser{
			Nkey: who.key, Permissions: who.perms, Account: accountOf(o, who.account),
			AllowedConnectionTypes: map[string]struct{}{who.via: {}},
		})
	}
	slices.SortFunc(all, func(a, b *server.NkeyUser) int { return strings.Compare(a.Nkey, b.Nkey) })
	return all
}

// rolePermissions keeps a role process from changing or emptying what all share. The server's
// housekeeping runs with the embedded server, streams are made by it or by `millrace streams apply`.
func rolePermissions() *server.Permissions {
	return &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{
		"$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>", "$JS.API.STREAM.DELETE.>",
		"$JS.API.STREAM.PURGE.>", "$JS.API.STREAM.MSG.DELETE.>", "$JS.API.STREAM.RESTORE.>",
		"$JS.API.STREAM.SNAPSHOT.>", "$JS.API.SERVER.>", "$JS.API.ACCOUNT.PURGE.>", "$SYS.>",
	}}}
}

// ClientAuth returns the option that authenticates a connection with an nkey seed file or with a
// NATS credentials file (JWT and seed). The file is read again at every reconnect.
func ClientAuth(path string) (nats.Option, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if strings.Contains(string(b), "BEGIN NATS USER JWT") {
		return nats.UserCredentials(path), nil
	}
	opt, err := nats.NkeyOptionFromSeed(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCredentials, path, err)
	}
	return opt, nil
}

// keyAuth authenticates with a key that is in memory.
func keyAuth(kp nkeys.KeyPair) nats.Option {
	return func(o *nats.Options) error {
		if kp == nil {
			return ErrPeering
		}
		pub, err := kp.PublicKey()
		if err != nil {
			return fmt.Errorf("nkey: %w", err)
		}
		return nats.Nkey(pub, kp.Sign)(o)
	}
}
