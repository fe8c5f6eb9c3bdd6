package deploy

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// files returns the text of every deployment file and of the runbook.
func files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	read := func(path string) {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		all[path] = string(b)
	}
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") || strings.HasPrefix(path, "check/") || strings.Contains(path, "site/") {
			return err
		}
		read(path)
		return nil
	}))
	read("../docs/runbook.md")
	require.Greater(t, len(all), 15)
	return all
}

// notKeys are variables that are read by something else than the configuration.
var notKeys = []string{"MILLRACE_IMAGE", "MILLRACE_CONFIG", "MILLRACE_DEPLOY_TOOLS"}

func TestEveryKeyAndVariableThatIsNamedExists(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\|").FindAllStringSubmatch(command(t, "", millrace, "config", "reference"), -1) {
		keys[m[1]] = true
	}
	require.Greater(t, len(keys), 50)
	variables, sections := map[string]bool{}, map[string]bool{}
	for k := range keys {
		variables["MILLRACE_"+strings.ToUpper(strings.ReplaceAll(k, ".", "_"))] = true
		section, _, _ := strings.Cut(k, ".")
		sections[section] = true
	}
	variable := regexp.MustCompile(`\bMILLRACE_[A-Z0-9_]+\b`)
	key := regexp.MustCompile(`(?:--|\b)([a-z]+(?:\.[a-z_]+)+)\b`)
	for path, text := range files(t) {
		for _, v := range variable.FindAllString(text, -1) {
			require.True(t, variables[v] || slices.Contains(notKeys, v), "%s: no variable %s", path, v)
		}
		for _, m := range key.FindAllStringSubmatch(text, -1) {
			section, rest, _ := strings.Cut(m[1], ".")
			isFile := slices.Contains([]string{"env", "conf", "nk", "service", "token", "json", "yml", "yaml", "md", "go", "log", "file", "target", "svc", "io", "tar", "txt"}, rest[strings.LastIndex(rest, ".")+1:])
			if !sections[section] || isFile {
				continue
			}
			prefix := func(k string) bool { return strings.HasPrefix(k, m[1]+".") }
			some := slices.ContainsFunc(slices.Collect(maps.Keys(keys)), prefix)
			require.True(t, keys[m[1]] || some, "%s: no key %s", path, m[1])
		}
	}
}

// TestEveryCommandThatIsNamedExists asks the binary for the help of each command in a file, and for
// each flag that a line gives it.
func TestEveryCommandThatIsNamedExists(t *testing.T) {
	t.Parallel()
	help := map[string]string{}
	words := regexp.MustCompile("(?:/usr/local/bin/|\\./bin/|`|^|[(\\s])millrace +([a-z][a-z-]*)(?: +([a-z][a-z-]*))?([^|;`\\n]*)")
	for path, text := range files(t) {
		var lines []string
		for line := range strings.Lines(text) {
			if strings.HasSuffix(path, ".md") || strings.Contains(line, "ExecStart") || strings.Contains(line, "`millrace ") {
				lines = append(lines, line)
			}
		}
		for _, m := range words.FindAllStringSubmatch(strings.Join(lines, ""), -1) {
			if strings.HasPrefix(strings.TrimSpace(m[0]), "millrace") && !strings.Contains(m[0], "`") && !strings.Contains(m[0], "--") {
				continue // prose
			}
			if strings.HasPrefix(m[2], "secret") || m[1] == "create" {
				continue // kubectl -n millrace create secret
			}
			h := helpOf(help, m[1], m[2])
			require.NotEmpty(t, h, "%s: no command in %q", path, m[0])
			for _, flag := range regexp.MustCompile(`--[a-z][a-z0-9_.-]*`).FindAllString(m[3], -1) {
				require.Contains(t, h, flag, "%s: %q", path, m[0])
			}
		}
	}
	require.Greater(t, len(help), 6)
}
