package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"

	"millrace/loadtest"
)

// loadtestRegionsCmd is a test of several nodes with a network between them.
type loadtestRegionsCmd struct {
	loadtest.RegionsCommand `embed:""`
}

// Help is the long help text.
func (loadtestRegionsCmd) Help() string {
	return `Emulates the network between nodes on this machine: each dials its peers through links with the delay, jitter and bandwidth of a topology, and a scenario cuts, slows, flaps and resets them or restarts nodes. Orders are sent to the doors and looked for at every builder; a TCP echo through the same links is measured beside them. Exit code 1 when an order is missing somewhere or came twice unmarked.

Example: millrace loadtest regions --start --topology two-regions --duration 30s --html regions.html`
}

// Run tests; the report goes to stdout, everything else to stderr.
func (c *loadtestRegionsCmd) Run(ctx context.Context, a *app) error {
	c.Notes = a.stderr
	c.Joined = testJoined
	c.Launch = func(p loadtest.NodePlan) (*exec.Cmd, error) { return launchNode(p, a.environ) }
	return loadtestEnd(ctx, c.RegionsCommand.Run(ctx, a.stdout))
}

// launchNode is this program as a node with a configuration of its own. Nothing of the environment
// that would configure a node reaches it.
func launchNode(p loadtest.NodePlan, environ []string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	cfg, err := nodeConfig(&p)
	if err == nil {
		err = writeTestCertificate(&p)
	}
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	b, err := yaml.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	file := filepath.Join(p.Dir, "millrace.yaml")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	cmd := exec.Command(exe, "node", "--config", file) //nolint:gosec,noctx // ourselves; a restart and the end of the test stop it
	cmd.Dir, cmd.Env = p.Dir, []string{}
	for _, e := range environ {
		if name, _, _ := strings.Cut(e, "="); name == "PATH" || name == "HOME" || name == "TMPDIR" || strings.HasPrefix(name, "GO") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	return cmd, nil
}

// nodeConfig is the configuration of one node of the test.
func nodeConfig(p *loadtest.NodePlan) (map[string]any, error) {
	cfg := map[string]any{
		"node.name":      p.Name,
		"ingress.listen": p.Door,
		"admin.listen":   p.Admin,
		"builder.url":    p.Builder,
		"nats.store_dir": filepath.Join(p.Dir, "nats"),
		"log.format":     "json",
	}
	peers, err := testPeers(p)
	if err != nil {
		return nil, err
	}
	maps.Copy(cfg, peers)
	return cfg, nil
}
