package eltest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"millrace/internal/engineapi"
	"millrace/internal/freeport"
)

const (
	gethPackage = "github.com/ethereum/go-ethereum"
	readyWithin = 60 * time.Second
	stopWithin  = 30 * time.Second
	pollEvery   = 50 * time.Millisecond
)

// Scheme is how a geth keeps its state, which decides what SIGKILL costs.
type Scheme uint8

// The schemes.
const (
	SchemeHash Scheme = iota + 1 // hash and archive: survives SIGKILL
	SchemePath                   // geth's default: SIGKILL may cost the state
)

// flags are the scheme's own flags at the start; init takes the first of them.
func (s Scheme) flags() []string {
	if s == SchemePath {
		return []string{"--state.scheme=path"}
	}
	return []string{"--state.scheme=hash", "--gcmode=archive"}
}

// GethConfig describes one node.
type GethConfig struct {
	Binary  string // of BuildGeth
	Dir     string // of its own; data, secret and log are in it
	Genesis string // file
	Secret  engineapi.Secret
	Scheme  Scheme
	// Public opens a port without authentication as well, for HTTP and WebSockets: RPCURL.
	Public bool
}

// Geth is a real execution client without peers, on a loopback port that it keeps. Its methods are
// for one goroutine at a time.
type Geth struct {
	cfg  GethConfig
	port int
	rpc  int // the public port, if any
	cmd  *exec.Cmd
	done chan struct{}
}

// BuildGeth builds the version of geth that tools/geth pins and is the path of the binary. It is
// built once and kept in the user's cache directory.
func BuildGeth(ctx context.Context) (string, error) {
	root, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return "", err
	}
	module := filepath.Join(root, "tools", "geth")
	version, err := output(ctx, module, "go", "list", "-m", "-f", "{{.Version}}", gethPackage)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	binary := filepath.Join(cache, "millrace", "geth-"+version)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o750); err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	// Two builders may be at it: each has a file of its own, and the last rename holds.
	fresh := fmt.Sprintf("%s.%d", binary, os.Getpid())
	// With no flags of its own it shares what tests have compiled already.
	if _, err := output(ctx, module, "go", "build", "-o", fresh, gethPackage+"/cmd/geth"); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, binary); err != nil {
		return "", fmt.Errorf("keep geth: %w", err)
	}
	return binary, nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // go, or the binary that it built
	cmd.Dir = dir
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// NewGeth describes a node that does not run yet.
func NewGeth(cfg GethConfig) *Geth {
	if cfg.Scheme == 0 {
		cfg.Scheme = SchemeHash
	}
	return &Geth{cfg: cfg}
}

// URL is the node's authenticated port; empty before the first Start.
func (g *Geth) URL() string {
	if g.port == 0 {
		return ""
	}
	return fmt.Sprintf("http://127.0.0.1:%d", g.port)
}

// RPCURL is the node's public port, for HTTP; WSURL the same for WebSockets.
func (g *Geth) RPCURL() string { return fmt.Sprintf("http://127.0.0.1:%d", g.rpc) }

// WSURL is RPCURL for WebSockets.
func (g *Geth) WSURL() string { return fmt.Sprintf("ws://127.0.0.1:%d", g.rpc) }

// SecretFile is where the node's secret is.
func (g *Geth) SecretFile() string { return filepath.Join(g.cfg.Dir, "jwt.hex") }

// LogFile is what the node wrote, of all its lives.
func (g *Geth) LogFile() string { return filepath.Join(g.cfg.Dir, "geth.log") }

