package deploy

import (
	"bytes"
	"debug/elf"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// stage is the last stage of the Dockerfile, an instruction with its arguments per line.
func stage(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("docker/Dockerfile")
	require.NoError(t, err)
	_, last, ok := strings.Cut(string(b), "\nFROM scratch\n")
	require.True(t, ok, "the image ends FROM scratch")
	all := map[string]string{}
	for line := range strings.Lines(last) {
		if word, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok && word != "#" {
			require.NotContains(t, all, word, "one of each")
			all[word] = rest
		}
	}
	return all
}

// TestImageServesAnOrderFromItsRootFilesystem lays the image's root filesystem out as the Dockerfile
// does and runs its command in it, as its user and with nothing else in reach.
func TestImageServesAnOrderFromItsRootFilesystem(t *testing.T) {
	binary := os.Getenv("MILLRACE_RELEASE_BIN")
	if binary == "" {
		t.Skip("MILLRACE_RELEASE_BIN is not set: make image-check")
	}
	if os.Getuid() != 0 {
		t.Skip("only root may change its root directory")
	}
	binary, err := filepath.Abs(binary)
	require.NoError(t, err)
	requireStatic(t, binary)
	last, root := stage(t), t.TempDir()
	require.Equal(t, "--from=build /rootfs/ /", last["COPY"])
	command(t, "", "docker/rootfs.sh", binary, root)
	require.NoError(t, os.Chmod(root, 0o755)) // the test's directory is its own

	admin, door := freeAddr(t), freeAddr(t)
	log := &bytes.Buffer{}
	cmd := exec.Command(strings.Trim(last["ENTRYPOINT"], `[]"`), strings.Trim(last["CMD"], `[]"`), "--admin.listen="+admin, "--ingress.listen="+door)
	cmd.Path, cmd.Err = "/millrace", nil
	name, value, _ := strings.Cut(last["ENV"], "=")
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = last["WORKDIR"], log, log, []string{name + "=" + value}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}, Pdeathsig: syscall.SIGKILL,
	}
	require.Equal(t, "65532:65532", last["USER"])
	require.NoError(t, cmd.Start())
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Log(log)
		}
	})
	await(t, "the node is ready", func() bool { status, _ := get("http://" + admin + "/readyz"); return status == http.StatusOK })
	require.Contains(t, send(t, door), readmeHash)
	await(t, "its record", func() bool {
		_, out := get("http://" + admin + "/ledger")
		return strings.Contains(out, `"outcome":"delivered"`)
	})
	require.DirExists(t, filepath.Join(root, "data", "nats", "jetstream"))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "%s", log)
	stopped = true
}

// requireStatic fails for a binary that needs a loader or a library, which a scratch image has not.
func requireStatic(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		require.NotEqual(t, elf.PT_INTERP, p.Type, "it asks for a loader")
	}
	libs, _ := f.ImportedLibraries()
	require.Empty(t, libs)
	out := command(t, "", path, "version")
	require.Contains(t, out, "libsecp256k1", "built with cgo")
}
