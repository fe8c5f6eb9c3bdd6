package loadtest

import (
	"fmt"
	"runtime"
	"time"
)

const (
	// lateWakeup is from which p99 of its own wake-ups on the generator says so.
	lateWakeup = 2 * time.Millisecond
	// shiftShare is the share of a run that its schedule may be moved for want of orders.
	shiftShare = 0.01
	// busyShare is the share of all cores from which on the generator is a large part of the load.
	busyShare = 0.4
	// rateShare is the share of the wanted rate below which the schedule was not kept.
	rateShare = 0.95
)

// Generator is what the load test itself cost and how well it kept its schedule.
type Generator struct {
	CPU time.Duration `json:"cpu_ns"` // sink and signing included
	// PerOrder is by orders sent, signing ahead of the start not included.
	PerOrder time.Duration `json:"cpu_per_order_ns"`
	Cores    float64       `json:"cores"` // busy on average
	Starved  Starvation    `json:"starved"`
	// Warnings say why the figures of this run may be the generator's and not the target's.
	Warnings []string `json:"warnings,omitempty"`
}

// judge fills the warnings.
func (g *Generator) judge(flows []Flow, rep *Report) {
	warn := func(format string, args ...any) { g.Warnings = append(g.Warnings, fmt.Sprintf(format, args...)) }
	if g.Starved.Shift.Seconds() > shiftShare*rep.Elapsed.Seconds() {
		warn("the generator was the bottleneck: %d orders were not signed in time, the schedule was moved by %s; --preload signs before the start",
			g.Starved.Orders, g.Starved.Shift.Round(time.Millisecond))
	}
	if g.Cores > busyShare*float64(runtime.NumCPU()) {
		warn("the generator used %.1f of %d cores: the target had less than the machine", g.Cores, runtime.NumCPU())
	}
	for i, flow := range flows {
		f := rep.Flows[i]
		name := ""
		if len(flows) > 1 {
			name = f.Name + ": "
		}
		if p := time.Duration(f.Wakeup.P99) * time.Microsecond; p > lateWakeup {
			warn("%s1 %% of the orders left more than %s late because the generator woke up late; that is not in the latencies", name, p.Round(100*time.Microsecond))
		}
		if rate := flow.Rate; rate > 0 && f.Queued == 0 && rep.Elapsed > time.Second && f.Rate < rateShare*rate {
			warn("%s%.0f orders/s were sent, %.0f were wanted, and connections were free", name, f.Rate, rate)
		}
	}
}
