package feed

import (
	"time"

	"millrace/internal/retry"
	"millrace/internal/rpcapi"
)

// mode is how a node is listened to.
type mode uint8

const (
	push mode = iota + 1 // subscribed at its WebSocket
	poll                 // asked again and again
)

// source is a node to listen to, and how.
type source struct {
	node *rpcapi.Node
	mode mode
}

// place tells sources apart.
type place struct {
	tag  rpcapi.Tag
	mode mode
}

// trouble is a source that failed: it is not chosen before until, unless there is nothing better.
type trouble struct {
	fails int
	until time.Time
}

// picker chooses sources. Its owner is one goroutine.
type picker struct {
	modes     []mode
	min, max  time.Duration
	troubles  map[place]trouble
	preferred place // of sources as good as each other, the one that was chosen last
}

func newPicker(cfg *Config, modes ...mode) *picker {
	return &picker{modes: modes, min: 10 * cfg.BackoffMin, max: 10 * cfg.BackoffMax, troubles: make(map[place]trouble)}
}

// score orders sources: healthy before not, without trouble before in trouble, pushing before polled.
func (p *picker) score(s *State, m mode, now time.Time) int {
	if m == push && s.Node.WS == nil {
		return -1
	}
	n := 0
	if s.Healthy {
		n += 4
	}
	if !now.Before(p.troubles[place{s.Node.Tag, m}].until) {
		n += 2
	}
	if m == push {
		n++
	}
	return n
}

// best is the source with the highest score; of those the one that is in use, else the highest node. ok is false
// if there is none.
func (p *picker) best(nodes []State, now time.Time) (best source, score int, ok bool) {
	score = -1
	var height uint64
	for i := range nodes {
		s := &nodes[i]
		for _, m := range p.modes {
			n := p.score(s, m, now)
			at := place{s.Node.Tag, m}
			switch {
			case n < 0 || n < score:
			case n > score, at == p.preferred, s.Height > height && p.preferred != (place{best.node.Tag, best.mode}):
				best, score, height, ok = source{s.Node, m}, n, s.Height, true
			}
		}
	}
	return best, score, ok
}

// failed notes that the source did not work.
func (p *picker) failed(s source, now time.Time) {
	t := p.troubles[place{s.node.Tag, s.mode}]
	t.until = now.Add(retry.Backoff(t.fails, p.min, p.max))
	t.fails++
	p.troubles[place{s.node.Tag, s.mode}] = t
}

// worked notes that the source said something.
func (p *picker) worked(s source) {
	p.preferred = place{s.node.Tag, s.mode}
	delete(p.troubles, p.preferred)
}

// leave says why the source should be left for another, nil if it should not.
func (p *picker) leave(s source, nodes []State, now time.Time) error {
	_, score, _ := p.best(nodes, now)
	for i := range nodes {
		if nodes[i].Node.Tag != s.node.Tag {
			continue
		}
		switch {
		case p.score(&nodes[i], s.mode, now) >= score:
			return nil
		case !nodes[i].Healthy:
			return errUnhealthy
		}
		return errBetter
	}
	return errUnhealthy // it is gone
}
