package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	replayer "millrace/egress/engine"
)

// errPromoted refuses a reload that takes the primary away from under the consensus client.
var errPromoted = errors.New("it is the primary at the moment: promote another before it is changed or removed")

// engineSet is what a reload can change of the Engine API: the clients, how they are called, and when one takes
// the primary's place. It does not change once it is in force; the next one takes its place.
type engineSet struct {
	clients       []client
	callers       map[string]*fencedCaller
	files         map[string]string // what the clients' secrets and authorities were made of, by path
	replay        replayer.Config
	failover      string
	failoverAfter time.Duration
}

// newSet reads what the configuration names.
func (e *engineRole) newSet(cfg *Engine) (*engineSet, error) {
	s := &engineSet{
		callers: map[string]*fencedCaller{}, files: map[string]string{},
		replay: cfg.Replay, failover: cfg.Failover, failoverAfter: cfg.FailoverAfter,
	}
	var err error
	if s.clients, err = cfg.clients(); err != nil {
		return nil, err
	}
	for i := range s.clients {
		c := &s.clients[i]
		if s.callers[c.Name], err = e.call(c); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		for _, path := range []string{c.JWTSecret, c.CA} {
			if path == "" {
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
			s.files[path] = string(b)
		}
	}
	return s, nil
}

// client is a client of the set, nil when there is none of that name.
func (s *engineSet) client(name string) *client {
	for i := range s.clients {
		if s.clients[i].Name == name {
			return &s.clients[i]
		}
	}
	return nil
}

// also are the methods that some client gets besides.
func (s *engineSet) also() []string {
	var patterns []string
	for _, c := range s.clients {
		patterns = append(patterns, c.Also...)
	}
	return patterns
}

// same says whether the replayers of o would do as those of s do.
func (s *engineSet) same(o *engineSet) bool {
	return reflect.DeepEqual(s.clients, o.clients) && reflect.DeepEqual(s.files, o.files) && s.replay == o.replay
}

func (s *engineSet) close() {
	for _, c := range s.callers {
		c.http.Close()
	}
}

// current is the set in force.
func (e *engineRole) current() *engineSet {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.set
}

// prepare makes a new configuration's set, for adopt. What is the door's, the primary included, is as the
// process began with it: that needs a restart.
func (e *engineRole) prepare(cfg *Engine) (*engineSet, error) {
	next := *cfg
	next.Door = e.cfg.Door // clients takes the primary and the secrets' default from it
	next.Replay.MaxCalls = e.cfg.Replay.MaxCalls
	s, err := e.newSet(&next)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return s, e.keeps(s)
}

// keeps is nil if s has the client that is the primary now, as it is.
func (e *engineRole) keeps(s *engineSet) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	was, c := e.set.client(e.primary), s.client(e.primary)
	if c == nil || was != nil && c.target() != was.target() {
		return fmt.Errorf("engine.secondaries: %s: %w", e.primary, errPromoted)
	}
	return nil
}

// adopt puts a set in force: all replayers begin anew at their clients' heads if it makes a difference to
// any. It waits for a promotion under way, and is refused if that made a client the primary which the set lacks.
func (e *engineRole) adopt(next *engineSet) error {
	e.promoting.Lock()
	defer e.promoting.Unlock()
	if err := e.keeps(next); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.set
	if was.same(next) {
		next.close()
		next.callers = was.callers // their connections are open, and replayers hold them
		e.set = next
		return nil
	}
	e.set = next
	e.tape.Reload(next.replay, next.also()...)
	close(e.changed)
	e.changed = make(chan struct{})
	was.close() // what is under way still ends
	return nil
}
