package regions

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func cutsOf(p *path) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

func nowOf(p *path) Conditions {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func TestScenarioHappensInOrderOfTime(t *testing.T) {
	s, err := ParseScenario([]byte(`
name: bad day
steps:
  - {at: 10s, do: partition, between: [a, b], for: 10s}
  - {at: 5s, do: slow, from: b, to: a, for: 1s, delay: 200ms, jitter: 20ms, bandwidth: 10Mbit}
  - {at: 30s, do: flap, between: [a, b], for: 3s, every: 1s}
  - {at: 15s, do: reset, from: a, to: b}
  - {at: 16s, do: restart, node: b}
`))
	require.NoError(t, err)
	n, err := New(near(Conditions{Delay: time.Millisecond}), nil)
	require.NoError(t, err)
	var cuts []int
	var slow []Conditions
	restarts := 0
	var events []Event
	synctest.Test(t, func(t *testing.T) {
		looked := make(chan struct{})
		go func() {
			defer close(looked)
			start := time.Now()
			for _, seconds := range []float64{5.5, 9, 11, 21, 30.5, 31.5, 32.5, 34} {
				at := time.Duration(seconds * float64(time.Second))
				<-time.After(time.Until(start.Add(at)))
				cuts = append(cuts, cutsOf(n.paths[there])+cutsOf(n.paths[there.back()]))
				slow = append(slow, nowOf(n.paths[there.back()]))
			}
		}()
		events, err = n.Play(t.Context(), s, Hooks{Restart: func(context.Context, string) error {
			restarts++
			return errors.New("it did not come back")
		}})
		<-looked
		require.NoError(t, err)
	})
	require.Equal(t, []int{0, 0, 2, 0, 2, 0, 2, 0}, cuts)
	require.Equal(t, Conditions{Delay: 200 * time.Millisecond, Jitter: 20 * time.Millisecond, Bandwidth: 10e6}, slow[0])
	require.Equal(t, Conditions{Delay: time.Millisecond}, slow[1])
	require.Equal(t, 1, restarts)
	require.Len(t, events, 10)
	require.Equal(t, Event{At: 5 * time.Second, What: "slow to 200ms ± 20ms, 10 Mbit/s b>a"}, events[0])
	require.Equal(t, Event{At: 16 * time.Second, What: "restart b", Error: "it did not come back"}, events[4])
	require.Equal(t, Event{At: 33 * time.Second, What: "heal a>b b>a"}, events[9])
}

func TestScenarioNamesItsFaults(t *testing.T) {
	for name, c := range map[string]struct{ yaml, fault string }{
		"nothing to do":           {"steps: [{at: 1s, between: [a, b]}]", "no action"},
		"nowhere":                 {"steps: [{do: reset, between: [a, c]}]", "step 1: needs between"},
		"no such node":            {"steps: [{do: restart, node: x}]", `needs a node: "x"`},
		"a flap without end":      {"steps: [{do: flap, between: [a, b], every: 1s}]", "a flap needs"},
		"a time before the start": {"steps: [{do: reset, at: -1s, between: [a, b]}]", "not possible"},
		"jitter above the delay":  {"steps: [{do: slow, jitter: 1s, between: [a, b]}]", "slow: delay"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseScenario([]byte(c.yaml))
			require.NoError(t, err)
			err = s.Validate(near(Conditions{}))
			require.ErrorIs(t, err, ErrScenario)
			require.ErrorContains(t, err, c.fault)
		})
	}
	_, err := ParseScenario([]byte("steps: [{do: dance}]"))
	require.ErrorIs(t, err, ErrScenario)
	_, err = LoadScenario("/nowhere")
	require.ErrorIs(t, err, ErrScenario)
}

func TestRestartNeedsSomebodyWhoStartsNodes(t *testing.T) {
	n, err := New(near(Conditions{}), nil)
	require.NoError(t, err)
	events, err := n.Play(t.Context(), Scenario{Steps: []Step{{Do: ActionRestart, Node: "a"}}}, Hooks{})
	require.NoError(t, err)
	require.Contains(t, events[0].Error, "can't be restarted")
}
