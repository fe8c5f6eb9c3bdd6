package signers

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// linger is how long the first entry of a batch waits for others.
	linger = time.Millisecond
	// sendTimeout bounds one broadcast; the entries of a failed one are not told again.
	sendTimeout = 100 * time.Millisecond
)

// Run tells the other processes what is learned here and lets expired entries go, until ctx ends.
// It always returns nil.
func (c *Cache) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.tidy(ctx) })
	if c.pending != nil {
		g.Go(func() error { return c.tell(ctx) })
	}
	return g.Wait()
}

func (c *Cache) tidy(ctx context.Context) error {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			c.entries.CleanUp()
		}
	}
}

// tell sends what is pending: 64 entries, or what came within 1 ms.
func (c *Cache) tell(ctx context.Context) error {
	var (
		records  = make([]record, 0, maxRecords)
		buf      []byte
		sequence uint64
	)
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-c.pending:
			records = c.gather(ctx, append(records[:0], r))
		}
		sequence++
		buf = appendBatch(buf[:0], c.self, sequence, records, c.seal)
		c.send(ctx, buf, len(records))
	}
}

// gather fills a batch until it is full, its time is over or ctx ends.
func (c *Cache) gather(ctx context.Context, records []record) []record {
	t := time.NewTimer(linger)
	defer t.Stop()
	for len(records) < maxRecords {
		select {
		case r := <-c.pending:
			records = append(records, r)
		case <-t.C:
			return records
		case <-ctx.Done():
			return records
		}
	}
	return records
}

func (c *Cache) send(ctx context.Context, b []byte, n int) {
	sctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	err := c.out.BroadcastSigners(sctx, b)
	if err == nil {
		c.metrics.sent.Add(float64(n))
		return
	}
	c.metrics.unsent.Add(float64(n))
	if ctx.Err() == nil {
		c.quiet.Do(func() {
			c.log.LogAttrs(ctx, slog.LevelWarn, "signer cache entries not told to other processes",
				slog.Int("entries", n), slog.Any("error", err))
		})
	}
}

// Receive takes a batch that another process told. What can't be read, proven or trusted is ignored
// and counted. It does not keep the batch.
func (c *Cache) Receive(b []byte) { c.metrics.batches[c.receive(b)].Inc() }

func (c *Cache) receive(b []byte) result {
	if c.seal == nil {
		return resultOff
	}
	got, err := decodeBatch(b)
	if err == nil && !c.seal.genuine(&got) {
		err = errMAC
	}
	switch {
	case errors.Is(err, errVersion):
		return resultVersion
	case errors.Is(err, errMalformed):
		return resultMalformed
	case err != nil:
		return resultForged
	case got.origin == c.self:
		return resultEcho
	}
	from, missed, res := c.others.admit(got.origin, got.sequence, time.Now())
	if from == nil {
		return res
	}
	c.metrics.missed.Add(float64(missed))
	got.each(func(r record) {
		// What this process checked itself is never replaced by what it is told.
		if _, fresh := c.entries.SetIfAbsent(r.key, entry{tx: r.tx, by: from}); fresh {
			c.metrics.learned.Inc()
		}
	})
	return resultAccepted
}
