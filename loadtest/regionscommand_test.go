package loadtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/freeport"
	"millrace/loadtest/regions"
)

// fakeNodeVariable makes this test binary a node: its plan, as JSON.
const fakeNodeVariable = "LOADTEST_FAKE_NODE"

// fakeNode is regionFake as a process of its own, from its plan to SIGTERM.
func fakeNode(text string) int {
	var p NodePlan
	if err := json.Unmarshal([]byte(text), &p); err != nil || p.Name == "broken" {
		fmt.Fprintln(os.Stderr, "this node is broken", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	f := &regionFake{ctx: ctx, client: &http.Client{}, builder: p.Builder}
	for _, other := range p.Peers {
		f.peers = append(f.peers, other.Addr)
	}
	failed := make(chan error, 3)
	serve := func(addr string, h http.Handler) {
		srv := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: timeout}
		go func() { failed <- srv.ListenAndServe() }()
	}
	serve(p.Door, http.HandlerFunc(f.serveDoor))
	serve(p.Peer, http.HandlerFunc(f.servePeer))
	serve(p.Admin, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	select {
	case <-ctx.Done():
		return 0
	case err := <-failed:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

func launchFake(p NodePlan) (*exec.Cmd, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fakeNodeVariable+"="+string(b))
	return cmd, nil
}

func newRegionsCommand(t *testing.T, scenario string) *RegionsCommand {
	t.Helper()
	dir := t.TempDir()
	topology := filepath.Join(dir, "topology.yaml")
	require.NoError(t, os.WriteFile(topology, []byte(`
name: near
regions: {a: {}, b: {}}
links: [{between: [a, b], delay: 5ms, bandwidth: 1Gbit}]
orders: {rate: 50, at: [a]}
`), 0o600))
	c := &RegionsCommand{
		Topology: topology, Duration: time.Second, Connections: 2, Seed: 1, Shape: []Shape{ShapeBundle}, Settle: timeout,
		Start: true, Dir: filepath.Join(dir, "nodes"), Launch: launchFake, Notes: io.Discard,
	}
	if scenario != "" {
		c.Scenario = filepath.Join(dir, "scenario.yaml")
		require.NoError(t, os.WriteFile(c.Scenario, []byte(scenario), 0o600))
	}
	return c
}

func TestNodesThatAreStartedFindEachOtherOverTheLinks(t *testing.T) {
	c := newRegionsCommand(t, "steps: [{at: 200ms, do: partition, between: [a, b], for: 200ms}]")
	c.JSON, c.HTML = true, filepath.Join(t.TempDir(), "page.html")
	var out, notes strings.Builder
	c.Notes = &notes
	require.NoError(t, c.Run(t.Context(), &out), &notes)
	rep, err := ReadReport(strings.NewReader(out.String()))
	require.NoError(t, err)
	far := rep.(*RegionsReport).Links[1]
	require.Equal(t, "a > b", far.name())
	require.Positive(t, far.Delivered)
	require.GreaterOrEqual(t, far.Orders.P50, int64(4990))
	require.Positive(t, rep.(*RegionsReport).PeakRSS)
	require.Contains(t, notes.String(), "link a>b: 127.0.0.1:")
	require.FileExists(t, c.HTML)
	require.FileExists(t, filepath.Join(c.Dir, "a", "log"))
}

func TestNodeThatIsRestartedGoesOn(t *testing.T) {
	c := newRegionsCommand(t, "steps: [{at: 300ms, do: restart, node: b}]")
	var out strings.Builder
	c.JSON = true
	err := c.Run(t.Context(), &out) // the fake may lose what it had in hand
	if err != nil {
		require.ErrorIs(t, err, ErrViolations)
	}
	rep, err := ReadReport(strings.NewReader(out.String()))
	require.NoError(t, err)
	r := rep.(*RegionsReport)
	require.Len(t, r.Events, 1)
	require.Empty(t, r.Events[0].Error)
	require.Positive(t, r.Links[1].Delivered)
}

func TestNodeThatDoesNotStartSaysWhy(t *testing.T) {
	c := newRegionsCommand(t, "")
	c.Launch = func(p NodePlan) (*exec.Cmd, error) {
		p.Name = "broken"
		return launchFake(p)
	}
	require.ErrorContains(t, c.Run(t.Context(), io.Discard), "this node is broken")
}

func TestNodesThatRunAreSentTo(t *testing.T) {
	c := newRegionsCommand(t, "")
	c.Start = false
	a, b := newRegionFake(t), newRegionFake(t)
	at, err := freeport.Addrs(t.Context(), 3)
	require.NoError(t, err)
	a.peers, a.builder, b.builder = []string{at[0]}, "http://"+at[1], "http://"+at[2]
	c.LinkListen = []Named{{"a>b", at[0]}}
	c.Node = []Named{
		{"a", a.door.URL + "," + at[1]},
		{"b", fmt.Sprintf(",%s,%s,%d", at[2], b.peer.Listener.Addr(), os.Getpid())},
	}
	var out strings.Builder
	require.NoError(t, c.Run(t.Context(), &out), &out)
	require.Contains(t, out.String(), "everything arrived everywhere, once")
}

func TestRegionsCommandRefusesWhatCanNotBe(t *testing.T) {
	for name, change := range map[string]func(*RegionsCommand){
		"no such topology":      func(c *RegionsCommand) { c.Topology = "nowhere" },
		"no such scenario":      func(c *RegionsCommand) { c.Scenario = "nowhere" },
		"both kinds of nodes":   func(c *RegionsCommand) { c.Node = []Named{{"a", ""}} },
		"nobody starts nodes":   func(c *RegionsCommand) { c.Launch = nil },
		"a node too few":        func(c *RegionsCommand) { c.Start, c.Node = false, []Named{{"a", ""}} },
		"a node too many":       func(c *RegionsCommand) { c.Start, c.Node = false, []Named{{"a", ""}, {"b", ""}, {"c", ""}} },
		"no door to send to":    func(c *RegionsCommand) { c.Start, c.Node = false, []Named{{"a", ""}, {"b", ""}} },
		"a process of letters":  func(c *RegionsCommand) { c.Start, c.Node = false, []Named{{"a", ",,,x"}} },
		"a node of five parts":  func(c *RegionsCommand) { c.Start, c.Node = false, []Named{{"a", ",,,,"}} },
		"a door of no address":  func(c *RegionsCommand) { c.Start, c.Node = false, []Named{{"a", "ftp://x"}} },
		"a link of one end":     func(c *RegionsCommand) { c.LinkListen = []Named{{"a", "127.0.0.1:0"}} },
		"a link that is not":    func(c *RegionsCommand) { c.LinkListen = []Named{{"a>c", "127.0.0.1:0"}} },
		"a scenario of nothing": func(c *RegionsCommand) { c.Scenario = c.Topology },
	} {
		t.Run(name, func(t *testing.T) {
			c := newRegionsCommand(t, "")
			change(c)
			require.ErrorIs(t, c.Run(t.Context(), io.Discard), ErrConfig)
		})
	}
}

func TestTheTopologysRateCountsUnlessAnotherIsAskedFor(t *testing.T) {
	top, err := regions.Load("two-regions")
	require.NoError(t, err)
	require.InDelta(t, 860, (&RegionsCommand{}).rate(top), 0)
	require.InDelta(t, 10, (&RegionsCommand{Rate: 10}).rate(top), 0)
	require.InDelta(t, 500, (&RegionsCommand{}).rate(regions.Topology{}), 0)
}
