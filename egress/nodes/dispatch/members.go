package dispatch

import "millrace/internal/rpcapi"

// Set replaces the set of nodes. Who waits is served by new nodes at once, and fails at once when there are none or
// the node that it asked for is gone. Places of nodes that are gone stay their takers' until they are given back; a
// node that comes back has them still. A member that stays keeps its standing. Of members with one tag the first
// counts.
func (d *Dispatcher) Set(members []Member) {
	var out woken
	d.mu.Lock()
	before := d.members
	d.members = make(map[rpcapi.Tag]*node, len(members))
	d.nodes = make([]*node, 0, len(members))
	for i := range members {
		m := &members[i]
		if m.Tag == 0 || d.members[m.Tag] != nil {
			continue
		}
		x := before[m.Tag]
		if x == nil {
			x = d.gone[m.Tag]
			delete(d.gone, m.Tag)
			if x == nil {
				x = &node{tag: m.Tag}
			}
			x.standing = m.Standing
		}
		delete(before, m.Tag)
		x.places, x.weight = max(m.Places, 0), m.Weight
		if !(x.weight > 0) { // NaN as well
			x.weight = 1
		}
		x.judge(x.standing)
		d.members[m.Tag] = x
		d.nodes = append(d.nodes, x)
	}
	for _, x := range before {
		x.forget()
		x.places, x.limit, x.open = 0, 0, false
		if x.busy > 0 {
			d.gone[x.tag] = x
		}
	}
	d.dismiss(&out)
	d.changed(&out)
	d.settle()
	d.tellRoom()
	d.mu.Unlock()
	out.tell()
}

// Judge takes what is thought of a member. A tag that is no member is nothing.
func (d *Dispatcher) Judge(tag rpcapi.Tag, s Standing) {
	var out woken
	d.mu.Lock()
	if x := d.members[tag]; x != nil && x.judge(s) {
		d.changed(&out)
	}
	d.tellRoom()
	d.mu.Unlock()
	out.tell()
}

// unknown says why no member can ever serve the call; nil: one may.
func (d *Dispatcher) unknown(w *Want) error {
	switch {
	case w.Node != 0 && d.members[w.Node] == nil:
		return rpcapi.ErrFilterNotFound
	case len(d.nodes) == 0:
		return rpcapi.ErrNoNode
	}
	return nil
}

// dismiss ends the waits of calls that no member can ever serve.
func (d *Dispatcher) dismiss(out *woken) {
	for k := range d.queues {
		if len(d.nodes) > 0 && d.queues[k].picky == 0 {
			continue
		}
		for w := d.queues[k].head; w != nil; {
			next := w.next
			if err := d.unknown(&w.want); err != nil {
				d.fail(w, err, out)
			}
			w = next
		}
	}
}

// changed has all nodes look at all calls again, and gives out the places that are free for one of them, one of
// each node at a time.
func (d *Dispatcher) changed(out *woken) {
	usable := false
	for _, x := range d.nodes {
		usable = usable || (x.places > 0 && x.standing.State != Unhealthy)
	}
	for _, x := range d.nodes {
		x.forget()
		x.open = x.places > 0 && (x.standing.State != Unhealthy || !usable)
	}
	for again := d.waiting > 0; again; {
		again = false
		for _, x := range d.nodes {
			if !x.free() {
				continue
			}
			if w := d.serve(x); w != nil {
				out.add(w)
				again = true
			}
		}
	}
}
