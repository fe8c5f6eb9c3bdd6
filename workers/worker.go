package workers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// suspectAfter is the delivery from which an order runs alone: the second may be the fate of any
// order that was with a worker when it was killed.
const suspectAfter = 3

// Worker is the validation pool of one process.
type Worker struct {
	cfg     Config
	ports   Ports
	rules   Rules
	log     *slog.Logger
	metrics *metrics

	// alone is held shared while an order is validated, exclusively while a suspect is; never across
	// a yield, which may run any other order.
	alone sync.RWMutex
	// suspect admits one suspect at a time, so that a mark that outlives the process names the one
	// order that ran.
	suspect   chan struct{}
	condemned condemned
	// aside admits so many heavy checks at a time that a processor is left for the slots.
	aside chan struct{}

	// One log line per interval each: a bug of a door, or of the topology, comes with every order.
	mismatch, unstorable rate.Sometimes
}

// New returns a pool that checks transactions with rules, which is usually the signer cache.
func New(cfg Config, ports Ports, rules Rules, log *slog.Logger, reg prometheus.Registerer) (*Worker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := ports.validate(); err != nil {
		return nil, err
	}
	if rules == nil {
		return nil, fmt.Errorf("%w: no rules", ErrConfig)
	}
	return &Worker{
		cfg: cfg, ports: ports, rules: rules, log: log, metrics: newMetrics(reg),
		suspect:    make(chan struct{}, 1),
		aside:      make(chan struct{}, max(cfg.slots()/2, 1)),
		mismatch:   rate.Sometimes{First: 1, Interval: time.Second},
		unstorable: rate.Sometimes{First: 1, Interval: time.Second},
	}, nil
}

// Run validates orders until ctx ends or the source fails. The rules are warmed meanwhile, so that
// no blob transaction has to do it; one that comes earlier waits for it beside its slot.
func (w *Worker) Run(ctx context.Context) error {
	warm := make(chan struct{})
	go func() {
		defer close(warm)
		w.rules.Warm()
	}()
	defer func() {
		select {
		case <-warm:
		case <-ctx.Done(): // it takes seconds on a busy machine and can't be interrupted
		}
	}()
	if err := w.ports.Source.ConsumeIn(ctx, w.cfg.slots(), w.handle); err != nil {
		return fmt.Errorf("consume orders: %w", err)
	}
	return nil
}
