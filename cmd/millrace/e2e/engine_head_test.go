//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/eltest/drive"
	"millrace/internal/engineapi"
)

// headReport is what the report says about the only secondary's head state.
type headReport struct {
	samples map[string]uint64
	events  []headEvent
}

type headEvent struct {
	Class, Why, Method string
	Confirmed          bool
}

func (b *geths) headReport(t *testing.T) (r headReport) {
	t.Helper()
	_, body := get(b.engine.admin + "/engine/report?since=1h")
	var page struct {
		Clients []struct {
			Target    string
			HeadState map[string]uint64 `json:"head_state"`
		}
		Divergences []struct{ Event headEvent }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &page), body)
	for _, c := range page.Clients {
		if c.Target == "b" {
			r.samples = c.HeadState
		}
	}
	for _, d := range page.Divergences {
		r.events = append(r.events, d.Event)
	}
	return r
}

// The state at the head of two real clients is the same, over every fork and reorganisations, until somebody else moves
// one's safe block: then that is an event, once, and in order again with the next forkchoice.
func TestEngineComparesTheHeadStateOfRealClients(t *testing.T) {
	beside(t)
	b := newGethsWith(t, []string{"--engine.replay.head_state_every=50ms"}, eltest.SchemeHash, eltest.SchemeHash)
	d := b.driver(t, nil, engineapi.Secret{})
	for range 40 {
		require.NoError(t, d.Random(t.Context()))
	}
	b.together(t, d, 0, 1)
	ok := func() uint64 { return b.headReport(t).samples["ok"] }
	before := ok()
	eventually(t, converge, func() bool { return ok() > before+5 }, "samples at the head")
	r := b.headReport(t)
	require.Empty(t, r.events)
	require.Zero(t, r.samples["warn"]+r.samples["critical"], "%v", r.samples)

	e := drive.Endpoint{URL: b.nodes[1].URL(), Secret: testSecret(t, 2)}
	_, err := e.Call(t.Context(), "engine_forkchoiceUpdatedV4", map[string]any{
		"headBlockHash": d.Head().Hash, "safeBlockHash": d.Head().Hash, "finalizedBlockHash": d.Head().Hash,
	}, nil, nil)
	require.NoError(t, err)
	eventually(t, converge, func() bool { return len(b.headReport(t).events) > 0 }, "the divergence is published")
	nap(t, 500*time.Millisecond)
	r = b.headReport(t)
	require.Equal(t, []headEvent{{"warn", "the same head with another finalized, safe", headMethod, true}}, r.events)
	require.NotZero(t, r.samples["warn"])

	require.NoError(t, d.Step(t.Context()))
	b.together(t, d, 0, 1)
	before = ok()
	eventually(t, converge, func() bool { return ok() > before+5 }, "it is in order again")
	require.Len(t, b.headReport(t).events, 1)
	t.Logf("%v", b.headReport(t).samples)
}

// headMethod stands for a method in such an event.
const headMethod = "head_state"