// Start starts the node, with a fresh database the first time, and waits until it answers.
func (g *Geth) Start(ctx context.Context) error {
	if g.cmd != nil {
		return errors.New("geth runs already")
	}
	if err := g.prepare(ctx); err != nil {
		return err
	}
	log, err := os.OpenFile(g.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("geth's log: %w", err)
	}
	defer log.Close() //nolint:errcheck // the process has its own handle
	args := append([]string{
		"--config", filepath.Join(g.cfg.Dir, "p2p.toml"), "--datadir", g.data(), "--networkid", "770077", "--syncmode", "full",
		"--nodiscover", "--maxpeers", "0", "--nat", "none", "--ipcdisable", "--cache", "64", "--verbosity", "3",
		"--authrpc.addr", "127.0.0.1", "--authrpc.port", strconv.Itoa(g.port), "--authrpc.jwtsecret", g.SecretFile(),
	}, g.cfg.Scheme.flags()...)
	if g.cfg.Public {
		port := strconv.Itoa(g.rpc)
		args = append(args, "--http", "--http.addr", "127.0.0.1", "--http.port", port, "--http.api", "eth,net,web3,txpool,debug",
			"--ws", "--ws.addr", "127.0.0.1", "--ws.port", port, "--ws.api", "eth,net,web3,txpool,debug", "--ws.origins", "*")
	}
	// The node outlives ctx, which is only that of starting it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), g.cfg.Binary, args...) //nolint:gosec // the test names it
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start geth: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	g.cmd, g.done = cmd, done
	return g.ready(ctx)
}

func (g *Geth) data() string { return filepath.Join(g.cfg.Dir, "data") }

// prepare makes what the first start needs.
func (g *Geth) prepare(ctx context.Context) error {
	if g.port == 0 {
		first, err := freeport.Row(ctx, 2)
		if err != nil {
			return fmt.Errorf("prepare geth: %w", err)
		}
		g.port, g.rpc = first, first+1
	}
	if _, err := os.Stat(g.data()); err == nil {
		return nil
	}
	secret := fmt.Sprintf("0x%s\n", hexOf(g.cfg.Secret))
	// --port 0 would listen on every interface.
	p2p := "[Node.P2P]\nListenAddr = \"127.0.0.1:0\"\nMaxPeers = 0\nNoDiscovery = true\n"
	for path, text := range map[string]string{g.SecretFile(): secret, filepath.Join(g.cfg.Dir, "p2p.toml"): p2p} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("prepare geth: %w", err)
		}
	}
	_, err := output(ctx, "", g.cfg.Binary, "--datadir", g.data(), g.cfg.Scheme.flags()[0], "init", g.cfg.Genesis)
	return err
}

func hexOf(s engineapi.Secret) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 2*len(s))
	for _, c := range s {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return string(b)
}

// ready waits until the node answers, or says why it does not.
func (g *Geth) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if g.answers(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case <-g.done:
			g.cmd = nil
			return fmt.Errorf("geth ended at once, see %s", g.LogFile())
		case <-ctx.Done():
			return fmt.Errorf("geth does not answer: %w", ctx.Err())
		}
	}
}

func (g *Geth) answers(ctx context.Context) bool {
	body := strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL(), body)
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", contentJSON)
	req.Header.Set("Authorization", g.cfg.Secret.Authorization(time.Now()))
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// Stop ends the node in order, SIGTERM, and kills it when that takes too long.
func (g *Geth) Stop() {
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Signal(syscall.SIGCONT) // one that was paused could not end
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.done:
		g.cmd = nil
	case <-time.After(stopWithin):
		g.Kill()
	}
}

// Kill ends the node with SIGKILL.
func (g *Geth) Kill() {
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Kill()
	<-g.done
	g.cmd = nil
}

// Pause stops the node with SIGSTOP: it hangs, its ports stay open.
func (g *Geth) Pause() error { return g.signal(syscall.SIGSTOP) }

// Resume lets a paused node go on.
func (g *Geth) Resume() error { return g.signal(syscall.SIGCONT) }

func (g *Geth) signal(s syscall.Signal) error {
	if g.cmd == nil {
		return errors.New("geth does not run")
	}
	return g.cmd.Process.Signal(s)
}

// Running says whether the node runs.
func (g *Geth) Running() bool { return g.cmd != nil }

// Wipe removes a stopped node's database.
func (g *Geth) Wipe() error {
	if g.cmd != nil {
		return errors.New("geth runs")
	}
	return os.RemoveAll(g.data())
}
