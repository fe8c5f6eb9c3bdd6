package loadtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"millrace/loadtest/chart"
)

// SweepConfig says what is varied, and what stays.
type SweepConfig struct {
	// CompareConfig holds the rest; Base and Pairs are not used: each point is measured once for
	// each contender, in turn.
	CompareConfig

	Variable Variable
	Values   []float64
}

// Sweep is how the cost goes with one variable.
type Sweep struct {
	Schema   string       `json:"schema"`
	Started  time.Time    `json:"started"`
	Setup    Setup        `json:"setup"` // of the first point
	Variable Variable     `json:"variable"`
	Targets  []string     `json:"targets"`
	Points   []SweepPoint `json:"points"`
	// Saturation is what a sweep of the rate found, by target.
	Saturation map[string]Saturation `json:"saturation,omitempty"`
	Warnings   []string              `json:"warnings,omitempty"`
}

// SweepPoint is one value and what each target did with it.
type SweepPoint struct {
	Value float64 `json:"value"`
	Legs  []Leg   `json:"legs"`
}

// Saturation is the end of a ramp.
type Saturation struct {
	// Kept is the highest rate that the door kept up with: nothing shed or failed, no order late.
	Kept float64 `json:"kept_rate"`
	// Peak is the most orders per second that it accepted at any rate.
	Peak float64 `json:"peak_accepted_per_second"`
	// Broke is the lowest rate that it didn't keep up with; zero: it kept up with all.
	Broke float64 `json:"broke_rate,omitempty"`
}

// keptShare is the share of the wanted rate at which a door has kept up.
const keptShare = 0.98

// RunSweep measures each contender at each value, in turn. A ramp, which is a sweep of the rate,
// leaves a contender out after two rates that it didn't keep up with.
func RunSweep(ctx context.Context, cfg SweepConfig) (*Sweep, error) {
	t, err := newTrack(cfg.Contenders, cfg.Flow, cfg.Settle, cfg.Notes)
	if err != nil {
		return nil, err
	}
	if len(cfg.Values) == 0 {
		return nil, fmt.Errorf("%w: nothing to sweep", ErrConfig)
	}
	if err := t.warm(ctx, cfg.Warmup); err != nil {
		return nil, err
	}
	flow, err := cfg.Variable.set(cfg.Flow, cfg.Values[0])
	if err != nil {
		return nil, err
	}
	s := &Sweep{Schema: SchemaSweep, Started: time.Now(), Setup: flow.setup(), Variable: cfg.Variable}
	for _, c := range cfg.Contenders {
		s.Targets = append(s.Targets, c.Name)
	}
	for i, v := range cfg.Values {
		t.pair = i + 1
		if flow, err = cfg.Variable.set(cfg.Flow, v); err != nil {
			return nil, err
		}
		p := SweepPoint{Value: v}
		for _, c := range cfg.Contenders {
			if s.broken(c.Name) {
				continue
			}
			pause(ctx, cfg.Pause)
			leg, err := t.run(ctx, c, flow)
			if err != nil {
				return nil, err
			}
			where := fmt.Sprintf("%s %s, %s", cfg.Variable, chart.Number(v), c.Name)
			t.note("%s: %s", where, leg.Report.line())
			s.Warnings = append(s.Warnings, leg.warnings(where)...)
			leg.Report.trim()
			p.Legs = append(p.Legs, leg)
		}
		if len(p.Legs) == 0 {
			break
		}
		s.Points = append(s.Points, p)
	}
	s.saturate()
	return s, nil
}

// set returns the flow with one value changed.
func (v Variable) set(f Flow, value float64) (Flow, error) {
	switch v {
	case VariableSize:
		f.Corpus.Size = int(value)
		if f.Corpus.Mix == nil {
			f.Corpus.Mix = Only(ShapeBundle)
		}
		f.Preload = min(f.Preload, preloadBytes/uint64(value))
	case VariableConnections:
		f.Connections = int(value)
	case VariableRate:
		f.Preload = min(f.Preload, uint64(value*f.Duration.Seconds()))
		f.Rate = value
	default:
		return f, fmt.Errorf("%w: sweep of %q", ErrConfig, v)
	}
	return f, nil
}

// broken reports whether a ramp is over for a target.
func (s *Sweep) broken(target string) bool {
	if s.Variable != VariableRate || len(s.Points) < 2 {
		return false
	}
	for _, p := range s.Points[len(s.Points)-2:] {
		i := slices.IndexFunc(p.Legs, func(l Leg) bool { return l.Target == target })
		if i >= 0 && p.Legs[i].kept(p.Value) {
			return false
		}
	}
	return true
}

// kept reports whether the door kept up with the rate.
func (l Leg) kept(rate float64) bool {
	f := l.Report.Flows[0]
	final := f.Answers[AnswerAccepted.String()] + f.Answers[AnswerRefused.String()]
	return final == f.Sent && f.Rate >= keptShare*rate
}

// saturate finds where each target of a ramp stopped keeping up.
func (s *Sweep) saturate() {
	if s.Variable != VariableRate {
		return
	}
	s.Saturation = map[string]Saturation{}
	for _, p := range s.Points {
		for _, l := range p.Legs {
			st := s.Saturation[l.Target]
			st.Peak = max(st.Peak, l.Report.acceptedRate())
			switch {
			case !l.kept(p.Value):
				if st.Broke == 0 {
					st.Broke = p.Value
				}
			case st.Broke == 0:
				st.Kept = p.Value
			}
			s.Saturation[l.Target] = st
		}
	}
}

// trim leaves out what a point of a sweep is not looked at for.
func (r *Report) trim() {
	r.Series, r.Usage = nil, nil
	for i := range r.Flows {
		r.Flows[i].AnswerCurve, r.Flows[i].WireCurve, r.Flows[i].WakeupCurve = nil, nil, nil
	}
}
