package engine

import (
	"sync"
	"time"
)

// tokenLife is how long a forwarded token may be used for others, below the minute that execution
// clients accept it.
const tokenLife = 55 * time.Second

// liveToken is the last forwarded token that the primary took. It is forgotten after tokenLife.
type liveToken struct {
	mu            sync.Mutex
	authorization string
	until         time.Time
	forget        *time.Timer
}

// set remembers a token that was just taken.
func (t *liveToken) set(authorization string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.authorization == authorization {
		return // its life counts from its first use
	}
	t.authorization, t.until = authorization, time.Now().Add(tokenLife)
	if t.forget == nil {
		t.forget = time.AfterFunc(tokenLife, t.expire)
		return
	}
	t.forget.Reset(tokenLife)
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

// LiveToken is the Authorization header that the consensus client sent last and the primary took,
// for secondaries that have no secret of their own; false with engine.auth "verify", and 55 s after
// its first use. It must not be stored.
func (d *Door) LiveToken() (authorization string, ok bool) { return d.token.current() }
