package embedded

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// AccountPeers is the account of the streams into which peers' orders are fetched. It exists with
// Config.Peering only.
const AccountPeers = "PEERS"

// Settings of leafnode connections that are the same for all.
const (
	leafMinVersion    = "2.15.0" // the oldest server whose durable sourcing is what we rely on
	leafWriteDeadline = 5 * time.Second
	leafReconnect     = 100 * time.Millisecond
	leafTLSSeconds    = 5 // a handshake, judging the certificate included
	maxPings          = 2
)

// Peering makes a server exchange orders with others by leafnode connections. Package peerlink fills it in;
// nothing of it can be changed while the server runs, but the accounts and remotes (SetLeafs).
type Peering struct {
	Domain      string        // the operator's name: the JetStream domain
	Listen      string        // host:port for leafnodes; empty: none; port 0: any
	TLS         *tls.Config   // of that listener; needed with Listen
	Compression string        // of the listener's connections: server.CompressionOff, server.CompressionS2Fast
	Ping        time.Duration // how often a connection is asked whether it is there; two unanswered end it
	// Admit judges a leafnode that connects by its TLS connection and the user name that it gave. It is
	// called for each connection once, and not before Settled. An error refuses it.
	Admit func(cs tls.ConnectionState, user string) (Leaf, error)
}

// Leaf is what a leafnode that was admitted may do.
type Leaf struct {
	Account     string
	Permissions *server.Permissions // from the leafnode's point of view; never nil
}

func (p *Peering) validate() error {
	switch {
	case p.Domain == "":
		return fmt.Errorf("%w: no operator", ErrPeering)
	case p.Listen == "":
		return nil
	case p.TLS == nil || p.TLS.MinVersion < tls.VersionTLS13 || p.TLS.VerifyConnection == nil:
		return fmt.Errorf("%w: a listener for leafnodes needs TLS 1.3 and judges every connection", ErrPeering)
	case p.Admit == nil:
		return fmt.Errorf("%w: nobody admits leafnodes", ErrPeering)
	}
	_, _, err := splitListen(p.Listen)
	return err
}

// apply completes the server's options.
func (p *Peering) apply(o *server.Options, remotes []*server.RemoteLeafOpts) (err error) {
	o.JetStreamDomain = p.Domain
	o.PingInterval, o.MaxPingsOut = p.Ping, maxPings
	l := &o.LeafNode
	l.ReconnectInterval, l.Remotes = leafReconnect, remotes
	if p.Listen == "" {
		return nil
	}
	if l.Host, l.Port, err = splitListen(p.Listen); err != nil {
		return fmt.Errorf("listen for peers: %w", err)
	}
	l.TLSConfig, l.TLSHandshakeFirst, l.TLSTimeout, l.AuthTimeout = p.TLS, true, leafTLSSeconds, leafTLSSeconds
	l.Compression = server.CompressionOpts{Mode: p.Compression}
	l.IsolateLeafnodeInterest, l.NoAdvertise = true, true
	l.MinVersion, l.WriteDeadline = leafMinVersion, leafWriteDeadline
	return nil
}

// SetLeafs gives a running server other accounts, ORDERS and PEERS among them, and other remotes. Remotes is
// called for a fresh list each time; it may be nil. Connections of accounts and remotes that stay are not
// disturbed; those of accounts that are gone have to be ended by DisconnectLeafs.
//
// The server reloads twice: an account can import only what another has exported before, and remotes are dialed best
// when their accounts are there.
func (s *Server) SetLeafs(accounts []Account, remotes func() []*server.RemoteLeafOpts) error {
	if s.cfg.Peering == nil {
		return ErrPeering
	}
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if _, err := s.reload(accounts, s.remotes); err != nil {
		// A remote may have lost its account: then both change in one step.
		if _, err := s.reload(accounts, remotes); err != nil {
			return err
		}
	}
	left, err := s.reload(accounts, remotes)
	if err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%w: %d imports without an export", ErrPeering, left)
	}
	s.remotes = remotes
	return nil
}

func (s *Server) reload(accounts []Account, remotes func() []*server.RemoteLeafOpts) (left int, err error) {
	o, err := s.options(withoutImports(accounts))
	if err != nil {
		return 0, err
	}
	if left, err = importInto(o, accounts, s.ns); err != nil {
		return left, err
	}
	if remotes != nil {
		o.LeafNode.Remotes = remotes()
	}
	if err := s.ns.ReloadOptions(o); err != nil {
		return left, fmt.Errorf("reload embedded server: %w", err)
	}
	return left, nil
}

// Leafs returns the leafnode connections, accepted and solicited, of one account or of all (empty).
func (s *Server) Leafs(account string) ([]*server.LeafInfo, error) {
	z, err := s.ns.Leafz(&server.LeafzOptions{Account: account})
	if err != nil {
		return nil, fmt.Errorf("list leafnodes: %w", err)
	}
	return z.Leafs, nil
}

// DisconnectLeafs ends the leafnode connections of an account at once, and returns how many there were.
func (s *Server) DisconnectLeafs(ctx context.Context, account string) int {
	leafs, err := s.Leafs(account)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "leafnodes not disconnected", slog.Any("error", err))
	}
	n := 0
	for _, l := range leafs {
		if s.ns.DisconnectClientByID(l.ID) == nil {
			n++
		}
	}
	return n
}

// Interest reports whether there is a subscription in an account that a subject reaches.
func (s *Server) Interest(account, subject string) bool {
	a, err := s.ns.LookupAccount(account)
	return err == nil && a.SubscriptionInterest(subject)
}

// LeafPort is the port on which leafnodes are accepted; zero without Peering.Listen.
func (s *Server) LeafPort() int {
	if s.cfg.Peering == nil || s.cfg.Peering.Listen == "" {
		return 0
	}
	v, err := s.ns.Varz(nil)
	if err != nil {
		return 0
	}
	return v.LeafNode.Port
}

// PeersOption is ConnectOption for the account PEERS.
func (s *Server) PeersOption() nats.Option { return s.connectOption(s.users.peers) }
