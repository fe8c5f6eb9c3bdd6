package egress

// group is the replacement state of one (origin, signer, key): at most one of its orders is on the
// wire, and of those that wait only the one with the highest nonce may be next.
type group struct {
	key     groupKey
	wire    *item
	waiting indexed
}

// join puts an item with a replacement key into its group.
func (l *loop) join(it *item) {
	k := groupKey{signer: it.signer, uuid: it.replacement, origin: it.origin}
	g := l.groups[k]
	if g == nil {
		g = &group{key: k, waiting: newWaiting()}
		l.groups[k] = g
	}
	it.group = g
	g.waiting.push(it)
}

// leave takes an ended item out of its group.
func (l *loop) leave(it *item) {
	g := it.group
	if g == nil {
		return
	}
	g.waiting.remove(it)
	if g.wire == it {
		g.wire = nil
	}
}

// promote readies the item of g that may be sent next and parks the others.
func (l *loop) promote(g *group) {
	head := g.waiting.top()
	if head == nil {
		if g.wire == nil {
			delete(l.groups, g.key)
		}
		return
	}
	for _, it := range g.waiting.items[:min(3, len(g.waiting.items))] {
		// A former head is among the top's children at most.
		if it.state == stateReady && (it != head || g.wire != nil) {
			l.ready[it.priority].remove(it)
			it.state = stateParked
		}
	}
	if g.wire == nil && head.state == stateParked && head.claim == nil && !l.settling {
		l.enqueue(head)
	}
}

// supersede ends what waits in g at or below its floor: the target has something newer, or may have.
func (l *loop) supersede(g *group, now micros) {
	f, ok := l.mem.floor(g.key, now)
	if !ok {
		return
	}
	var late []*item
	for _, it := range g.waiting.items {
		if it.nonce <= f.nonce {
			late = append(late, it)
		}
	}
	for _, it := range late {
		if it.state != stateDone { // not ended with one of the others
			l.foretold(it, now)
		}
	}
}
