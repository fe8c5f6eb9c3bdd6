package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"millrace/egress/nodes"
	"millrace/internal/bus/gateway"
	"millrace/internal/rpcapi"
)

// errNodeNotFound is prio-load-balancer's text.
var errNodeNotFound = errors.New("node not found")

// checkWithin bounds the check of a node that is to be added.
const checkWithin = 5 * time.Second

// nodeStore keeps what happens to the set at run time, for all gateways.
type nodeStore interface {
	Watch(ctx context.Context, f func([]gateway.Entry)) error
	Add(ctx context.Context, e gateway.Entry) error
	Remove(ctx context.Context, uri string) error
}

// nodeSet is the set of a gateway's nodes: those of the configuration and those that were added at run time, without those
// that were removed. What happens at run time is on the bus, so that all gateways agree.
type nodeSet struct {
	pool   *nodes.Pool
	shared nodeStore
	log    *slog.Logger

	mu         sync.Mutex
	configured []*rpcapi.Node
	entries    []gateway.Entry // of the bus, as last seen
	uris       []string        // of the nodes in use, in the order in which they came
}

// Run follows what other gateways add and remove, until ctx ends.
func (s *nodeSet) Run(ctx context.Context) error {
	return s.shared.Watch(ctx, func(entries []gateway.Entry) { s.hear(ctx, entries) })
}

// hear takes what the bus has.
func (s *nodeSet) hear(ctx context.Context, entries []gateway.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = entries
	s.renew(ctx)
}

// configure takes the nodes of a configuration.
func (s *nodeSet) configure(ctx context.Context, all []*rpcapi.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configured = all
	s.renew(ctx)
}

// renew makes the set anew; mu is held.
func (s *nodeSet) renew(ctx context.Context) {
	all := s.union(ctx)
	// One node that can't be in the set, such as one that has to prove itself, does not keep the others out.
	for len(all) > 0 {
		err := s.pool.Set(all)
		if err == nil {
			break
		}
		i := slices.IndexFunc(all, func(n *rpcapi.Node) bool { return s.pool.Refuses(n) != nil })
		i = max(i, 0)
		s.log.LogAttrs(ctx, slog.LevelError, "node refused", slog.String("node", all[i].Label), slog.Any("error", err))
		all = slices.Delete(all, i, i+1)
	}
	if len(all) == 0 {
		_ = s.pool.Set(nil)
	}
	s.uris = s.uris[:0]
	for _, n := range all {
		s.uris = append(s.uris, n.URI)
	}
}

// union is the set; mu is held.
func (s *nodeSet) union(ctx context.Context) []*rpcapi.Node {
	removed := map[string]bool{}
	for _, e := range s.entries {
		removed[e.URI] = e.Removed
	}
	var all []*rpcapi.Node
	seen := map[rpcapi.Tag]bool{}
	add := func(n *rpcapi.Node) {
		if !seen[n.Tag] && !removed[n.URI] {
			seen[n.Tag] = true
			all = append(all, n)
		}
	}
	for _, n := range s.configured {
		add(n)
	}
	for _, e := range s.entries {
		if e.Removed {
			continue
		}
		entry := NodeEntry{URL: e.URI, Weight: e.Weight, WSURL: e.WSURL}
		n, err := entry.node()
		if err != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "node refused", slog.Any("error", err))
			continue
		}
		add(n)
	}
	return all
}

// List is the URIs of the nodes in use.
func (s *nodeSet) List() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.uris)
}

// Add adds a node that answers, everywhere. One that is there already changes nothing.
func (s *nodeSet) Add(ctx context.Context, uri string) error {
	n, err := rpcapi.ParseNode(uri)
	if err != nil {
		return fmt.Errorf("AddNode failed: %w", err)
	}
	if slices.Contains(s.List(), uri) {
		return nil
	}
	if slices.ContainsFunc(s.pool.Nodes(), func(is *rpcapi.Node) bool { return is.Tag == n.Tag }) {
		return fmt.Errorf("AddNode failed: %s is there under another URI: remove that first", n.Label)
	}
	check, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	if err := s.pool.Check(check, n); err != nil {
		return fmt.Errorf("AddNode failed: healthcheck failed: %w", err)
	}
	return s.change(ctx, gateway.Entry{URI: uri}, s.shared.Add(ctx, gateway.Entry{URI: uri}))
}

// Remove removes a node, everywhere. What it is doing ends normally.
func (s *nodeSet) Remove(ctx context.Context, uri string) error {
	if !slices.Contains(s.List(), uri) {
		return errNodeNotFound
	}
	return s.change(ctx, gateway.Entry{URI: uri, Removed: true}, s.shared.Remove(ctx, uri))
}

// change puts in force here what was stored, without waiting to hear of it.
func (s *nodeSet) change(ctx context.Context, e gateway.Entry, err error) error {
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "change of the nodes was not stored", slog.Any("error", err))
		return errors.New("the change was not stored, try again")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = slices.DeleteFunc(slices.Clone(s.entries), func(old gateway.Entry) bool { return old.URI == e.URI })
	s.entries = append(s.entries, e)
	s.renew(ctx)
	return nil
}
