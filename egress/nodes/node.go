package nodes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"millrace/internal/rpcapi"
	"millrace/internal/wire"
)

const (
	// idleTimeout is shorter than what nodes keep idle connections for (geth: 120 s, others 75 s and 30 s), so
	// that a burst after a quiet spell meets no connection that was just given up.
	idleTimeout = 25 * time.Second
	keepAlive   = 30 * time.Second
	// spareConns are beyond the places: health checks, and connections that were given up and are being ended.
	spareConns = 4
	maxHead    = 64 << 10
)

// ErrNoVerifier refuses a node whose URI demands a proof that nothing here can judge.
var ErrNoVerifier = errors.New("the node is to prove what it runs, and nothing here can verify that")

// Verifier makes the TLS configuration that judges a node's proof. nil: none can be judged.
type Verifier func(*rpcapi.Node) (*tls.Config, error)

// node is a node of the set.
type node struct {
	*rpcapi.Node
	bounds bounds
	peer   *wire.Peer
	wire   *wire.Head
	m      *nodeMetrics
}

// bounds are what of the configuration a node's connections are made with.
type bounds struct {
	conns, answer int
	connect       time.Duration
}

func (c *Config) bounds(n *rpcapi.Node) bounds {
	return bounds{conns: c.workers(n) + spareConns, answer: int(c.MaxAnswer), connect: c.Connect}
}

// open makes what is needed to call n; it does not dial.
func (p *Pool) open(in *Config, n *rpcapi.Node) (*node, error) {
	b := in.bounds(n)
	cfg := wire.Config{
		MaxConns: b.conns, IdleTimeout: idleTimeout, ConnectTimeout: b.connect, KeepAlive: keepAlive,
		MaxHead: maxHead, MaxBody: b.answer,
	}
	if n.Pin.Kind != 0 {
		if p.verifier == nil {
			return nil, fmt.Errorf("%w: %s", ErrNoVerifier, n.Label)
		}
		var err error
		if cfg.TLS, err = p.verifier(n); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Label, err)
		}
	}
	peer, err := wire.New(n.URL, cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Label, err)
	}
	head, err := wire.NewHead(http.MethodPost, n.URL, http.Header{
		"Accept": {"application/json"}, "Content-Type": {"application/json"}, "User-Agent": {"millrace"},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Label, err)
	}
	return &node{Node: n, bounds: b, peer: peer, wire: head, m: p.m.node(n.Label)}, nil
}

// workers is how many calls n is given at a time.
func (c *Config) workers(n *rpcapi.Node) int {
	switch n.Workers {
	case 0:
		return c.Workers
	case rpcapi.NoWorkers:
		return 0
	default:
		return n.Workers
	}
}

// post makes one call, until deadline. The answer's body is the caller's.
func (n *node) post(ctx context.Context, deadline time.Time, body []byte) (wire.Answer, wire.Sent, error) {
	var room [512]byte
	head := wire.AppendEnd(n.wire.Append(room[:0], len(body)))
	return n.peer.Do(ctx, deadline, &wire.Request{Method: http.MethodPost, Head: head, Body: body})
}
