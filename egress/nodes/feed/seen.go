package feed

// seen remembers the last of its keys; when it is full the oldest is forgotten. Its owner is one goroutine.
type seen struct {
	known map[string]struct{}
	order []string // a ring
	next  int
}

func newSeen(size int) *seen {
	return &seen{known: make(map[string]struct{}), order: make([]string, 0, min(size, 1<<20))}
}

// first notes a key and reports whether it is new.
func (s *seen) first(key string) bool {
	if _, ok := s.known[key]; ok {
		return false
	}
	s.known[key] = struct{}{}
	if len(s.order) < cap(s.order) {
		s.order = append(s.order, key)
		return true
	}
	delete(s.known, s.order[s.next])
	s.order[s.next] = key
	s.next = (s.next + 1) % len(s.order)
	return true
}
