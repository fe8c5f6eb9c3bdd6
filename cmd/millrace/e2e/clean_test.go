//go:build e2e && linux

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// reply is a JSON-RPC answer.
type reply struct {
	status int
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	} `json:"error"`
	header http.Header
}

func (r reply) bundleHash(t *testing.T) common.Hash {
	t.Helper()
	require.Nil(t, r.Error)
	var b struct {
		BundleHash common.Hash `json:"bundleHash"`
	}
	if json.Unmarshal(r.Result, &b) != nil {
		require.NoError(t, json.Unmarshal(r.Result, &b.BundleHash))
	}
	return b.BundleHash
}

// send posts a body with a signature header.
func send(t *testing.T, door, header string, body []byte) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, door, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if header != "" {
		req.Header.Set(loadtest.SignatureHeader, header)
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	r := reply{status: resp.StatusCode, header: resp.Header}
	if err := json.Unmarshal(b, &r); err != nil {
		r.Result = b
	}
	return r
}

// orderOf makes one order of a shape.
func orderOf(t *testing.T, s loadtest.Shape) *loadtest.Order {
	t.Helper()
	c, err := loadtest.NewCorpus(loadtest.CorpusConfig{Seed: uint64(time.Now().UnixNano()), Mix: loadtest.Only(s)})
	require.NoError(t, err)
	o, err := c.Order(1)
	require.NoError(t, err)
	return o
}

// recordsOf returns the terminal records of one order, once there are n.
func recordsOf(t *testing.T, admin string, hash common.Hash, n int) []loadtest.Record {
	t.Helper()
	var found []loadtest.Record
	eventually(t, 15*time.Second, func() bool {
		all, err := loadtest.FetchLedger(t.Context(), admin, time.Now().Add(-time.Hour))
		if err != nil {
			return false
		}
		found = found[:0]
		for _, r := range all {
			if r.Hash == hash {
				found = append(found, r)
			}
		}
		return len(found) >= n
	}, "%d records of %s", n, hash)
	return found
}

// With no configuration at all an order reaches the built-in stub and the ledger.
func TestCleanStartNeedsNoConfiguration(t *testing.T) {
	beside(t)
	for _, addr := range []string{"http://127.0.0.1:8080", "http://127.0.0.1:8090"} {
		if status, _ := get(addr); status != 0 {
			t.Skipf("%s is in use, and this test is about the default ports", addr)
		}
	}
	p := newProcess(t, "node", "node")
	p.args = []string{"node"}
	p.admin = "http://127.0.0.1:8090"
	p.up(t)
	o := orderOf(t, loadtest.ShapeBundle)
	r := send(t, "http://127.0.0.1:8080", o.Header, o.Body)
	require.Equal(t, http.StatusOK, r.status, "%s", r.Result)
	hash := r.bundleHash(t)
	recs := recordsOf(t, p.admin, hash, 1)
	require.Len(t, recs, 1)
	require.Equal(t, "delivered", recs[0].Outcome)
	require.Equal(t, o.Signer, recs[0].Signer)
	require.DirExists(t, filepath.Join(p.dir, "data"))
	_, metrics := get(p.admin + "/metrics")
	require.Contains(t, metrics, "millrace_")
	p.stop(t)
}

// SIGTERM under load: the process ends by itself and nothing is lost, in each role.
func TestStoppingUnderLoadLosesNothing(t *testing.T) {
	beside(t)
	t.Run("node", func(t *testing.T) {
		beside(t)
		p := startNode(t)
		l := p.startLoad(t, careful(modest(500), 6*time.Second))
		nap(t, 3*time.Second)
		began := time.Now()
		p.bus.stop(t)
		report(t, "node stopped in %s", time.Since(began).Round(time.Millisecond))
		p.bus.up(t)
		l.wait(t)
		p.verify(t, l, time.Minute, 0)
	})
	t.Run("roles", func(t *testing.T) {
		beside(t)
		p := startSplit(t, 1, 2)
		l := p.startLoad(t, careful(modest(300), 14*time.Second))
		for _, v := range []*process{p.egress, p.workers[0], p.ingress[0], p.bus} {
			nap(t, randomly(500*time.Millisecond, time.Second))
			began := time.Now()
			v.stop(t)
			report(t, "%s stopped in %s", v.name, time.Since(began).Round(time.Millisecond))
			v.up(t)
		}
		l.wait(t)
		p.verify(t, l, time.Minute, flight) // the bus forgets acknowledgements of its last moment
	})
}

// A process that is stopped and goes on (a debugger, a paused machine) loses and repeats nothing.
func TestAFrozenEgressLosesNothing(t *testing.T) {
	beside(t)
	p := startSplit(t, 1, 1)
	l := p.startLoad(t, careful(modest(300), 8*time.Second))
	nap(t, 2*time.Second)
	p.egress.signal(t, syscall.SIGSTOP)
	nap(t, randomly(time.Second, 4*time.Second))
	p.egress.signal(t, syscall.SIGCONT)
	l.wait(t)
	p.verify(t, l, time.Minute, flight)
}

func TestTheSignedExampleWorksAsPrinted(t *testing.T) {
	p := startNode(t)
	o := orderOf(t, loadtest.ShapeBundle)
	body := bytes.Replace(o.Body, []byte(`"blockNumber"`), []byte(`"x-unknown":{"kept":[1,2.50,"é"]},"blockNumber"`), 1)
	s, err := loadtest.NewSigner(uint64(time.Now().UnixNano()))
	require.NoError(t, err)
	header, err := s.Sign(body)
	require.NoError(t, err)
	r := send(t, p.doors[0], header, body)
	require.Equal(t, http.StatusOK, r.status, "%s", r.Result)
	eventually(t, 10*time.Second, func() bool { return p.sink.Taken() == 1 }, "the bundle reaches the builder")
	got := p.sink.Receipts()[0]
	require.Equal(t, r.bundleHash(t), got.Hash)
	require.Equal(t, s.Address(), got.Signer)
	require.Equal(t, "eth_sendBundle", got.Method)
	require.NotContains(t, string(r.Result), "null")
}
