package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// FuzzFile feeds the file parser: it may refuse, never panic, and never accept what the schema does
// not know.
func FuzzFile(f *testing.F) {
	for _, s := range []string{
		"", "door:\n  listen: x\n", "targets:\n  - {name: a, retry: {count: 3}}\n", "a: &a [*a]\n", "door: [1, {x: y}]\n",
		"door:\n  ? [a]\n  : b\n", "targets: [null, 7]\n", "---\n...\n", "door.codes: [1, 2]\n", "\x00", "door:\n  body: 1e9\n",
	} {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "m.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
		g := &grammar{}
		k, res, _ := parser(t, g, nil)
		var ctx *kong.Context
		ctx, err := k.Parse([]string{"--config=" + path})
		if err != nil {
			return
		}
		for _, s := range res.Effective(ctx) {
			require.NotEmpty(t, s.Key)
		}
	})
}
