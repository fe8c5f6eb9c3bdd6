//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/loadtest"
)

// traced is what the trace page says of one acceptance.
type traced struct {
	Accept   string      `json:"accept"`
	Hash     common.Hash `json:"hash"`
	Received time.Time   `json:"received_at"`
	Ends     []struct {
		Target  string `json:"target"`
		Outcome string `json:"outcome"`
	} `json:"ends"`
}

// trace asks a process for the orders that a hash names.
func (p *process) trace(t *testing.T, h common.Hash) []traced {
	t.Helper()
	status, body := get(p.admin + "/trace?limit=1000&hash=" + h.Hex())
	if status == http.StatusNotFound {
		return nil
	}
	require.Equal(t, http.StatusOK, status, body)
	var answer struct{ Orders []traced }
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	return answer.Orders
}

// The process with the index is killed again and again under load, with what it had not written yet:
// afterwards every accepted order is found, and each acceptance has one end.
func TestKilledIndexFindsEveryOrder(t *testing.T) {
	beside(t)
	for _, c := range []struct {
		name string
		up   func(t *testing.T) *pipeline
	}{
		{"node", func(t *testing.T) *pipeline { t.Helper(); return startNode(t) }},
		{"split", func(t *testing.T) *pipeline { t.Helper(); return startSplit(t, 1, 1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			beside(t)
			p := c.up(t)
			l := p.startLoad(t, careful(modest(200), time.Duration(rounds()+1)*4*time.Second))
			for range rounds() {
				nap(t, 2*time.Second)
				p.egress.kill(t)
				p.egress.start(t)
				p.egress.waitReady(t)
			}
			l.wait(t)
			p.verify(t, l, 60*time.Second, 200*rounds())
			asked, slowest := 0, time.Duration(0)
			for i, r := range l.journal.Results() {
				if r.Answer != loadtest.AnswerAccepted || r.Hash == (common.Hash{}) || i%5 != 0 {
					continue
				}
				start := time.Now()
				orders := p.egress.trace(t, r.Hash)
				slowest = max(slowest, time.Since(start))
				asked++
				require.NotEmpty(t, orders, "%s %s was accepted", r.Shape, r.Hash)
				for _, o := range orders {
					require.Len(t, o.Ends, 1, "%s of %s", o.Accept, r.Hash)
					require.Contains(t, []string{target, ledger.AnyTarget}, o.Ends[0].Target)
				}
			}
			report(t, "%s: %d orders traced after %d kills, the slowest in %s", c.name, asked, rounds(), slowest.Round(time.Millisecond))
			require.Positive(t, asked)
			require.Less(t, slowest, 2*time.Second)
		})
	}
}
