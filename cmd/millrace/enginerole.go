package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	replayer "millrace/egress/engine"
	door "millrace/ingress/engine"
	"millrace/internal/bus"
	"millrace/internal/bus/enginelog"
	"millrace/internal/lifecycle"
	"millrace/internal/retry"
)

const (
	// replayLog is the durable consumer of the record's followers in this process: they share one
	// reading of it.
	replayLog = "replay"
	// tellVersions is how often the door learns the secondaries' versions.
	tellVersions = 2 * time.Second
	// promoteWithin bounds a promotion: calls of the consensus client wait for it.
	promoteWithin = 3 * time.Second
	// settlePoll is how often a client that is to be promoted is looked at.
	settlePoll = 20 * time.Millisecond
)

// engineRole is the Engine API's part of a process: door, record, and a replayer for each execution
// client.
type engineRole struct {
	cfg *Engine // as the process began; what a reload changes is in set
	bus *bus.Bus
	log *slog.Logger

	state       *enginelog.State
	recorder    *enginelog.Recorder
	reader      *enginelog.Reader
	record      *enginelog.Log
	watched     *watchedLog
	divergences *enginelog.Divergences
	lease       *doorLease
	door        *door.Door
	tape        *replayer.Tape
	metrics     *replayer.Metrics
	epoch       uint64

	mu        sync.Mutex
	set       *engineSet
	primary   string // name of the client that the door calls
	term      door.Term
	replayers map[string]*replayer.Replayer
	changed   chan struct{} // closed when primary or set is another
	promoting sync.Mutex    // one promotion, or change of the set, at a time
}

// buildEngine makes the Engine API's part, if this process has one.
func (p *process) buildEngine(ctx context.Context) error {
	if !p.roles.has(roleEngine) {
		return nil
	}
	e := &engineRole{
		cfg: &p.cfg.Engine, bus: p.bus, log: p.part("engine"), state: enginelog.NewState(p.bus, p.part("engine")),
		divergences: enginelog.NewDivergences(p.bus, p.part("engine")), metrics: replayer.NewMetrics(p.reg),
		replayers: map[string]*replayer.Replayer{}, changed: make(chan struct{}),
	}
	p.engine = e
	set, err := e.newSet(e.cfg)
	if err != nil {
		return usage(err)
	}
	if e.recorder, err = enginelog.New(e.cfg.Spool, p.bus, p.part("record"), p.reg); err != nil {
		return err
	}
	e.reader = enginelog.NewReader(p.bus, p.part("replay"), p.reg)
	if e.record, err = e.reader.Log(replayLog, nil); err != nil {
		return err
	}
	e.watched = &watchedLog{Log: e.record}
	e.set = set
	e.tape = replayer.NewTape(set.replay, e.watched, p.bus, p.part("replay"), set.also()...)
	e.lease = newDoorLease(p.bus, e.state, e.log, !p.cfg.NATS.Embedded())
	epoch, err := e.lease.acquire(ctx)
	if err != nil {
		return err
	}
	return e.buildDoor(ctx, p, epoch)
}

// buildDoor makes the door to the primary that was chosen last.
func (e *engineRole) buildDoor(ctx context.Context, p *process, epoch uint64) (err error) {
	e.door, err = door.New(e.cfg.Door, door.Ports{Recorder: e.recorder, Clock: p.bus, Epoch: epoch}, e.log, p.reg)
	if err != nil {
		return usage(fmt.Errorf("engine: %w", err))
	}
	e.epoch = epoch
	e.primary = primaryName
	chosen, err := e.state.Primary(ctx)
	if err != nil {
		return fmt.Errorf("the chosen primary: %w", err)
	}
	if chosen == "" || chosen == primaryName {
		return nil
	}
	c := e.client(chosen)
	if c == nil {
		e.log.LogAttrs(ctx, slog.LevelWarn, "the promoted client left the configuration, its primary holds", slog.String("promoted", chosen))
		return nil
	}
	err = e.door.SetPrimary(ctx, c.target())
	if errors.Is(err, door.ErrOtherSecret) {
		e.log.LogAttrs(ctx, slog.LevelWarn, "the promoted client would refuse the consensus client's tokens, the configured primary holds", slog.String("promoted", chosen), slog.Any("error", err))
		return nil
	}
	if err != nil {
		return err
	}
	e.primary, e.term = chosen, e.door.Term()
	return nil
}

// client is a configured client, nil when there is none of that name.
func (e *engineRole) client(name string) *client { return e.current().client(name) }

// components record, replay and serve; the door stops first.
func (e *engineRole) components(cfg *Config) []lifecycle.Component {
	if e == nil {
		return nil
	}
	return []lifecycle.Component{
		{Name: "engine lease", Run: e.lease.Run},
		{Name: "engine record", Run: e.recorder.Run, Drain: enginelog.DrainTimeout + drainMargin},
		{Name: "engine replay", Run: e.replay},
		{Name: "engine", Run: e.door.Run, Drain: cfg.Engine.Door.DrainTimeout + drainMargin},
	}
}

