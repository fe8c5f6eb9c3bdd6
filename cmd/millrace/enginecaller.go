package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	replayer "millrace/egress/engine"
	door "millrace/ingress/engine"
	"millrace/internal/bus/enginelog"
	"millrace/internal/engineapi"
	calls "millrace/internal/engineapi/record"
)

// errFenced is why a replayed call is not sent: another process may have the lease.
var errFenced = errors.New("the lease is not held at the moment")

// primaryCaller reaches the primary of one term through the door, which knows what the consensus
// client sent in the meantime.
type primaryCaller struct {
	door  *door.Door
	term  door.Term
	epoch uint64
	valid func() bool

	mu      sync.Mutex
	decided door.Generation
}

var _ replayer.Decider = (*primaryCaller)(nil)

// Decide begins a decision.
func (c *primaryCaller) Decide() calls.ID {
	g := c.door.Generation()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decided = g
	return callID(c.epoch, g)
}

// callID is the record's name of a live call.
func callID(epoch uint64, g door.Generation) calls.ID {
	if g == 0 {
		return calls.ID{}
	}
	return calls.ID{Epoch: epoch, Sequence: uint64(g)}
}

// Call sends a step that was decided, unless a live call went out or the primary changed since.
func (c *primaryCaller) Call(ctx context.Context, body []byte) (status int, answer []byte, date time.Time, err error) {
	if !c.valid() {
		return 0, nil, time.Time{}, errFenced
	}
	c.mu.Lock()
	decided := c.decided
	c.mu.Unlock()
	status, answer, date, err = c.door.Replay(ctx, c.term, decided, body)
	switch {
	case errors.Is(err, door.ErrOvertaken):
		err = replayer.ErrOvertaken
	case errors.Is(err, door.ErrNoToken):
		err = replayer.ErrNoToken
	}
	return status, answer, date, err
}

// fencedCaller reaches a client while this process may.
type fencedCaller struct {
	http  *replayer.HTTP
	valid func() bool
}

// Call sends one request.
func (c *fencedCaller) Call(ctx context.Context, body []byte) (status int, answer []byte, date time.Time, err error) {
	if !c.valid() {
		return 0, nil, time.Time{}, errFenced
	}
	return c.http.Call(ctx, body)
}

// call makes a client's caller: with tokens of its own secret, or with the consensus client's.
func (e *engineRole) call(c *client) (*fencedCaller, error) {
	valid := func() bool { return e.lease.valid() }
	cfg := replayer.HTTPConfig{URL: c.URL}
	switch {
	case c.JWTSecret != "":
		secret, err := engineapi.LoadSecret(c.JWTSecret)
		if err != nil {
			return nil, err
		}
		cfg.Secret = secret
	default:
		cfg.Token = func(time.Time) (string, error) {
			if token, ok := e.door.LiveToken(); ok {
				return token, nil
			}
			return "", replayer.ErrNoToken
		}
	}
	var err error
	if cfg.TLS, err = authorities(c.CA); err != nil {
		return nil, err
	}
	h, err := replayer.NewHTTP(cfg)
	if err != nil {
		return nil, err
	}
	return &fencedCaller{http: h, valid: valid}, nil
}

// authorities is a TLS configuration that trusts the file's certificates, the system's without one.
func authorities(path string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12} // clients sit behind proxies of any age
	if path == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", path)
	}
	return conf, nil
}

// errNoAnswer is a client that does not say where it is.
var errNoAnswer = errors.New("the client does not name its head")

// latest is a client's head.
func latest(ctx context.Context, c replayer.Caller) (common.Hash, error) {
	status, answer, _, err := c.Call(ctx, []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest",false]}`))
	if err != nil {
		return common.Hash{}, err
	}
	_, head, ok := engineapi.BlockResult(answer)
	if !ok {
		return common.Hash{}, fmt.Errorf("%w: HTTP %d", errNoAnswer, status)
	}
	return head, nil
}

// watchedLog is the record, and how far it was read.
type watchedLog struct {
	*enginelog.Log

	mu sync.Mutex
	id calls.ID
}

// Read is the record's, watched.
func (l *watchedLog) Read(ctx context.Context, from uint64, f func(calls.Entry) error) error {
	return l.Log.Read(ctx, from, l.watch(f))
}

// Follow is the record's, watched.
func (l *watchedLog) Follow(ctx context.Context, from uint64, f func(calls.Entry) error) error {
	return l.Log.Follow(ctx, from, l.watch(f))
}

// watch notes an entry's call when f is done with it.
func (l *watchedLog) watch(f func(calls.Entry) error) func(calls.Entry) error {
	return func(e calls.Entry) error {
		err := f(e)
		if id := e.ID(); e.Request != nil {
			l.mu.Lock()
			if l.id.Compare(id) < 0 {
				l.id = id
			}
			l.mu.Unlock()
		}
		return err
	}
}

// newest is the newest call that was read.
func (l *watchedLog) newest() calls.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id
}
