package index

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/order"
)

// Timeline is what is known of one acceptance. Times are on the bus clock, to the microsecond; zero:
// not known or not yet.
type Timeline struct {
	Accept         order.AcceptID
	ID             order.ID
	Hash           common.Hash
	Signer         common.Address
	Method         order.Method
	Kind           order.Kind
	Priority       order.Priority
	Origin         string
	Replacement    order.UUID
	Nonce          uint64
	NonceDefaulted bool
	Transactions   int // of a bundle that was validated

	ReceivedAt time.Time
	Deadline   time.Time
	InSequence uint64 // in IN of the class
	InStoredAt time.Time
	// DecidedAt is when validation ended, after Attempts deliveries to a worker. Validated: it found
	// nothing wrong.
	DecidedAt  time.Time
	Attempts   int
	Validated  bool
	OKSequence uint64 // in OK of the class
	OKStoredAt time.Time
	// Ends are the terminal records, by target.
	Ends []End
}

// Answer is what a look-up found.
type Answer struct {
	Orders []Timeline // newest first
	More   bool       // there are older ones beyond the limit
	// Current: everything that was stored when the look-up began was searched; false: the index was
	// behind.
	Current bool
}

// freshness is how long a look-up waits for the index to catch up.
const freshness = 750 * time.Millisecond

// Lookup returns the acceptances that q names, newest first, at most limit of them and only those that
// want takes (nil: all). It waits a moment for what was stored just now. ErrClosed when this process
// has no index.
func (x *Index) Lookup(ctx context.Context, q Query, limit int, want func(*Timeline) bool) (Answer, error) {
	start := time.Now()
	if !x.isOpen() {
		return Answer{}, ErrClosed
	}
	fresh, cancel := context.WithTimeout(ctx, freshness)
	current := x.rounds.await(fresh)
	cancel()
	x.open.RLock()
	defer x.open.RUnlock()
	if x.db == nil {
		return Answer{}, ErrClosed
	}
	if err := x.db.ok(); err != nil {
		return Answer{}, err
	}
	s := search{ctx: ctx, q: q, limit: limit, want: want, oldest: max(x.oldest, minuteOf(x.ports.Now().Add(-x.cfg.MaxAge)))}
	err := s.run(x.db)
	x.m.lookups.Observe(time.Since(start).Seconds())
	if err != nil {
		return Answer{}, fmt.Errorf("look up %s: %w", q, err)
	}
	return Answer{Orders: s.found, More: s.more, Current: current}, nil
}

func (x *Index) isOpen() bool {
	x.open.RLock()
	defer x.open.RUnlock()
	return x.db != nil
}

// search is one look-up.
type search struct {
	ctx    context.Context //nolint:containedctx // lives as long as one call
	q      Query
	limit  int
	want   func(*Timeline) bool
	oldest minute
	found  []Timeline
	more   bool
	it     *pebble.Iterator
}

func (s *search) run(db *store) (err error) {
	if s.it, err = db.NewIter(nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.it.Close()) }()
	if a, ok := s.q.accept(); ok {
		if err := s.add(a); err != nil || len(s.found) > 0 {
			return err
		}
	}
	if !s.it.Last() {
		return s.it.Error()
	}
	newest, ok := minuteIn(s.it.Key())
	if !ok {
		return ErrEntry
	}
	for m := newest; m >= s.oldest && !s.more; m-- {
		if err := s.minute(m); err != nil {
			return err
		}
		if m == 0 {
			break
		}
	}
	return nil
}

// minute adds the orders of a minute that have the name, the newest first.
func (s *search) minute(m minute) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	prefix := appendPrefix(nil, m, tableMarks, s.q.mark())
	var as []order.AcceptID
	for ok := s.it.SeekPrefixGE(prefix); ok; ok = s.it.Next() {
		if key := s.it.Key(); len(key) == prefixSize+len(order.AcceptID{}) {
			as = append(as, order.AcceptID(key[prefixSize:]))
		}
	}
	if err := s.it.Error(); err != nil {
		return err
	}
	for _, a := range slices.Backward(as) {
		if err := s.add(a); err != nil || s.more {
			return err
		}
	}
	return nil
}

// add adds an acceptance if it is one that was asked for.
func (s *search) add(a order.AcceptID) error {
	t := Timeline{Accept: a, ReceivedAt: a.Received()}
	known := false
	prefix := appendOrder(nil, a, "")
	for ok := s.it.SeekPrefixGE(prefix); ok; ok = s.it.Next() {
		target := s.it.Key()[len(prefix):]
		if len(target) == 0 {
			f, err := decodeFacts(s.it.Value(), a)
			if err != nil {
				return err
			}
			known = true
			t.tell(&f)
			continue
		}
		e, err := decodeEnd(s.it.Value(), a, string(target))
		if err != nil {
			return err
		}
		t.Ends = append(t.Ends, e)
	}
	if err := s.it.Error(); err != nil {
		return err
	}
	if !known || !s.q.fits(&t) || s.want != nil && !s.want(&t) {
		return nil
	}
	if len(s.found) == s.limit {
		s.more = true
		return nil
	}
	slices.SortFunc(t.Ends, func(a, b End) int { return cmp.Compare(a.Target, b.Target) })
	s.found = append(s.found, t)
	return nil
}

// fits reports whether t has the whole name, as far as t knows it: of a transaction in a bundle only
// the beginning is kept.
func (q Query) fits(t *Timeline) bool {
	if !q.full || t.ID == order.ID(q.name) || t.Hash == common.Hash(q.name) {
		return true
	}
	m := q.mark()
	return !bytes.Equal(m[:], t.ID[:len(m)]) && !bytes.Equal(m[:], t.Hash[:len(m)]) && t.Transactions > 0
}

func (t *Timeline) tell(f *facts) {
	t.ID, t.Hash, t.Signer, t.Method, t.Kind, t.Priority, t.Origin = f.id, f.hash, f.signer, f.method, f.kind, f.priority, f.origin
	t.Replacement, t.Nonce, t.NonceDefaulted = f.replacement, f.nonce, f.defaulted
	t.Transactions = int(min(f.txs, 1<<20))
	t.Deadline = f.deadline
	t.InSequence, t.InStoredAt, t.DecidedAt, t.Attempts = f.trail.InSequence, f.trail.InStoredAt, f.trail.DecidedAt, f.trail.Attempts
	t.Validated = f.validated || f.sequence != 0
	t.OKSequence, t.OKStoredAt = f.sequence, f.storedAt
}
