package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/ingress"
	"millrace/internal/bus"
	"millrace/internal/ledger"
	"millrace/internal/lifecycle"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/internal/telemetry"
	"millrace/workers"
)

// replays are a process's part in marked replays (CORRECTNESS 20): a door of their own, with its own
// memory of signers and outcomes, and a pool of one. They share code with the live flow and nothing
// else: not its subjects, ids, records, refusals or metrics, and they end before OK, so no target and
// no peer is ever given one.
type replays struct {
	door *ingress.Server // nil: not in this process
	pool *workers.Worker // nil: not in this process
}

// replayToken is the file of the replay credential.
func (c *Config) replayToken() string {
	if c.Ingress.ReplayTokenFile != "" {
		return c.Ingress.ReplayTokenFile
	}
	return filepath.Join(c.dataDir(), "replay.token")
}

func (p *process) buildReplays() error {
	if p.cfg.Ingress.ReplayListen == "" {
		return nil
	}
	counts := newReplayCounts(p.reg)
	if p.roles.has(roleIngress) {
		if err := p.buildReplayDoor(counts); err != nil {
			return err
		}
	}
	if !p.roles.has(roleWorkers) {
		return nil
	}
	rules, err := order.NewRules(p.cfg.Orders.ChainID)
	if err != nil {
		return usage(fmt.Errorf("orders.chain_id: %w", err))
	}
	cfg := p.cfg.Worker
	cfg.Concurrency = 1
	end := replayEnd{bus: p.bus, counts: counts}
	p.replays.pool, err = workers.New(cfg, workers.Ports{
		Source: end, Publisher: end, Recorder: end, Ends: end, Refusals: end, Verdicts: p.bus, Suspects: p.bus, Clock: p.bus,
	}, rules, p.part("replay worker"), prometheus.NewRegistry())
	return err
}

func (p *process) buildReplayDoor(counts *replayCounts) error {
	credential, err := replayCredential(p.cfg.replayToken())
	if err != nil {
		return err
	}
	end := replayEnd{bus: p.bus, counts: counts}
	p.replays.door, err = ingress.New(p.cfg.Ingress.ForReplays(credential), ingress.Ports{
		Publisher: end, Verdicts: p.bus, Refusals: end, Backlog: p.bus, Door: p.bus, Clock: p.bus, Health: p.bus,
	}, p.part("replay door"), prometheus.NewRegistry())
	return err
}

// components of the replays; they end with the door and the workers of the live flow.
func (r *replays) components(cfg *Config) (cs []lifecycle.Component) {
	if r.pool != nil {
		cs = append(cs, lifecycle.Component{Name: "replay workers", Run: r.pool.Run, Drain: drainWorkers})
	}
	if r.door != nil {
		cs = append(cs, lifecycle.Component{
			Name: "replay door", Run: r.door.Run, Drain: cfg.Ingress.DrainDelay + cfg.Ingress.DrainTimeout + drainMargin,
		})
	}
	return cs
}

// attrs describe the replay door in the line about the start.
func (r *replays) attrs(ctx context.Context) []slog.Attr {
	if r.door == nil {
		return nil
	}
	for r.door.Addr() == nil {
		if !retry.Pause(ctx, 5*time.Millisecond) {
			return nil
		}
	}
	return []slog.Attr{slog.String("ingress_replay", r.door.Addr().String())}
}

// replayCounts are what there is to see of marked replays.
type replayCounts struct{ stored, valid, invalid prometheus.Counter }

func newReplayCounts(reg prometheus.Registerer) *replayCounts {
	v := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_replay_marked_total", Help: "Marked replays that were stored by a door, and that a worker found valid or ended before.",
	}, []string{"outcome"})
	return &replayCounts{v.WithLabelValues("stored"), v.WithLabelValues("valid"), v.WithLabelValues("invalid")}
}

// replayEnd joins the stages' ports with the bus's side for marked replays.
type replayEnd struct {
	bus    *bus.Bus
	counts *replayCounts
}

// Publish implements ingress.Publisher.
func (e replayEnd) Publish(ctx context.Context, o *order.Order) (order.Receipt, error) {
	r, err := e.bus.PublishReplay(ctx, o)
	if err == nil && !r.Duplicate {
		e.counts.stored.Inc()
	}
	return r, err
}

// Refusal implements ingress.Refusals.
func (e replayEnd) Refusal(ctx context.Context, id order.ID) (*order.Reason, error) {
	return e.bus.ReplayRefusal(ctx, id)
}

// AwaitRefusal implements ingress.Refusals.
func (e replayEnd) AwaitRefusal(ctx context.Context, id order.ID) (*order.Reason, error) {
	return e.bus.AwaitReplayRefusal(ctx, id)
}

// ConsumeIn implements workers.Source.
func (e replayEnd) ConsumeIn(ctx context.Context, _ int,
	h func(context.Context, order.Delivery, func()) (func(context.Context) error, error),
) error {
	return e.bus.ConsumeReplay(ctx, h)
}

// replayedText is the record's word on a marked order that is valid.
const replayedText = "replay: valid, given to no builder"

// PublishOK implements workers.Publisher: a valid marked order ends here, with its record.
func (e replayEnd) PublishOK(ctx context.Context, o *order.Order) (order.Receipt, error) {
	entry := ledger.Of(o)
	entry.Outcome, entry.Text, entry.DoneAt = ledger.Delivered, replayedText, e.bus.Now()
	if err := e.bus.RecordReplay(ctx, o, entry.AppendTo(make([]byte, 0, ledger.EntrySize))); err != nil {
		return order.Receipt{}, err
	}
	e.counts.valid.Inc()
	return order.Receipt{}, nil
}

// RecordRejected implements workers.Recorder.
func (e replayEnd) RecordRejected(ctx context.Context, o *order.Order, entry []byte) error {
	if err := e.bus.RecordReplay(ctx, o, entry); err != nil {
		return err
	}
	e.counts.invalid.Inc()
	return nil
}

// ClaimEnd implements workers.Ends: a marked order has no end but its record, which is stored once.
func (e replayEnd) ClaimEnd(_ context.Context, _ *order.Order, entry []byte) ([]byte, error) {
	return entry, nil
}

// Recorded implements workers.Ends.
func (e replayEnd) Recorded(context.Context, *order.Order) (bool, error) { return false, nil }

// PutRefusal implements workers.Refusals.
func (e replayEnd) PutRefusal(ctx context.Context, id order.ID, r *order.Reason) error {
	return e.bus.PutReplayRefusal(ctx, id, r)
}

// replayCredential reads the credential, and makes one when there is no file.
func replayCredential(path string) (string, error) {
	if _, err := telemetry.LoadToken(path); err != nil {
		return "", fmt.Errorf("replay credential: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("replay credential: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
