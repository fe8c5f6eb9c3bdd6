package dispatch

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/internal/rpcapi"
)

// play drives a dispatcher and its model with the same events.
type play struct {
	*rapid.T
	desk    *desk
	m       *model
	all     []*expected
	held    []Place
	stopped bool
}

func standings(t *rapid.T) Standing {
	return Standing{
		State:  rapid.SampledFrom([]State{0, Healthy, Healthy, Returning, Unhealthy}).Draw(t, "state"),
		Share:  rapid.SampledFrom([]float64{0, .3, .7}).Draw(t, "share"),
		Height: rapid.Uint64Range(0, 3).Draw(t, "height"),
	}
}

func wants(t *rapid.T, b Balance) Want {
	tags := rapid.SampledFrom([]rpcapi.Tag{1, 2, 3, 4})
	w := Want{
		Class:    rapid.SampledFrom([]rpcapi.Class{rpcapi.FastTrack, rpcapi.High, rpcapi.Low}).Draw(t, "class"),
		Received: time.Now().Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "age")) * time.Second),
		Position: rapid.SampledFrom([]Position{0, Back, Back, Front}).Draw(t, "position"),
	}
	if b == ByClient {
		w.Client = rapid.Uint64Range(0, 5).Draw(t, "client")
	}
	switch rapid.IntRange(0, 6).Draw(t, "demand") {
	case 0:
		w.Node = tags.Draw(t, "node")
	case 1:
		w.Height = rapid.Uint64Range(1, 3).Draw(t, "needs")
	case 2:
		w.Avoid = rapid.SliceOfN(tags, 1, 4).Draw(t, "avoid")
	}
	return w
}

func (p *play) arrive() {
	w := wants(p.T, p.m.cfg.Balance)
	err := p.m.refusal(&w, p.stopped)
	e := &expected{front: w.Position == Front, wantErr: err, ends: err != nil}
	e.caller = p.desk.call(fmt.Sprint(len(p.all)), w)
	p.all = append(p.all, e)
	if err != nil {
		return
	}
	fit := slices.DeleteFunc(p.m.servers(&w), func(x Member) bool { return !p.m.free(x.Tag) })
	if len(fit) == 0 {
		p.m.add(e)
		return
	}
	require.True(p, e.done, "a place was free")
	require.NoError(p, e.err)
	require.True(p, slices.ContainsFunc(fit, func(x Member) bool { return x.Tag == e.place.Tag }), "which node is chance, or the client's")
	e.ends, e.node = true, e.place.Tag
	p.m.busy[e.node]++
	p.m.turn(w.Class == rpcapi.FastTrack, w.Class == rpcapi.High, w.Class == rpcapi.Low)
}

func (p *play) hedge() {
	w := wants(p.T, p.m.cfg.Balance)
	could := slices.ContainsFunc(p.m.servers(&w), func(x Member) bool {
		return p.m.free(x.Tag) && !slices.Contains(w.Avoid, x.Tag) && x.Standing.State != Unhealthy
	})
	place, ok := p.desk.TryAcquire(&w)
	require.Equal(p, could, ok)
	if ok {
		p.m.busy[place.Tag]++
		p.held = append(p.held, place)
	}
}

func (p *play) release() {
	if len(p.held) == 0 {
		return
	}
	i := rapid.IntRange(0, len(p.held)-1).Draw(p.T, "which place")
	place := p.held[i]
	p.held = slices.Delete(p.held, i, i+1)
	p.desk.Release(place)
	p.m.busy[place.Tag]--
	p.m.serve(place.Tag)
}

func (p *play) leave() {
	if len(p.m.queue) == 0 {
		return
	}
	e := rapid.SampledFrom(p.m.queue).Draw(p.T, "who leaves")
	e.cancel(errLeft)
	p.m.end(e, errLeft)
}

func (p *play) set() {
	var members []Member
	for tag := rpcapi.Tag(1); tag <= 4; tag++ {
		if rapid.IntRange(0, 3).Draw(p.T, "in") == 0 {
			continue
		}
		x := Member{Tag: tag, Places: rapid.IntRange(0, 3).Draw(p.T, "places"), Standing: standings(p.T)}
		members = append(members, x)
	}
	p.desk.Set(members)
	for i := range members {
		if old := p.m.member(members[i].Tag); old != nil {
			members[i].Standing = old.Standing
		}
	}
	p.m.members = members
	for _, e := range slices.Clone(p.m.queue) {
		switch {
		case e.want.Node != 0 && p.m.member(e.want.Node) == nil:
			p.m.end(e, rpcapi.ErrFilterNotFound)
		case len(members) == 0:
			p.m.end(e, rpcapi.ErrNoNode)
		}
	}
	p.m.changed()
}

