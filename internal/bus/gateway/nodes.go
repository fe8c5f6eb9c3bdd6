package gateway

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/retry"
	"millrace/subjects"
)

// MaxRemoved is how many removals are remembered.
const MaxRemoved = 1024

// maxEntry bounds a URI.
const maxEntry = 8 << 10

// ErrEntry is what is no entry: without a URI, or too long.
var ErrEntry = errors.New("not an entry of the node set")

// Entry is a node that was added, or removed, at run time.
type Entry struct {
	URI     string  `json:"uri"`
	Weight  float64 `json:"weight,omitempty"`
	WSURL   string  `json:"ws_url,omitempty"`
	Removed bool    `json:"removed,omitempty"`
}

// Nodes is the set of nodes that gateways share. It is safe for concurrent use.
type Nodes struct {
	bus Bus
	log *slog.Logger
}

// NewNodes returns the set.
func NewNodes(b Bus, log *slog.Logger) *Nodes { return &Nodes{b, log} }

func (n *Nodes) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	js, err := n.bus.GatewayState()
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, subjects.BucketGatewayNodes)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", subjects.BucketGatewayNodes, err)
	}
	return kv, nil
}

// key is an entry's: a URI has characters, and secrets, that a key must not have.
func key(uri string) string {
	sum := sha256.Sum256([]byte(uri))
	return hex.EncodeToString(sum[:16])
}

// stored is an entry with its place in the bucket.
type stored struct {
	Entry
	key      string
	revision uint64
}

// decode reads an entry; a value that is none, or of another URI than its key's, is nobody's.
func decode(name string, value []byte) (e Entry, ok bool) {
	if len(value) > maxEntry || json.Unmarshal(value, &e) != nil || e.URI == "" || key(e.URI) != name {
		return Entry{}, false
	}
	return e, true
}

// List returns the entries by URI, those that say Removed too.
func (n *Nodes) List(ctx context.Context) ([]Entry, error) {
	all, err := n.all(ctx)
	return entries(all), err
}

func (n *Nodes) all(ctx context.Context) (map[string]stored, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	kv, err := n.bucket(ctx)
	if err != nil {
		return nil, err
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	defer func() { _ = w.Stop() }()
	all := make(map[string]stored)
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return nil, fmt.Errorf("list nodes: %w", errWatchEnded)
			}
			if e == nil {
				return all, nil
			}
			keep(all, e)
		case <-ctx.Done():
			return nil, fmt.Errorf("list nodes: %w", context.Cause(ctx))
		}
	}
}

// keep takes an update in.
func keep(all map[string]stored, e jetstream.KeyValueEntry) {
	v, ok := decode(e.Key(), e.Value())
	if !ok || e.Operation() != jetstream.KeyValuePut {
		delete(all, e.Key())
		return
	}
	all[e.Key()] = stored{v, e.Key(), e.Revision()}
}

func entries(all map[string]stored) []Entry {
	es := make([]Entry, 0, len(all))
	for _, s := range all {
		es = append(es, s.Entry)
	}
	slices.SortFunc(es, func(a, b Entry) int { return strings.Compare(a.URI, b.URI) })
	return es
}

// Add stores an entry in the place of any other of its URI; every gateway uses the node from then on.
func (n *Nodes) Add(ctx context.Context, e Entry) error {
	e.Removed = false
	return n.put(ctx, e)
}

// Remove stores that the URI is not to be used, configured or not.
func (n *Nodes) Remove(ctx context.Context, uri string) error {
	if err := n.put(ctx, Entry{URI: uri, Removed: true}); err != nil {
		return err
	}
	all, err := n.all(ctx)
	if err != nil {
		return nil //nolint:nilerr // it is removed; tidying up waits for the next time
	}
	n.prune(ctx, all)
	return nil
}

// prune lets go of the oldest removals.
func (n *Nodes) prune(ctx context.Context, all map[string]stored) {
	gone := slices.DeleteFunc(slices.Collect(maps.Values(all)), func(s stored) bool { return !s.Removed })
	if len(gone) <= MaxRemoved {
		return
	}
	slices.SortFunc(gone, func(a, b stored) int { return cmp.Compare(a.revision, b.revision) })
	kv, err := n.bucket(ctx)
	for _, s := range gone[:len(gone)-MaxRemoved] {
		if err == nil {
			err = kv.Delete(ctx, s.key, jetstream.LastRevision(s.revision))
		}
	}
	if err != nil {
		n.log.LogAttrs(ctx, slog.LevelInfo, "old removals of nodes stay", slog.Any("error", err))
	}
}

// put is repeated until its fate is known; twice is harmless.
func (n *Nodes) put(ctx context.Context, e Entry) error {
	b, err := json.Marshal(e)
	if err != nil || e.URI == "" || len(b) > maxEntry {
		return ErrEntry
	}
	for try := 0; ; try++ {
		var kv jetstream.KeyValue
		if kv, err = n.bucket(ctx); err == nil {
			tryCtx, cancel := context.WithTimeout(ctx, apiTimeout)
			_, err = kv.Put(tryCtx, key(e.URI), b)
			cancel()
		}
		var refused *jetstream.APIError
		if err == nil || errors.As(err, &refused) || try >= 3 || !retry.Pause(ctx, retry.Backoff(try, retryLeast, retryMost)) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("store node: %w", err)
	}
	return nil
}

// Watch calls f with all entries, by URI, now and after each change, until ctx ends.
func (n *Nodes) Watch(ctx context.Context, f func([]Entry)) error {
	var last []Entry
	told := false
	tell := func(all map[string]stored) {
		if es := entries(all); !told || !slices.Equal(es, last) {
			last, told = es, true
			f(slices.Clone(es))
		}
	}
	for try := 0; ctx.Err() == nil; try++ {
		began := time.Now()
		err := n.watchOnce(ctx, tell)
		if time.Since(began) > retryMost {
			try = 0
		}
		if err != nil && ctx.Err() == nil && try%20 == 0 {
			n.log.LogAttrs(ctx, slog.LevelInfo, "watch of nodes is made again", slog.Any("error", err))
		}
		retry.Pause(ctx, retry.Backoff(try, retryLeast, retryMost))
	}
	return ctx.Err()
}

// watchOnce watches over one consumer, which lives in the server's memory and is gone after a restart.
func (n *Nodes) watchOnce(ctx context.Context, tell func(map[string]stored)) error {
	js, err := n.bus.GatewayState()
	if err != nil {
		return err
	}
	connected := js.Conn().Stats().Reconnects
	openCtx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	kv, err := n.bucket(openCtx)
	if err != nil {
		return err
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	all, complete := make(map[string]stored), false
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			if !ok {
				return errWatchEnded
			}
			if e == nil {
				complete = true
			} else {
				keep(all, e)
			}
			if complete {
				tell(all)
			}
		case <-tick.C:
			if js.Conn().Stats().Reconnects != connected {
				return errWatchEnded
			}
		}
	}
}
