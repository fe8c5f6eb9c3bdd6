package loadtest

import (
	"context"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// feedBatch is how many orders one goroutine makes in a row.
	feedBatch = 16
	// feedDepth bounds what is made ahead, in batches: about 7 MB at the published sizes.
	feedDepth = 64
	// feedBytes bounds it where all orders have a fixed size.
	feedBytes = 64 << 20
)

// Feed hands out the orders of a corpus in sequence, made ahead on several goroutines. It holds at
// most feedDepth*feedBatch orders beside those that it was told to preload; when full, making waits.
type Feed struct {
	corpus  *Corpus
	first   uint64
	limit   uint64 // orders in all; zero: no end
	makers  int
	batches chan chan batch
	loaded  []*Order // made before anything is sent

	mu   sync.Mutex
	have []*Order
	err  error
}

type batch struct {
	orders []*Order
	err    error
}

// NewFeed returns a feed of limit orders (zero: without end) starting at order first.
func NewFeed(c *Corpus, first, limit uint64) *Feed {
	depth := feedDepth
	if size := c.cfg.Size; size > 0 {
		depth = min(max(feedBytes/(size*feedBatch), 1), feedDepth)
	}
	return &Feed{corpus: c, first: first, limit: limit, makers: max(1, runtime.GOMAXPROCS(0)), batches: make(chan chan batch, depth)}
}

// Preload makes the first n orders now and keeps them, so that making them costs nothing during
// the run. The caller bounds n by its memory.
func (f *Feed) Preload(ctx context.Context, n uint64) error {
	if f.limit > 0 {
		n = min(n, f.limit)
	}
	f.loaded = make([]*Order, n)
	g, ctx := errgroup.WithContext(ctx)
	for w := range uint64(f.makers) { //nolint:gosec // positive
		g.Go(func() error {
			for i := w; i < n && ctx.Err() == nil; i += uint64(f.makers) { //nolint:gosec // positive
				o, err := f.corpus.Order(f.first + i)
				if err != nil {
					return err
				}
				f.loaded[i] = o
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	f.have = f.loaded
	return nil
}

// Run makes orders until the limit is reached or ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	type job struct {
		first, n uint64
		done     chan<- batch
	}
	jobs := make(chan job)
	g, ctx := errgroup.WithContext(ctx)
	for range f.makers {
		g.Go(func() error {
			for j := range jobs {
				b := batch{orders: make([]*Order, 0, j.n)}
				for i := range j.n {
					o, err := f.corpus.Order(j.first + i)
					if err != nil {
						b.err = err
						break
					}
					b.orders = append(b.orders, o)
				}
				j.done <- b // has room for it
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(jobs)
		defer close(f.batches)
		for at := uint64(len(f.loaded)); f.limit == 0 || at < f.limit; at += feedBatch {
			n := uint64(feedBatch)
			if f.limit > 0 {
				n = min(n, f.limit-at)
			}
			done := make(chan batch, 1)
			select {
			case f.batches <- done:
			case <-ctx.Done():
				return nil
			}
			jobs <- job{first: f.first + at, n: n, done: done}
		}
		return nil
	})
	return g.Wait()
}

// Next returns the next order, ErrExhausted after the last, or ctx's error.
func (f *Feed) Next(ctx context.Context) (*Order, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next(ctx)
}

// next is Next under mu.
func (f *Feed) next(ctx context.Context) (*Order, error) {
	for len(f.have) == 0 {
		if f.err != nil {
			return nil, f.err
		}
		select {
		case done, ok := <-f.batches:
			if !ok {
				f.err = ErrExhausted
				continue
			}
			b := <-done
			f.have, f.err = b.orders, b.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	o := f.have[0]
	f.have = f.have[1:]
	return o, nil
}
