package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// written is a bed that is configured by a file.
type written struct {
	*bed
	path string
}

// write writes the file: a line for each secondary, and what else is in the section engine.
func (w *written) write(t *testing.T, secondaries []string, rest string) {
	t.Helper()
	text := "engine:\n  secondaries: [" + strings.Join(secondaries, ", ") + "]\n" + rest
	require.NoError(t, os.WriteFile(w.path+".tmp", []byte(text), 0o600))
	require.NoError(t, os.Rename(w.path+".tmp", w.path))
}

func secondaryLine(name string, c *el, more string) string {
	return fmt.Sprintf("{name: %s, url: '%s', jwt_secret: '%s'%s}", name, c.URL(), c.file, more)
}

func newWritten(t *testing.T, secondaries int) *written {
	t.Helper()
	w := &written{bed: &bed{dir: t.TempDir()}, path: filepath.Join(t.TempDir(), "millrace.yaml")}
	w.equip(t, secondaries)
	w.args = append(w.args, "--config="+w.path)
	return w
}

func (w *written) keys(n int) any { return w.line("reloaded", n)["keys"] }

func TestSecondariesAreReloaded(t *testing.T) {
	t.Parallel()
	w := newWritten(t, 2)
	b, c := secondaryLine("b", w.clients[1], ""), secondaryLine("c", w.clients[2], "")
	w.write(t, []string{b}, "")
	w.up(t)
	w.drive(t)
	w.slots(t, 5)
	w.together(t, w.clients[:2]...)
	require.Zero(t, w.clients[2].Head().Number)

	// One comes, with a deadline of all and a key that needs a restart.
	w.write(t, []string{b, c}, "  timeout: 30s\n  replay: {check_every: 300ms, max_calls: 1000}\n")
	require.Equal(t, []any{"engine.replay.check_every", "engine.secondaries"}, w.keys(1))
	require.Equal(t, []any{"engine.replay.max_calls", "engine.timeout"}, w.line("changed keys need a restart", 1)["keys"])
	w.slots(t, 3)
	w.together(t, w.clients...)
	require.Contains(t, w.command(t, "engine", "status").out, "c ")

	// One goes, and the other's mode is another.
	w.write(t, []string{secondaryLine("b", w.clients[1], ", mode: off")}, "")
	w.line("reloaded", 2)
	eventually(t, "c is not known any more and b is off", func() bool {
		out := w.command(t, "engine", "modes").out
		return !strings.Contains(out, "c ") && strings.Contains(out, "off")
	})
	at := w.clients[2].Head()
	w.slots(t, 3)
	require.Equal(t, at, w.clients[2].Head())
	require.Equal(t, at, w.clients[1].Head())

	// Back again.
	w.write(t, []string{b, c}, "")
	w.together(t, w.clients...)
	for _, s := range w.clients[1:] {
		obeyed(t, s)
	}
}

// The file with the secret has another one, under the same name.
func TestASecretIsReadAgainByAReload(t *testing.T) {
	w := newWritten(t, 1)
	client := w.clients[1]
	right, err := os.ReadFile(client.file)
	require.NoError(t, err)
	_, wrong := secretFile(t, 0x99)
	text, err := os.ReadFile(wrong)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(client.file, text, 0o600))
	w.write(t, []string{secondaryLine("b", client, "")}, "")
	w.up(t)
	w.drive(t)
	w.slots(t, 3)
	eventually(t, "b refuses the token", func() bool { return strings.Contains(w.command(t, "engine", "status").out, "halted") })
	require.NoError(t, os.WriteFile(client.file, right, 0o600))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	w.line("reloaded", 1)
	w.together(t, w.clients...)
	before := len(client.Calls())
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	w.line("reloaded", 2)
	w.slots(t, 1)
	w.together(t, w.clients...)
	require.Less(t, len(client.Calls())-before, 100, "what is as it was is left alone")
}

func TestThePrimaryIsNotTakenAwayByAReload(t *testing.T) {
	t.Parallel()
	w := newWritten(t, 2)
	b, c := secondaryLine("b", w.clients[1], ""), secondaryLine("c", w.clients[2], "")
	w.write(t, []string{b}, "")
	w.up(t)
	w.drive(t)
	w.slots(t, 5)
	w.together(t, w.clients[:2]...)
	o := w.command(t, "engine", "promote", "b")
	require.Equal(t, exitOK, o.code, o.errors)
	w.write(t, []string{c}, "")
	require.Contains(t, w.line("reload refused, the earlier configuration stays in force", 1)["error"], "promote another before")
	w.slots(t, 3)
	w.together(t, w.clients[:2]...)
	require.Zero(t, w.clients[2].Head().Number)

	// And failover is switched on while it runs.
	w.write(t, []string{b, c}, "  failover: auto\n  failover_after: 1s\n")
	require.Equal(t, []any{"engine.failover", "engine.failover_after", "engine.secondaries"}, w.keys(1))
	w.slots(t, 3)
	w.together(t, w.clients...)
	w.clients[1].Stop()
	require.Error(t, w.driver.Random(t.Context()), "b is gone")
	began := time.Now()
	w.line("failover", 1)
	require.Less(t, time.Since(began), patience)
}
