package embedded

import (
	"crypto/tls"
	"encoding/base64"
	"net"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// identity is who a local connection may be: what it proves with its key, and what that allows.
type identity struct {
	key     string // public
	account string
	via     string // overPipe or overTCP
	perms   *server.Permissions
}

// checker decides about every connection of the server: local ones by the key that they prove, leafnodes
// by the certificate that their TLS handshake showed. The server asks it again about local connections
// that are open when it reloads, which changes nothing for them.
type checker struct {
	local    map[string]identity
	admitted atomic.Bool // who comes by TCP or as a leafnode; before Settled: nobody
	admit    func(cs tls.ConnectionState, user string) (Leaf, error)
	ns       *server.Server
}

var _ server.Authentication = (*checker)(nil)

// Check implements server.Authentication. Whoever it refuses is disconnected.
func (c *checker) Check(conn server.ClientAuthentication) bool {
	switch conn.Kind() {
	case server.CLIENT:
		return c.client(conn)
	case server.LEAF:
		return c.leaf(conn)
	}
	return false
}

func (c *checker) client(conn server.ClientAuthentication) bool {
	o := conn.GetOpts()
	who, ok := c.local[o.Nkey]
	if !ok || who.via != via(conn.RemoteAddress()) || who.via != overPipe && !c.admitted.Load() {
		return false
	}
	if !signed(o.Nkey, o.Sig, conn.GetNonce()) {
		return false
	}
	return c.register(conn, who.account, who.perms)
}

func (c *checker) leaf(conn server.ClientAuthentication) bool {
	cs := conn.GetTLSConnectionState()
	if c.admit == nil || cs == nil || !c.admitted.Load() {
		return false
	}
	l, err := c.admit(*cs, conn.GetOpts().Username)
	if err != nil || l.Permissions == nil {
		return false
	}
	return c.register(conn, l.Account, l.Permissions)
}

// register puts a connection into its account. RegisterUser reports no failure, so what could fail is
// asked before.
func (c *checker) register(conn server.ClientAuthentication, account string, perms *server.Permissions) bool {
	a, err := c.ns.LookupAccount(account)
	if err != nil {
		return false
	}
	conn.RegisterUser(&server.User{Account: a, Permissions: perms})
	return true
}

// via tells how a connection came in. A connection that is gone has no address, and is refused.
func via(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	if addr.Network() == "pipe" {
		return overPipe
	}
	return overTCP
}

// signed reports whether sig is the key's signature of the nonce that this connection was given.
func signed(key, sig string, nonce []byte) bool {
	if len(nonce) == 0 || sig == "" {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		if raw, err = base64.StdEncoding.DecodeString(sig); err != nil {
			return false
		}
	}
	public, err := nkeys.FromPublicKey(key)
	return err == nil && public.Verify(nonce, raw) == nil
}
