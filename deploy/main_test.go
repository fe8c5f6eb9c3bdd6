package deploy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"millrace/internal/freeport"
)

const soon = 30 * time.Second

// millrace is the binary under test.
var millrace string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "millrace-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	millrace = filepath.Join(dir, "millrace")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", millrace, "millrace/cmd/millrace").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build millrace: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// tool finds a program, or skips the test and says why. With MILLRACE_DEPLOY_TOOLS=required, as in
// CI, nothing is skipped.
func tool(t *testing.T, name, how string) string {
	t.Helper()
	for _, at := range []string{os.Getenv(strings.ToUpper(strings.ReplaceAll(name, "-", "_"))), filepath.Join("..", "bin", name), name} {
		if at == "" {
			continue
		}
		if path, err := exec.LookPath(at); err == nil {
			path, err = filepath.Abs(path)
			require.NoError(t, err)
			return path
		}
	}
	if os.Getenv("MILLRACE_DEPLOY_TOOLS") == "required" {
		require.Fail(t, "missing tool", "%s is needed: %s", name, how)
	}
	t.Skipf("%s is not installed: %s", name, how)
	return ""
}

// command runs a program to its end.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, clean()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", name, strings.Join(args, " "), out)
	return string(out)
}

// clean is our environment without what would configure millrace.
func clean() (env []string) {
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MILLRACE_") {
			env = append(env, e)
		}
	}
	return env
}

func freeAddr(t *testing.T) string {
	t.Helper()
	all, err := freeport.Addrs(t.Context(), 1)
	require.NoError(t, err)
	return all[0]
}

// natsServer runs a server from a configuration file, as nats-server -c does.
func natsServer(t *testing.T, conf string) *server.Server {
	t.Helper()
	opts, err := server.ProcessConfigFile(conf)
	require.NoError(t, err)
	opts.NoSigs, opts.NoLog = true, true
	ns, err := server.NewServer(opts)
	require.NoError(t, err)
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	require.True(t, ns.ReadyForConnections(soon))
	return ns
}

// role is one process of the pipeline.
type role struct{ name, admin string }

// start runs a role with an environment file and more flags until the test ends, and waits until it
// is ready.
func start(t *testing.T, name, envFile string, args ...string) role {
	t.Helper()
	r := role{name, freeAddr(t)}
	dir, log := t.TempDir(), &bytes.Buffer{}
	cmd := exec.Command(millrace, append([]string{name, "--admin.listen=" + r.admin}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, log, log, clean()
	if envFile != "" {
		cmd.Env = append(cmd.Env, environment(t, envFile)...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		if t.Failed() || err != nil {
			t.Logf("%s: %v\n%s", name, err, log)
		}
	})
	await(t, name+" is ready", func() bool { status, _ := get("http://" + r.admin + "/readyz"); return status == http.StatusOK })
	return r
}

// environment reads an EnvironmentFile.
func environment(t *testing.T, path string) (env []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			env = append(env, line)
		}
	}
	return env
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, soon, 20*time.Millisecond, what)
}

func get(url string) (status int, body string) {
	c := http.Client{Timeout: 2 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// readme is the order of the README's example.
const readme = `{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":["0x02f86b0180843b9aca008506fc23ac008252089400000000219ab540356cbb839cbe05303d7705fa0180c001a0d6b689dbf934e6076fd12359026b7e0e4d7ef914657102169f02ea05a7ec1c67a015b3029c4e85f0e1f8771c7d94fa75be47692266d06f2f292792a14bcc0784e2"],"blockNumber":"0x1312d00"}]}`

// readmeHash is the hash with which it is answered.
const readmeHash = "0x5be55b4b390b674fad1aa5a4b0df16a45143475e54cfc25789ac5d6bd523aaf6"

// send sends the README's order, signed, and returns the answer.
func send(t *testing.T, addr string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bundle.json")
	require.NoError(t, os.WriteFile(file, []byte(readme), 0o600))
	name, value, ok := strings.Cut(strings.TrimSpace(command(t, "", millrace, "sign", "--file", file)), ": ")
	require.True(t, ok)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr, strings.NewReader(readme))
	require.NoError(t, err)
	req.Header.Set(name, value)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}
