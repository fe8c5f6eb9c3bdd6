package egress

import "millrace/internal/ledger"

// enqueue readies it, in stored order.
func (l *loop) enqueue(it *item) {
	it.state = stateReady
	l.ready[it.priority].insert(it)
}

// release readies a parked item, unless its group has to decide.
func (l *loop) release(it *item) {
	switch {
	case it.claim != nil:
	case it.group != nil:
		l.promote(it.group)
	default:
		l.enqueue(it)
	}
}

// foretold ends it when the target has its content, or something newer of its group.
func (l *loop) foretold(it *item, now micros) bool {
	if c, ok := l.mem.sent(it, now); ok {
		it.of = c.accept
		l.end(it, ledger.Duplicate)
		return true
	}
	if it.replacement.IsZero() {
		return false
	}
	f, ok := l.mem.floor(groupKey{signer: it.signer, uuid: it.replacement, origin: it.origin}, now)
	if !ok || it.nonce > f.nonce {
		return false
	}
	if it.id == f.id {
		it.repeat = true // the copy that raised the floor expired, but may have arrived
		return false
	}
	it.of = f.accept
	l.end(it, ledger.Superseded)
	return true
}

// expire ends it at its deadline.
func (l *loop) expire(it *item, now micros) {
	if !l.foretold(it, now) {
		l.end(it, ledger.Expired)
	}
}

// end gives it its terminal record, which is the only place where that happens, and lets go those
// that waited for it.
func (l *loop) end(it *item, outcome ledger.Outcome) {
	if it.state == stateReady {
		l.ready[it.priority].remove(it)
	}
	l.timers.remove(it)
	l.drop(it)
	it.outcome, it.state, it.doneAt = outcome, stateDone, toMicros(l.clock.Now())
	it.ambiguous = it.ambiguous || l.unsettled(it, outcome)
	e := it.entry(l.mem.origins)
	l.mem.remember(&e, it.origin)
	l.recorder.add(it)
	l.metrics.ended(&e)
	if it.claims {
		l.disclaim(it, outcome)
	}
	it.claim = nil
	if g := it.group; g != nil {
		l.leave(it)
		if l.mem.raises(&e) {
			l.supersede(g, it.doneAt)
		}
		it.group = nil
		l.promote(g)
	}
}

// unsettled reports whether it ends without an answer, but may have had one from the target that a
// former owner did not live to record.
func (l *loop) unsettled(it *item, outcome ledger.Outcome) bool {
	switch outcome {
	case ledger.Superseded, ledger.Expired, ledger.TargetRemoved:
		return it.storedAt <= l.startedAt
	default:
		return false
	}
}

// disclaim tells the copies that waited for it how it ended.
func (l *loop) disclaim(it *item, outcome ledger.Outcome) {
	for _, k := range [...]copyKey{idKey(it.id, it.origin), keyKey(it.key, it.origin)} {
		if l.claims[k] == it {
			delete(l.claims, k)
		}
	}
	copies := it.copies
	it.copies, it.claims = nil, false
	for _, c := range copies {
		if c.state == stateDone || c.claim != it {
			continue
		}
		c.claim = nil
		if outcome == ledger.Delivered || outcome == ledger.Refused {
			c.of = it.accept
			l.end(c, ledger.Duplicate)
		} else {
			l.release(c)
		}
	}
}

// claimed returns the copy of it that is being delivered, if there is one.
func (l *loop) claimed(it *item) *item {
	if c := l.claims[idKey(it.id, it.origin)]; c != nil {
		return c
	}
	for o := range l.mem.origins {
		if o := uint16(o); o != it.origin {
			if c := l.claims[keyKey(it.key, o)]; c != nil {
				return c
			}
		}
	}
	return nil
}

// mayRepeat reports whether the target may have a copy of it. Until a predecessor's backlog is read,
// any order may have one in there.
func (l *loop) mayRepeat(it *item) bool {
	return it.repeat || (l.heir && l.settling) || l.mem.doubts(it)
}
