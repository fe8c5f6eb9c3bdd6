//go:build e2e && linux

package e2e

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/certificate/selfsigned"
	"millrace/loadtest"
)

// operator is a node with peers, all of which are in a file that can be written anew.
type operator struct {
	*pipeline
	name, leaf, pin string
	file            string
}

// newOperator describes a node that other operators can fetch from.
func newOperator(t *testing.T, name string, args ...string) *operator {
	t.Helper()
	dir := t.TempDir()
	cert, key := selfsigned.Write(t, dir, time.Now().UnixNano())
	o := &operator{name: name, leaf: freeAddr(t), file: filepath.Join(dir, "peers.yaml"), pin: pinOf(t, cert)}
	o.know(t)
	o.pipeline = newNode(t, append([]string{
		"--peers.name=" + name, "--peers.listen=" + o.leaf, "--peers.tls.cert=" + cert, "--peers.tls.key=" + key, "--peers.file=" + o.file,
	}, args...)...)
	o.bus.name = name
	return o
}

func pinOf(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	block, _ := pem.Decode(b)
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// know makes these the operator's peers, and no others.
func (o *operator) know(t *testing.T, peers ...*operator) {
	t.Helper()
	var b strings.Builder
	b.WriteString("peers:\n")
	for _, p := range peers {
		if p != o {
			fmt.Fprintf(&b, "  - {name: %s, address: %q, transport: leafnode, pins: [%s]}\n", p.name, p.leaf, p.pin)
		}
	}
	require.NoError(t, os.WriteFile(o.file+".new", []byte(b.String()), 0o600))
	require.NoError(t, os.Rename(o.file+".new", o.file))
}

// linked reports whether the operator has so many peers, all connected both ways.
func (o *operator) linked(peers int) bool {
	_, body := get(o.bus.admin + "/peers")
	var v struct {
		Peers []struct{ Name, Serving, Fetching string }
	}
	if json.Unmarshal([]byte(body), &v) != nil || len(v.Peers) != peers {
		return false
	}
	for _, p := range v.Peers {
		if p.Serving != "up" || p.Fetching != "up" {
			return false
		}
	}
	return true
}

// startOperators starts nodes that all know each other.
func startOperators(t *testing.T, names ...string) []*operator {
	t.Helper()
	var all []*operator
	for _, name := range names {
		all = append(all, newOperator(t, name))
	}
	for _, o := range all {
		o.know(t, all...)
		o.bus.start(t)
	}
	for _, o := range all {
		o.bus.waitReady(t)
		eventually(t, 30*time.Second, func() bool { return o.linked(len(all) - 1) }, "%s is connected to all others", o.name)
	}
	return all
}

// exchanged is a flow whose orders any node can check by what its builder took: all of them are valid, so an acceptance
// means that the builder gets it.
func exchanged(rate float64, d time.Duration) loadtest.Flow {
	f := careful(rate, d)
	f.Corpus.Mix = loadtest.Mix{
		{Shape: loadtest.ShapeBundle, Weight: 75},
		{Shape: loadtest.ShapeReplacement, Weight: 10},
		{Shape: loadtest.ShapeTransaction, Weight: 13},
		{Shape: loadtest.ShapeCancel, Weight: 2},
	}
	return f
}

// arrived checks that what one node accepted reached another's builder, each order once, or a newer one in its place.
func (o *operator) arrived(t *testing.T, l *load, from *operator, window int) {
	t.Helper()
	trial := loadtest.Trial{
		Journal: l.journal, Sink: o.sink, Since: l.since, Expect: loadtest.Expect{NoLedger: true, Window: window},
	}
	v, _, err := trial.Settle(t.Context(), 40*time.Second)
	require.NoError(t, err)
	report(t, "%s to %s: accepted %d, taken %d, twice %d, superseded %d", from.name, o.name, v.Accepted, v.Taken, v.Repeated, v.Superseded)
	require.NoError(t, v.Err(), "from %s to %s", from.name, o.name)
	require.Positive(t, v.Accepted)
}

// Every order that is accepted anywhere reaches every builder, once: so nobody passes on what came from a peer.
func TestPeersGetEveryOrderOnce(t *testing.T) {
	all := startOperators(t, "alpha", "beta", "gamma")
	exchange(t, all, 100, short(5*time.Second, 30*time.Second))
	t.Log(run(t, "peers", "--admin="+all[0].bus.admin))
}

// So it is among ten, which need a machine for themselves.
func TestTenPeersGetEveryOrderOnce(t *testing.T) {
	if !soak() {
		t.Skip("ten nodes on one machine: make soak")
	}
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("peer%d", i))
	}
	all := startOperators(t, names...)
	for _, o := range all {
		rested(t, o.bus.pid())
	}
	exchange(t, all, 5, 30*time.Second)
}