// replay keeps every client at the head, until ctx ends.
func (e *engineRole) replay(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.tape.Run(ctx) })
	g.Go(func() error { return e.tellVersions(ctx) })
	g.Go(func() error { return e.failover(ctx) })
	g.Go(func() error {
		for ctx.Err() == nil {
			if err := e.round(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	err := g.Wait()
	e.current().close()
	return err
}

// round runs the replayers while the primary and the clients stay the same.
func (e *engineRole) round(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.mu.Lock()
	changed, primary, set := e.changed, e.primary, e.set
	caller := &primaryCaller{door: e.door, term: e.term, epoch: e.epoch, valid: e.lease.valid}
	e.mu.Unlock()
	replayers := map[string]*replayer.Replayer{}
	chain := replayer.NewPrimaryChain(set.replay, caller)
	for i := range set.clients {
		r, err := e.replayer(set, &set.clients[i], primary, caller, chain)
		if err != nil {
			return err
		}
		replayers[set.clients[i].Name] = r
	}
	e.mu.Lock()
	e.replayers = replayers
	e.mu.Unlock()
	g, gctx := errgroup.WithContext(ctx)
	for _, r := range replayers {
		g.Go(func() error { return r.Run(gctx) })
	}
	g.Go(func() error {
		select {
		case <-changed:
		case <-gctx.Done():
		}
		cancel()
		return nil
	})
	return g.Wait()
}

// replayer is a client's, as the primary or as a secondary.
func (e *engineRole) replayer(set *engineSet, c *client, primary string, caller *primaryCaller, chain replayer.Chain) (*replayer.Replayer, error) {
	t := replayer.Target{
		Name: c.Name, Role: replayer.Secondary, Mode: c.mode, Address: c.URL, Caller: set.callers[c.Name], Skip: c.Skip, Also: c.Also,
		LiveOnly: c.JWTSecret == "",
	}
	ports := replayer.Ports{Clock: e.bus, Cursors: e.state, Modes: e.state, Divergences: evidence{e.divergences}, Chain: chain, Primary: caller}
	if c.Name == primary {
		t.Role, t.Mode, t.Caller, t.Skip, t.Also, t.LiveOnly = replayer.Primary, replayer.ModeFollow, caller, nil, nil, false
		ports.Modes = nil // it is the consensus client's
	}
	return replayer.New(set.replay, t, e.tape, ports, e.metrics, e.log)
}

// evidence stores divergences.
type evidence struct{ to *enginelog.Divergences }

// Publish stores one.
func (s evidence) Publish(ctx context.Context, target string, d replayer.Divergence) error {
	b, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("divergence of %s: %w", target, err)
	}
	// A call and the head that it made may diverge both.
	return s.to.Publish(ctx, target, d.ID+"."+d.Method+"."+d.Class.String(), b)
}

// tellVersions gives the door what the secondaries answered last to engine_getClientVersionV1.
func (e *engineRole) tellVersions(ctx context.Context) error {
	told := map[string]string{}
	for retry.Pause(ctx, tellVersions) {
		now := e.statuses()
		for name := range told {
			if _, there := now[name]; !there {
				delete(told, name)
				e.door.Versions(name, nil)
			}
		}
		for name, s := range now {
			version := s.Version
			if s.Role == replayer.Primary {
				version = ""
			}
			if told[name] == version {
				continue
			}
			told[name] = version
			var entries [][]byte
			if version != "" {
				entries = [][]byte{[]byte(version)}
			}
			e.door.Versions(name, entries)
		}
	}
	return nil
}

// statuses are what the replayers know.
func (e *engineRole) statuses() map[string]replayer.Status {
	e.mu.Lock()
	rs := e.replayers
	e.mu.Unlock()
	out := make(map[string]replayer.Status, len(rs))
	for name, r := range rs {
		out[name] = r.Status()
	}
	return out
}

// ready is nil, or why the consensus client is not served.
func (e *engineRole) ready() error {
	if err := e.lease.lost(); err != nil {
		return err
	}
	return e.door.Healthy()
}

// setMode switches a secondary's mode, for every process that replays to it.
func (e *engineRole) setMode(ctx context.Context, name, mode string) error {
	if e.client(name) == nil {
		return errNoClient
	}
	if mode != "" {
		var m replayer.Mode
		if err := m.UnmarshalText([]byte(mode)); err != nil {
			return usage(err)
		}
	}
	return e.state.SetMode(ctx, name, mode)
}

// attrs describe the Engine API in the line about the start.
func (e *engineRole) attrs(ctx context.Context) []slog.Attr {
	if e == nil {
		return nil
	}
	for e.door.Addr() == nil {
		if !retry.Pause(ctx, 5*time.Millisecond) {
			return nil
		}
	}
	return []slog.Attr{
		slog.String("engine", e.door.Addr().String()), slog.String("engine_primary", e.primaryNow()), slog.Int("engine_secondaries", len(e.current().clients)-1),
	}
}
