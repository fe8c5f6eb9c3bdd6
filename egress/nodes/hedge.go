package nodes

import (
	"bytes"
	"context"
	"errors"
	"time"

	"millrace/egress/nodes/dispatch"
	"millrace/internal/rpcapi"
)

// errOvertaken ends the try whose answer is not needed any more.
var errOvertaken = errors.New("another node answered first")

// hedged asks a second node when the first one takes its time and another has a place at once. The first answer
// counts, and the other try is cut off. Of two failures the last one counts.
func (p *Pool) hedged(ctx context.Context, t *trip, place dispatch.Place, began time.Time) (result, rpcapi.Tag) {
	type end struct {
		result
		tag rpcapi.Tag
	}
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(errOvertaken)
	ends := make(chan end, 2)
	// The slower try may still be sending when this returns, and the caller's bytes are the caller's again then.
	own := *t.call
	own.Body = bytes.Clone(own.Body)
	ask := func(place dispatch.Place, began time.Time) {
		ends <- end{p.once(both, &own, place, began), place.Tag}
	}
	go ask(place, began)
	under := 1
	timer := time.NewTimer(p.cfg().HedgeAfter)
	defer timer.Stop()
	for {
		select {
		case e := <-ends:
			under--
			if e.err == nil || under == 0 || ctx.Err() != nil {
				return e.result, e.tag
			}
		case <-timer.C:
			w := t.want
			w.Avoid = append(append([]rpcapi.Tag{}, t.want.Avoid...), place.Tag)
			second, ok := p.places.TryAcquire(&w)
			if !ok || second.Tag == place.Tag {
				if ok {
					p.places.Release(second)
				}
				continue
			}
			p.m.hedges.Inc()
			t.answer.Tries++
			under++
			go ask(second, time.Now())
		}
	}
}