// exchange sends a load to each and checks that every one's orders are at every builder.
func exchange(t *testing.T, all []*operator, rate float64, d time.Duration) {
	t.Helper()
	loads := make([]*load, len(all))
	for i, o := range all {
		loads[i] = o.startLoad(t, exchanged(rate, d))
	}
	for _, l := range loads {
		l.wait(t)
	}
	for i, from := range all {
		for _, to := range all {
			to.arrived(t, loads[i], from, 0)
		}
	}
}

// A peer that is killed, or stands still for longer than connections live, gets what it missed when it is back, and nobody
// else notices.
func TestAPeerThatWasAwayGetsWhatItMissed(t *testing.T) {
	for name, away := range map[string]func(t *testing.T, p *process){
		"killed": func(t *testing.T, p *process) {
			t.Helper()
			p.kill(t)
			nap(t, 3*time.Second)
			p.up(t)
		},
		"stopped": func(t *testing.T, p *process) {
			t.Helper()
			p.signal(t, syscall.SIGSTOP)
			nap(t, short(6*time.Second, 30*time.Second))
			p.signal(t, syscall.SIGCONT)
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := startOperators(t, "alpha", "beta", "gamma")
			l := all[0].startLoad(t, exchanged(100, short(10*time.Second, 40*time.Second)))
			nap(t, 2*time.Second)
			away(t, all[1].bus)
			l.wait(t)
			all[0].arrived(t, l, all[0], 0)
			all[2].arrived(t, l, all[0], 0)
			all[1].arrived(t, l, all[0], flight)
		})
	}
}

// Peers are added and removed while orders flow, by writing the file anew.
func TestPeersComeAndGoUnderLoad(t *testing.T) {
	all := startOperators(t, "alpha", "beta")
	gamma := newOperator(t, "gamma")
	gamma.know(t, all...)
	gamma.bus.up(t)
	l := all[0].startLoad(t, exchanged(100, short(12*time.Second, 40*time.Second)))
	nap(t, time.Second)
	for _, o := range all {
		o.know(t, append(all, gamma)...)
	}
	for _, o := range append(all, gamma) {
		eventually(t, 20*time.Second, func() bool { return o.linked(2) }, "%s has two peers", o.name)
	}
	before := gamma.sink.Taken()
	eventually(t, 20*time.Second, func() bool { return gamma.sink.Taken() > before+50 }, "orders flow to who was added")
	for _, o := range all {
		o.know(t, all...)
	}
	for _, o := range all {
		eventually(t, 20*time.Second, func() bool { return o.linked(1) }, "%s has one peer", o.name)
	}
	removed := time.Now()
	l.wait(t)
	for _, o := range all {
		o.arrived(t, l, all[0], 0)
	}
	late := map[loadtest.Tag]bool{}
	for _, r := range l.journal.Results() {
		if r.Sent.After(removed) {
			late[r.Tag] = true
		}
	}
	require.NotEmpty(t, late)
	for _, r := range gamma.sink.Receipts() {
		require.False(t, late[r.Tag], "who was removed gets nothing any more")
	}
}
