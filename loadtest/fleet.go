package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"millrace/internal/freeport"
	"millrace/loadtest/regions"
)

const (
	// startPatience is how long a started node may take to be ready.
	startPatience = 60 * time.Second
	// stopPatience is how long it may take to end before it is killed.
	stopPatience = 30 * time.Second
	readyPoll    = 50 * time.Millisecond
)

var errNode = errors.New("node")

// NodePlan is a node that is to be started: where it listens, and whom it talks to.
type NodePlan struct {
	Name    string
	Dir     string // its own, for configuration, data and log
	Door    string // host:port of the order door
	Admin   string // host:port; /readyz tells when it is up
	Peer    string // host:port of the listener for peers
	Builder string // URL
	Peers   []PeerPlan
}

// PeerPlan is another node as this one sees it.
type PeerPlan struct {
	Name string
	Addr string // host:port of the link to it, not its own
}

// Launch makes the process of a node, which is not started yet. It is called again for a restart,
// with the same plan.
type Launch func(NodePlan) (*exec.Cmd, error)

// Joined reports whether a node that is ready is connected to all its peers. It is asked before the test begins.
type Joined func(ctx context.Context, p NodePlan) bool

// fleet is the nodes that the test has started, if any.
type fleet struct {
	launch Launch
	joined Joined // nil: there is nothing to wait for
	dir    string
	plans  []*NodePlan
	clean  func()

	mu    sync.Mutex // guards procs
	procs map[string]*running
}

// running is one process of a node.
type running struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it has
}

// planFleet gives every node of a topology free ports and a directory.
func planFleet(ctx context.Context, t regions.Topology, dir string, launch Launch) (map[string]place, *fleet, error) {
	f := &fleet{launch: launch, dir: dir, procs: map[string]*running{}, clean: func() {}}
	if launch == nil {
		return nil, nil, fmt.Errorf("%w: nothing here can start nodes", ErrConfig)
	}
	if dir == "" {
		tmp, err := os.MkdirTemp("", "millrace-regions-")
		if err != nil {
			return nil, nil, fmt.Errorf("start nodes: %w", err)
		}
		f.dir, f.clean = tmp, func() { _ = os.RemoveAll(tmp) }
	}
	out := map[string]place{}
	for _, name := range t.NodeNames() {
		ports, err := freeport.Addrs(ctx, 4)
		if err != nil {
			f.clean()
			return nil, nil, err
		}
		p := &NodePlan{
			Name: name, Dir: filepath.Join(f.dir, name), Door: ports[0], Admin: ports[1], Peer: ports[2], Builder: "http://" + ports[3],
		}
		f.plans = append(f.plans, p)
		out[name] = place{door: "http://" + p.Door, sink: ports[3], peer: p.Peer}
	}
	return out, f, nil
}

// startAll starts all nodes at once, with the links as each other's addresses.
func (f *fleet) startAll(ctx context.Context, n *regions.Network) error {
	for _, p := range f.plans {
		for _, other := range f.plans {
			if other != p {
				p.Peers = append(p.Peers, PeerPlan{Name: other.Name, Addr: n.Addr(regions.Pair{From: p.Name, To: other.Name})})
			}
		}
		if err := f.start(p); err != nil {
			return err
		}
	}
	for _, p := range f.plans {
		if err := f.ready(ctx, p); err != nil {
			return err
		}
	}
	return f.join(ctx)
}

// join waits until all nodes are connected.
func (f *fleet) join(ctx context.Context) error {
	if f.joined == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for _, p := range f.plans {
		for !f.joined(ctx, *p) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w %s: not connected to its peers: %w\n%s", errNode, p.Name, ctx.Err(), tail(f.proc(p.Name).log))
			case <-time.After(readyPoll):
			}
		}
	}
	return nil
}

// start starts one process; its output goes to a file.
func (f *fleet) start(p *NodePlan) error {
	if err := os.MkdirAll(p.Dir, 0o750); err != nil {
		return fmt.Errorf("%w %s: %w", errNode, p.Name, err)
	}
	cmd, err := f.launch(*p)
	if err != nil {
		return fmt.Errorf("%w %s: %w", errNode, p.Name, err)
	}
	r := &running{cmd: cmd, log: filepath.Join(p.Dir, "log"), ended: make(chan struct{})}
	out, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("%w %s: %w", errNode, p.Name, err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Start()
	_ = out.Close() // the process has its own
	if err != nil {
		return fmt.Errorf("%w %s: %w", errNode, p.Name, err)
	}
	f.mu.Lock()
	f.procs[p.Name] = r
	f.mu.Unlock()
	go func() {
		defer close(r.ended)
		_ = cmd.Wait() // what it has to say is in its log
	}()
	return nil
}

// ready waits until a node says that it is.
func (f *fleet) ready(ctx context.Context, p *NodePlan) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	r := f.proc(p.Name)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Admin+"/readyz", nil)
		if err != nil {
			return fmt.Errorf("%w %s: %w", errNode, p.Name, err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-r.ended:
			return fmt.Errorf("%w %s: ended before it was ready\n%s", errNode, p.Name, tail(r.log))
		case <-ctx.Done():
			return fmt.Errorf("%w %s: not ready: %w\n%s", errNode, p.Name, ctx.Err(), tail(r.log))
		case <-time.After(readyPoll):
		}
	}
}

// tail is the end of a file.
func tail(name string) string {
	const most = 2000
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(b[max(len(b)-most, 0):])
}

func (f *fleet) proc(name string) *running {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.procs[name]
}

// adopt tells the test the processes' numbers. One that is restarted has another then, and its
// earlier self can't be measured any more.
func (f *fleet) adopt(nodes map[string]RegionNode) {
	for _, p := range f.plans {
		n := nodes[p.Name]
		n.PID = f.proc(p.Name).cmd.Process.Pid
		nodes[p.Name] = n
	}
}

// hook restarts nodes; nil when there are none to restart.
func (f *fleet) hook() func(context.Context, string) error {
	if len(f.plans) == 0 {
		return nil
	}
	return f.restart
}

// restart kills a node, starts it again and waits until it is ready.
func (f *fleet) restart(ctx context.Context, name string) error {
	i := slices.IndexFunc(f.plans, func(p *NodePlan) bool { return p.Name == name })
	if i < 0 {
		return fmt.Errorf("%w %s: never started", errNode, name)
	}
	r := f.proc(name)
	_ = r.cmd.Process.Kill()
	<-r.ended
	if err := f.start(f.plans[i]); err != nil {
		return err
	}
	return f.ready(ctx, f.plans[i])
}

// stopAll ends all nodes and says which had ended before.
func (f *fleet) stopAll() error {
	http.DefaultClient.CloseIdleConnections()
	var errs []error
	var all []*running
	for _, p := range f.plans {
		r := f.proc(p.Name)
		if r == nil {
			continue
		}
		all = append(all, r)
		select {
		case <-r.ended:
			errs = append(errs, fmt.Errorf("%w %s: ended by itself\n%s", errNode, p.Name, tail(r.log)))
		default:
			_ = r.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	patience, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	for _, r := range all {
		select {
		case <-r.ended:
			continue
		case <-patience.Done():
		}
		_ = r.cmd.Process.Kill()
		<-r.ended
	}
	return errors.Join(errs...)
}
