package enginelog

import (
	"context"
	"log/slog"
)

// slowTries is how often a record in parts may come to nothing because the store is too slow for it, until it
// is lost: all others wait behind it.
const slowTries = 6

// slowness counts the tries of the record that the store was last too slow for.
type slowness struct {
	id    string
	tries int
}

func (s *slowness) note(it *item) {
	if id := it.message(0, 0).String(); s.id != id {
		*s = slowness{id: id}
	}
	s.tries++
}

// of is the count for a record.
func (s *slowness) of(it *item) int {
	if s.tries == 0 || s.id != it.message(0, 0).String() {
		return 0
	}
	return s.tries
}

// giveUp loses the record in hand, which the store is too slow for.
func (p *publisher) giveUp(ctx context.Context) {
	it := p.flying.it
	p.m.lose(lostTooSlow, 1)
	p.log.LogAttrs(ctx, slog.LevelError, "the bus is too slow for this record, it is lost",
		slog.String("id", it.id.String()), slog.Int("bytes", len(it.body)), slog.Int("tries", p.slow.tries))
	p.j.settle(p.flying.mark, 0)
	p.flying, p.slow = nil, slowness{}
}
