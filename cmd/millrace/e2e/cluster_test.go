//go:build e2e && linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/freeport"
	"millrace/loadtest"
)

// natsServer builds the nats-server of the version that millrace is built with, once.
var natsServer = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-e2e-nats-")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	bin := filepath.Join(dir, "nats-server")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build nats-server: %w\n%s", err, out)
	}
	return bin, nil
})

// cluster is three nats-servers, processes of their own, configured by `millrace bus-config`.
type cluster struct {
	dir     string
	port    int // of the first; the others are one and two above, routes 2000, monitoring 4000
	servers [3]*clusterServer
}

// clusterServer is one of them; it can be killed and started again on its data.
type clusterServer struct {
	name, monitor string
	command       []string
	log           string
	cmd           *exec.Cmd
	exited        chan struct{}
}

// startCluster starts the servers and waits until each is in step with the others.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	bin, err := natsServer()
	require.NoError(t, err)
	first, err := freeport.Row(t.Context(), 3, 2000, 4000)
	require.NoError(t, err)
	c := &cluster{dir: t.TempDir(), port: first}
	run(t, "bus-config", "--out="+c.dir, "--cluster=3", fmt.Sprintf("--port=%d", c.port), "--store-dir="+filepath.Join(c.dir, "store"))
	for i := range c.servers {
		name := fmt.Sprintf("nats-%d", i+1)
		s := &clusterServer{
			name: name, monitor: fmt.Sprintf("http://127.0.0.1:%d", c.port+4000+i),
			command: []string{bin, "-c", filepath.Join(c.dir, name+".conf")}, log: filepath.Join(c.dir, name+".log"),
		}
		c.servers[i] = s
		s.start(t)
		t.Cleanup(func() {
			s.kill()
			if b, err := os.ReadFile(s.log); err == nil && t.Failed() {
				t.Logf("the end of %s:\n%s", s.name, b[max(0, len(b)-4<<10):])
			}
		})
	}
	c.waitHealthy(t)
	return c
}

// run runs a millrace command that ends by itself.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryRun(t, args...)
	require.NoError(t, err, "millrace %s:\n%s", strings.Join(args, " "), out)
	return out
}

func tryRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir, cmd.Env = t.TempDir(), environment()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *clusterServer) start(t *testing.T) {
	t.Helper()
	out, err := os.OpenFile(s.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer out.Close()
	cmd := exec.Command(s.command[0], s.command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	s.cmd, s.exited = cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(s.exited)
}

// kill is kill -9.
func (s *clusterServer) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// waitHealthy waits until every server says that all it stores is in step. To kill the next before
// the last one has caught up would be to lose the majority, which no one promises to survive.
func (c *cluster) waitHealthy(t *testing.T) {
	t.Helper()
	for _, s := range c.servers {
		eventually(t, time.Minute, func() bool {
			status, _ := get(s.monitor + "/healthz")
			return status == http.StatusOK
		}, "%s is healthy", s.name)
	}
}

// leader is the server that leads a stream; nil while there is none.
func (c *cluster) leader(stream string) *clusterServer {
	for _, s := range c.servers {
		var jsz struct {
			Accounts []struct {
				Streams []struct {
					Name    string
					Cluster struct{ Leader string }
				} `json:"stream_detail"`
			} `json:"account_details"`
		}
		status, body := get(s.monitor + "/jsz?streams=true")
		if status != http.StatusOK || json.Unmarshal([]byte(body), &jsz) != nil {
			continue
		}
		for _, a := range jsz.Accounts {
			for _, st := range a.Streams {
				if st.Name == stream && st.Cluster.Leader == s.name { // only its own word counts
					return s
				}
			}
		}
	}
	return nil
}

// flags are how a role reaches the cluster, as whom. The streams are small: the servers set what they may become apart
// on the volume, whoever's else it is.
func (c *cluster) flags(t *testing.T, as string) []string {
	t.Helper()
	url := fmt.Sprintf("nats://127.0.0.1:%d,nats://127.0.0.1:%d,nats://127.0.0.1:%d", c.port, c.port+1, c.port+2)
	return []string{
		"--nats.url=" + url, "--nats.creds=" + filepath.Join(c.dir, "keys", as+".nk"), "--nats.replicas=3",
		"--nats.store_dir=" + filepath.Join(t.TempDir(), "nats"),
		"--streams.in.max_bytes=512MiB", "--streams.ok.max_bytes=512MiB", "--record.orders.max_bytes=1GiB", "--record.ledger.max_bytes=1GiB",
	}
}

// startOnCluster starts two doors, two workers and a delivery on the cluster.
func startOnCluster(t *testing.T, c *cluster) *pipeline {
	t.Helper()
	p := &pipeline{}
	p.sink, p.builder = startSink(t)
	eventually(t, 30*time.Second, func() bool { // servers that have just met don't take each other's word yet
		out, err := tryRun(t, append([]string{"streams", "apply"}, c.flags(t, "admin")...)...)
		t.Log(out)
		return err == nil
	}, "streams are made on three servers")
	for i := range 2 {
		p.workers = append(p.workers, newProcess(t, fmt.Sprintf("worker%d", i), "worker", c.flags(t, "worker")...))
		door := freeAddr(t)
		p.doors = append(p.doors, "http://"+door)
		p.ingress = append(p.ingress, newProcess(t, fmt.Sprintf("ingress%d", i), "ingress",
			append(c.flags(t, "ingress"), "--ingress.listen="+door)...))
	}
	p.egress = newProcess(t, "egress", "egress", append(c.flags(t, "egress"), "--builder.url="+p.builder, patience)...)
	p.all = append(append(append(p.all, p.workers...), p.egress), p.ingress...)
	for _, proc := range p.all {
		proc.start(t)
	}
	for _, proc := range p.all {
		proc.waitReady(t)
	}
	return p
}

// Three servers, three copies of everything, and the leader of one stream after the other killed at
// a random moment under load: nothing that was accepted is lost or recorded twice.
func TestKillingTheLeadersOfAClusterLosesNothing(t *testing.T) {
	c := startCluster(t)
	p := startOnCluster(t, c)
	streams := []string{"IN_HIGH", "OK_MEDIUM", "DONE", "IN_MEDIUM", "OK_HIGH", "KV_LEASES"}
	kills := rounds()
	const round = 28 * time.Second // an election takes four to nine seconds, catching up a few more
	flow := careful(modest(200), time.Duration(kills)*round)
	flow.Resend = 1000 // the sender outlasts an election
	l := p.startLoad(t, flow)
	for i := range kills {
		nap(t, randomly(2*time.Second, 6*time.Second))
		stream := streams[i%len(streams)]
		var victim *clusterServer
		eventually(t, 20*time.Second, func() bool { victim = c.leader(stream); return victim != nil }, "%s has a leader", stream)
		accepted, taken := l.journal.Count(loadtest.AnswerAccepted), p.sink.Taken()
		victim.kill()
		killed := time.Now()
		t.Logf("killed %s, leader of %s, with %d accepted and %d taken", victim.name, stream, accepted, taken)
		nap(t, randomly(0, 3*time.Second))
		victim.start(t)
		eventually(t, time.Minute, func() bool {
			return l.journal.Count(loadtest.AnswerAccepted) > accepted+50 && p.sink.Taken() > taken+50
		}, "orders flow again after the kill of the leader of %s", stream)
		report(t, "leader of %s killed: orders flow again after %s", stream, time.Since(killed).Round(10*time.Millisecond))
		c.waitHealthy(t)
	}
	l.wait(t)
	v := p.verify(t, l, 2*time.Minute, kills*flight)
	report(t, "%d kills of leaders, %d orders accepted, none lost, %d sent twice", kills, v.Accepted, v.Repeated)
	out := run(t, "ledger", "verify", "--since="+l.started.UTC().Format(time.RFC3339), "--admin="+p.egress.admin)
	t.Log(out)
}