func (p *play) judge() {
	tag, s := rapid.SampledFrom([]rpcapi.Tag{1, 2, 3, 4}).Draw(p.T, "judged"), standings(p.T)
	p.desk.Judge(tag, s)
	if x := p.m.member(tag); x != nil {
		x.Standing = s
		p.m.changed()
	}
}

func (p *play) pass() {
	for range rapid.IntRange(1, 8).Draw(p.T, "half seconds") {
		time.Sleep(500 * time.Millisecond)
		p.m.expire(time.Now())
	}
}

// compare checks that every call is where the model has it.
func (p *play) compare() {
	synctest.Wait()
	for _, e := range p.all {
		require.Equal(p, e.ends, e.done, "call %s: %+v", e.name, e.want)
		if !e.done {
			continue
		}
		require.ErrorIs(p, e.err, e.wantErr)
		if e.err == nil {
			require.Equal(p, e.node, e.place.Tag, "call %s: %+v", e.name, e.want)
			p.held = append(p.held, e.place)
			e.place = Place{} // abandon gives back what is not held yet
		}
	}
	p.all = slices.DeleteFunc(p.all, func(e *expected) bool { return e.done })
	for c := rpcapi.FastTrack; c <= rpcapi.Low; c++ {
		require.Equal(p, p.m.waiting(c), p.desk.Waiting(c))
	}
	for _, l := range p.desk.Load() {
		require.Equal(p, p.m.busy[l.Tag], l.Busy)
		require.Equal(p, p.m.limit(*p.m.member(l.Tag)), l.Limit)
	}
}

// finish gives all places back; then nobody waits, or only until a deadline.
func (p *play) finish() {
	drained := make(chan error, 1)
	p.desk.Stop()
	p.stopped = true
	go func() { drained <- p.desk.Drain(context.Background()) }()
	p.arrive()
	p.compare()
	for len(p.held) > 0 {
		p.release()
		p.compare()
	}
	for range 15 {
		time.Sleep(500 * time.Millisecond)
		p.m.expire(time.Now())
	}
	p.compare()
	require.Empty(p, p.all, "every call has ended")
	require.NoError(p, <-drained)
}

// abandon lets all goroutines of the bubble end after a failure.
func (p *play) abandon() {
	p.desk.Set(nil)
	for _, place := range p.held {
		p.desk.Release(place)
	}
	for _, e := range p.all {
		e.cancel(errLeft)
	}
	synctest.Wait()
	for _, e := range p.all {
		p.desk.Release(e.place)
	}
}

func TestTheDispatcherDoesWhatTheModelSays(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := Config{
			FastPerHigh: rapid.IntRange(0, 3).Draw(rt, "fast per high"), DrainFast: rapid.Bool().Draw(rt, "drain"),
			LowEvery: rapid.IntRange(0, 3).Draw(rt, "low every"), Timeout: 5 * time.Second, DispatchTimeout: 2 * time.Second,
			Balance: rapid.SampledFrom([]Balance{LeastOutstanding, ByClient}).Draw(rt, "balance"),
		}
		for c := range cfg.Max {
			cfg.Max[c] = rapid.IntRange(0, 6).Draw(rt, "max")
		}
		var failed any
		synctest.Test(t, func(*testing.T) {
			p := &play{T: rt, desk: newDesk(rt, cfg), m: &model{
				cfg: cfg, pops: pops{n: cfg.FastPerHigh, drain: cfg.DrainFast}, busy: map[rpcapi.Tag]int{},
			}}
			defer func() {
				if failed = recover(); failed != nil {
					p.abandon()
				}
			}()
			p.set()
			moves := []func(){p.arrive, p.arrive, p.arrive, p.arrive, p.release, p.release, p.leave, p.hedge, p.judge, p.set, p.pass}
			for range rapid.IntRange(1, 80).Draw(rt, "events") {
				moves[rapid.IntRange(0, len(moves)-1).Draw(rt, "event")]()
				p.compare()
			}
			p.finish()
		})
		if failed != nil {
			panic(failed) // rapid wants it in its own goroutine
		}
	})
}
