package engine

import (
	"crypto/sha256"
	"sync"
	"time"

	"millrace/internal/engineapi"
)

const (
	// tokenLife is how long a forwarded token may be used for others, below the minute that execution
	// clients accept it.
	tokenLife = 55 * time.Second
	// seenLife is after which time no client takes a token any more that one took when it was first seen: it may
	// have been issued TokenAge from then.
	seenLife = 2 * engineapi.TokenAge
	// maxSeen bounds the tokens that are remembered, by their hashes. A consensus client makes one a second.
	maxSeen = 256
)

// liveToken is the forwarded token that the primary took and that lives longest. It is forgotten at its end.
type liveToken struct {
	mu            sync.Mutex
	authorization string
	until         time.Time
	forget        *time.Timer
	seen          map[[sha256.Size]byte]time.Time // when each was first taken
}

// set remembers a token that was just taken. Its life counts from when it was first taken or from when it says
// that it was issued, whichever is earlier: a caller that shows it again and again, or again after others, makes
// it no longer.
func (t *liveToken) set(authorization string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.authorization == authorization {
		return
	}
	issued, expires, ok := engineapi.Claimed(authorization)
	if !ok {
		return // nobody can tell its age
	}
	now := time.Now()
	until := t.first(authorization, now)
	if issued.Before(until) {
		until = issued
	}
	until = until.Add(tokenLife)
	if !expires.IsZero() && expires.Before(until) {
		until = expires
	}
	if !now.Before(until) || t.authorization != "" && until.Before(t.until) {
		return
	}
	t.authorization, t.until = authorization, until
	if t.forget == nil {
		t.forget = time.AfterFunc(until.Sub(now), t.expire)
		return
	}
	t.forget.Reset(until.Sub(now))
}

// first is when the token was first taken. Of too many the one that was seen first is forgotten.
func (t *liveToken) first(authorization string, now time.Time) time.Time {
	key := sha256.Sum256([]byte(authorization))
	if at, ok := t.seen[key]; ok {
		return at
	}
	if t.seen == nil {
		t.seen = make(map[[sha256.Size]byte]time.Time)
	}
	oldest, at := key, now
	for k, seen := range t.seen {
		if now.Sub(seen) > seenLife {
			delete(t.seen, k)
		} else if seen.Before(at) {
			oldest, at = k, seen
		}
	}
	if len(t.seen) >= maxSeen {
		delete(t.seen, oldest)
	}
	t.seen[key] = now
	return now
}

func (t *liveToken) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !time.Now().Before(t.until) {
		t.authorization = ""
	}
}

func (t *liveToken) current() (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.authorization == "" || !time.Now().Before(t.until) {
		return "", false
	}
	return t.authorization, true
}

// clear forgets the token and ends the timer.
func (t *liveToken) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.authorization = ""
	if t.forget != nil {
		t.forget.Stop()
	}
}

// LiveToken is the Authorization header of the consensus client that the primary took and that lives
// longest, for secondaries that have no secret of their own; false with engine.auth "verify", and 55 s after
// its first use or its issue. It must not be stored.
func (d *Door) LiveToken() (authorization string, ok bool) { return d.token.current() }
