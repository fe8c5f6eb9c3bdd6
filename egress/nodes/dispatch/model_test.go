package dispatch

import (
	"errors"
	"slices"
	"time"

	"millrace/internal/rpcapi"
)

// model is the dispatcher as one would write it without a thought of speed: lists that are searched from the start.
type model struct {
	cfg     Config
	pops    pops
	others  int
	members []Member
	busy    map[rpcapi.Tag]int
	queue   []*expected // all classes, retries first, then in the order in which they came
}

// expected is a call and what must become of it.
type expected struct {
	*caller
	front   bool
	checkAt time.Time
	ends    bool
	node    rpcapi.Tag // with ends and no wantErr
	wantErr error
}

var errLeft = errors.New("left")

func (m *model) limit(x Member) int {
	if x.Standing.State == Returning && x.Places > 0 {
		return min(max(int(x.Standing.Share*float64(x.Places)), 1), x.Places)
	}
	return x.Places
}

func (m *model) member(tag rpcapi.Tag) *Member {
	for i := range m.members {
		if m.members[i].Tag == tag {
			return &m.members[i]
		}
	}
	return nil
}

// servers are the nodes that may serve w, free or not.
func (m *model) servers(w *Want) []Member {
	var able []Member
	for _, x := range m.members {
		known := x.Standing.Height
		if x.Places > 0 && (w.Node == 0 || w.Node == x.Tag) && (known == 0 || known >= w.Height) {
			able = append(able, x)
		}
	}
	prefer := func(good func(Member) bool) {
		if slices.ContainsFunc(able, good) {
			able = slices.DeleteFunc(able, func(x Member) bool { return !good(x) })
		}
	}
	prefer(func(x Member) bool { return !slices.Contains(w.Avoid, x.Tag) })
	prefer(func(x Member) bool { return x.Standing.State != Unhealthy })
	return able
}

func (m *model) serves(w *Want, tag rpcapi.Tag) bool {
	return slices.ContainsFunc(m.servers(w), func(x Member) bool { return x.Tag == tag })
}

func (m *model) free(tag rpcapi.Tag) bool {
	x := m.member(tag)
	return x != nil && m.busy[tag] < m.limit(*x)
}

func (m *model) turn(fast, high, low bool) rpcapi.Class {
	if !low {
		m.others = 0
	}
	if low && m.cfg.LowEvery > 0 && m.others >= m.cfg.LowEvery {
		m.others = 0
		if !fast {
			m.pops.counter = 0
		}
		return rpcapi.Low
	}
	c := m.pops.pop(fast, high, low)
	if m.others++; c == rpcapi.Low {
		m.others = 0
	}
	return c
}

// serve gives a free place of a node to whom it belongs.
func (m *model) serve(tag rpcapi.Tag) bool {
	if !m.free(tag) {
		return false
	}
	first := func(c rpcapi.Class) *expected {
		for _, e := range m.queue {
			if e.want.Class == c && m.serves(&e.want, tag) {
				return e
			}
		}
		return nil
	}
	heads := perClass[*expected]{}
	for c := rpcapi.FastTrack; c <= rpcapi.Low; c++ {
		heads[c] = first(c)
	}
	if heads == (perClass[*expected]{}) {
		return false
	}
	e := heads[m.turn(heads[rpcapi.FastTrack] != nil, heads[rpcapi.High] != nil, heads[rpcapi.Low] != nil)]
	m.end(e, nil)
	e.node = tag
	m.busy[tag]++
	return true
}

func (m *model) end(e *expected, err error) {
	m.queue = slices.DeleteFunc(m.queue, func(x *expected) bool { return x == e })
	e.ends, e.wantErr = true, err
}

func (m *model) changed() {
	for again := true; again; {
		again = false
		for _, x := range m.members {
			again = m.serve(x.Tag) || again
		}
	}
}

func (m *model) waiting(c rpcapi.Class) int {
	n := 0
	for _, e := range m.queue {
		if e.want.Class == c {
			n++
		}
	}
	return n
}

// refusal is why a call that comes now is not let in.
func (m *model) refusal(w *Want, stopped bool) error {
	front := w.Position == Front
	switch {
	case stopped && !front:
		return rpcapi.ErrStopping
	case !time.Now().Before(w.Received.Add(m.cfg.Timeout)):
		return rpcapi.ErrQueueTimeout
	case w.Node != 0 && m.member(w.Node) == nil:
		return rpcapi.ErrFilterNotFound
	case len(m.members) == 0:
		return rpcapi.ErrNoNode
	case slices.ContainsFunc(m.servers(w), func(x Member) bool { return m.free(x.Tag) }):
		return nil
	case m.cfg.Max[w.Class] > 0 && m.waiting(w.Class) >= m.cfg.Max[w.Class] && !front:
		return rpcapi.ErrQueueFull
	}
	return nil
}

// add puts a call into the queue that found no free place.
func (m *model) add(e *expected) {
	e.checkAt = time.Now().Add(m.cfg.DispatchTimeout)
	if !e.front {
		m.queue = append(m.queue, e)
		return
	}
	i := slices.IndexFunc(m.queue, func(x *expected) bool { return !x.front })
	if i < 0 {
		i = len(m.queue)
	}
	m.queue = slices.Insert(m.queue, i, e)
}

// expire ends the calls whose time is over at t.
func (m *model) expire(t time.Time) {
	for _, e := range slices.Clone(m.queue) {
		switch {
		case !t.Before(e.want.Received.Add(m.cfg.Timeout)):
			m.end(e, rpcapi.ErrQueueTimeout)
		case t.Before(e.checkAt):
		case len(m.servers(&e.want)) > 0:
			e.checkAt = t.Add(m.cfg.DispatchTimeout)
		default:
			err := rpcapi.ErrNoNode
			for _, x := range m.members {
				if (e.want.Node == 0 || e.want.Node == x.Tag) && (x.Standing.Height == 0 || x.Standing.Height >= e.want.Height) {
					err = rpcapi.ErrNodeTimeout
				}
			}
			m.end(e, err)
		}
	}
}
