package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	replayer "millrace/egress/engine"
	door "millrace/ingress/engine"
	"millrace/internal/retry"
)

// probeWithin bounds the question whether the primary is there, before another takes its place.
const probeWithin = 5 * time.Second

var (
	errNoClient   = errors.New("no execution client of this name is configured")
	errIsPrimary  = errors.New("it is the primary already")
	errNotInSync  = errors.New("not in sync")
	errNoReplayer = errors.New("its replayer does not run yet")
)

// promote makes a secondary the primary if it is where the last eligible forkchoice wants it. The
// choice is stored before the door acts on it, while no call that moves a client's state is on
// its way, so that a restart at any moment finds one or the other, and both are right.
func (e *engineRole) promote(ctx context.Context, name string) error {
	e.promoting.Lock()
	defer e.promoting.Unlock()
	c := e.client(name)
	e.mu.Lock()
	was, r := e.primary, e.replayers[name]
	e.mu.Unlock()
	switch {
	case c == nil:
		return errNoClient
	case name == was:
		return errIsPrimary
	case r == nil:
		return errNoReplayer
	}
	ctx, cancel := context.WithTimeout(ctx, promoteWithin)
	defer cancel()
	// What can be waited for is waited for while the consensus client is not.
	for {
		err := e.caughtUp(ctx, r, e.door.Generation())
		if err == nil {
			break
		}
		if !retry.Pause(ctx, settlePoll) {
			return err
		}
	}
	var unstored error
	err := e.door.Promote(ctx, c.target(), func(ctx context.Context, last door.Generation) error {
		if err := e.caughtUp(ctx, r, last); err != nil {
			return err
		}
		unstored = e.state.SetPrimary(ctx, name)
		return unstored
	})
	if unstored != nil { // the consensus client is let go first
		return errors.Join(err, putBack(ctx, e.state, was))
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.primary, e.term = name, e.door.Term()
	close(e.changed)
	e.changed = make(chan struct{})
	e.mu.Unlock()
	e.log.LogAttrs(ctx, slog.LevelInfo, "secondary promoted", slog.String("to", name), slog.String("from", was))
	return nil
}

// chooser stores the choice of the primary.
type chooser interface {
	SetPrimary(ctx context.Context, name string) error
}

// putBack stores who the primary still is, after a write that failed: it may have been carried out all
// the same, and the next start would believe it. ctx may have ended.
func putBack(ctx context.Context, s chooser, was string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), promoteWithin)
	defer cancel()
	if err := s.SetPrimary(ctx, was); err != nil {
		return fmt.Errorf("the next start may find another primary than %s: %w", was, err)
	}
	return nil
}

// caughtUp is nil when the client is where the last eligible forkchoice wants it, of a record that has
// every call up to last.
func (e *engineRole) caughtUp(ctx context.Context, r *replayer.Replayer, last door.Generation) error {
	if newest := e.watched.newest(); newest.Compare(callID(e.epoch, last)) < 0 {
		return fmt.Errorf("%w: the record is behind", errNotInSync)
	}
	s := r.Status()
	if ok, reason := s.InSync(); !ok {
		return fmt.Errorf("%w: %s", errNotInSync, reason)
	}
	head, err := latest(ctx, e.current().callers[s.Target])
	if err != nil {
		return fmt.Errorf("%w: %w", errNotInSync, err)
	}
	if head != s.Want {
		return fmt.Errorf("%w: its head is %s, the last forkchoice names %s", errNotInSync, head, s.Want)
	}
	return nil
}

// failover, where it is on, promotes a secondary that is in sync when every live call to the primary has failed for
// long enough and it does not answer now either: the last call may be long ago.
func (e *engineRole) failover(ctx context.Context) error {
	for retry.Pause(ctx, time.Second) {
		since, down := e.door.PrimaryDown()
		set := e.current()
		if set.failover != failoverAuto || !down || time.Since(since) < set.failoverAfter || e.answers(ctx) {
			continue
		}
		for _, name := range successors(e.statuses()) {
			err := e.promote(ctx, name)
			e.log.LogAttrs(ctx, slog.LevelWarn, "failover", slog.String("to", name), slog.Time("down_since", since), slog.Any("error", err))
			if err == nil {
				break
			}
		}
	}
	return nil
}

// answers says whether the primary does.
func (e *engineRole) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	return e.door.Probe(ctx) == nil
}

// successors are the secondaries that are in sync, the highest head first, of equal ones by name.
func successors(all map[string]replayer.Status) []string {
	var names []string
	for name, s := range all {
		if ok, _ := s.InSync(); ok && s.Role != replayer.Primary {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(all[b].Number, all[a].Number), cmp.Compare(a, b))
	})
	return names
}
