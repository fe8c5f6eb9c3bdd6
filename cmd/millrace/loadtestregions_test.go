package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

func TestRegionsRefuseAWrongTopologyAsUsage(t *testing.T) {
	o := call(t, "", nil, "loadtest", "regions", "--topology=nowhere")
	require.Equal(t, exitUsage, o.code, o.out+o.errors)
	require.Contains(t, o.errors, "two-regions")
}

func TestStartedNodesHaveAConfigurationThatHolds(t *testing.T) {
	dir := t.TempDir()
	cmd, err := launchNode(loadtest.NodePlan{
		Name: "a", Dir: dir, Door: "127.0.0.1:1", Admin: "127.0.0.1:2", Peer: "127.0.0.1:3", Builder: "http://127.0.0.1:4",
	}, []string{"PATH=/bin", "MILLRACE_LOG_LEVEL=nonsense"})
	require.NoError(t, err)
	require.Equal(t, []string{"PATH=/bin"}, cmd.Env)
	file := filepath.Join(dir, "millrace.yaml")
	require.Equal(t, []string{"node", "--config", file}, cmd.Args[1:])
	_, err = os.Stat(file)
	require.NoError(t, err)
	o := call(t, "", nil, "config", "check", "--config", file)
	require.Equal(t, exitOK, o.code, o.out+o.errors)
}
