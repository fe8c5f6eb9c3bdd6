package doortest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Transcripts plays testdata/*.rpc, each in a test of its own and in parallel. A line is a verb and the rest behind
// one space; empty lines and those that begin with # say nothing. Each file has a player, which gets the lines in
// their order, with the place where each stands.
func Transcripts(t *testing.T, player func(t *testing.T) func(at, verb, rest string)) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.rpc")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".rpc"), func(t *testing.T) {
			t.Parallel()
			play(t, file, player(t))
		})
	}
}

func play(t *testing.T, file string, line func(at, verb, rest string)) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for i, l := range strings.Split(string(text), "\n") {
		verb, rest, _ := strings.Cut(l, " ")
		if verb != "" && !strings.HasPrefix(verb, "#") {
			line(fmt.Sprintf("%s:%d", file, i+1), verb, rest)
		}
	}
}
