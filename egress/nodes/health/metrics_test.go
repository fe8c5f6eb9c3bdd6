package health

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestMetricsGoWithTheirNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 2, nil)
		r.calls(nodes[0], 3, Refused, 0)
		r.calls(nodes[1], 2, Answered, 300*time.Microsecond)
		r.calls(nodes[1], 1, Failed, time.Minute)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.NoError(t, testutil.GatherAndCompare(r.reg, strings.NewReader(`
# HELP millrace_gateway_node_healthy 1 while a node is given calls, 0 while it is ejected or unhealthy.
# TYPE millrace_gateway_node_healthy gauge
millrace_gateway_node_healthy{node="n0:8545"} 0
millrace_gateway_node_healthy{node="n1:8545"} 1
# HELP millrace_gateway_node_height A node's head as last known, 0 if it does not tell.
# TYPE millrace_gateway_node_height gauge
millrace_gateway_node_height{node="n0:8545"} 100
millrace_gateway_node_height{node="n1:8545"} 100
# HELP millrace_gateway_head_number The chain's head as the nodes in use tell it.
# TYPE millrace_gateway_head_number gauge
millrace_gateway_head_number 100
# HELP millrace_gateway_head_age_seconds Time since the block of the chain's head; 0 while there is no head.
# TYPE millrace_gateway_head_age_seconds gauge
millrace_gateway_head_age_seconds 2
`), "millrace_gateway_node_healthy", "millrace_gateway_node_height", "millrace_gateway_head_number", "millrace_gateway_head_age_seconds"))

		text := exposition(t, r)
		for _, line := range []string{
			`millrace_gateway_node_errors_total{node="n0:8545",reason="refused"} 3`,
			`millrace_gateway_node_errors_total{node="n1:8545",reason="failed"} 1`,
			`millrace_gateway_node_errors_total{node="n1:8545",reason="timed_out"} 0`,
			`millrace_gateway_node_ejections_total{node="n0:8545",reason="refused"} 1`,
			`millrace_gateway_node_ejections_total{node="n1:8545",reason="slow"} 0`,
			`millrace_gateway_node_latency_seconds_bucket{node="n1:8545",le="0.00025"} 0`,
			`millrace_gateway_node_latency_seconds_bucket{node="n1:8545",le="0.0005"} 2`,
			`millrace_gateway_node_latency_seconds_bucket{node="n1:8545",le="8.192"} 2`,
			`millrace_gateway_node_latency_seconds_count{node="n1:8545"} 3`,
		} {
			require.Contains(t, text, line+"\n")
		}
		require.NotContains(t, text, `reason="canceled"`)
		problems, err := testutil.GatherAndLint(r.reg)
		require.NoError(t, err)
		require.Empty(t, problems)

		r.Set(nodes[1:])
		require.NotContains(t, exposition(t, r), "n0:8545")
	})
}

func TestNodesWithOneLabelHaveTheirOwnSeries(t *testing.T) {
	r, _ := newRig(t, 0, nil)
	r.Set(append(r.nodesOf(t, "http://h:1?key=a", "http://h:1?key=b"), parse(t, "http://h:1?key=a")))
	n, err := testutil.GatherAndCount(r.reg, "millrace_gateway_node_healthy")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NotContains(t, exposition(t, r), "key")
}

func TestStatesAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 2, nil)
		r.calls(nodes[0], 3, Refused, 0)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 3, strings.Count(r.logs.String(), "\n"), r.logs.String())
		require.Equal(t, 2, strings.Count(r.logs.String(), "level=INFO msg=\"node changed state\""))
		require.Contains(t, r.logs.String(), `level=WARN msg="node changed state" node=n0:8545 state=ejected reason=refused`)
	})
}

func TestANodeThatIsDeadAtTheStartIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 1, nil)
		r.peer(nodes[0]).set(func(p *peer) { p.down = true })
		r.Set(nodes)
		require.Empty(t, r.logs.String())
		r.start(t)
		checks(5)
		require.Equal(t, 1, strings.Count(r.logs.String(), "\n"), r.logs.String())
		require.Contains(t, r.logs.String(), `state=unhealthy reason=unreachable last_error="connection refused"`)
	})
}
