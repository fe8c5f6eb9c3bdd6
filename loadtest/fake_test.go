package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"
)

// fakeDoor is a proxy in one function: it answers, delivers at once, and records. Its faults are
// what the checks must find.
type fakeDoor struct {
	builder string
	door    *httptest.Server

	mu      sync.Mutex
	records []Record
	accepts int
	// fault is asked about each order; it may change what is done.
	fault func(Tag) fault
}

type fault struct {
	status     int  // answer this instead, deliver nothing
	abort      bool // close without an answer
	refuse     bool // -32602
	lose       bool // accept, then forget
	silent     bool // deliver, record nothing
	twice      bool
	marked     bool
	twoRecords bool
}

func newFakeDoor(t *testing.T, builder string) *fakeDoor {
	t.Helper()
	d := &fakeDoor{builder: builder}
	d.door = httptest.NewServer(d)
	t.Cleanup(func() {
		d.door.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return d
}

func (d *fakeDoor) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/ledger" {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, r := range d.records {
			_ = json.NewEncoder(w).Encode(r)
		}
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	tag, _ := FindTag(body)
	var f fault
	if d.fault != nil {
		f = d.fault(tag)
	}
	switch {
	case f.abort:
		panic(http.ErrAbortHandler)
	case f.status != 0:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(f.status)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"Rate limited"}}`)
		return
	case f.refuse:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Invalid params","data":"wrong chain"}}`)
		return
	}
	hash := d.hash(body)
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"bundleHash":"%s","receivedTimestampMs":1700000000000.5}}`, hash)
	d.fate(req.Context(), body, hash, f)
}

// hash is the public id: of a transaction its own.
func (d *fakeDoor) hash(body []byte) common.Hash {
	if raw := rawTxs(body); len(raw) > 0 && bytes.Contains(body, []byte("aw")) {
		return crypto.Keccak256Hash(common.FromHex(raw[0]))
	}
	return crypto.Keccak256Hash(body)
}

func (d *fakeDoor) fate(ctx context.Context, body []byte, hash common.Hash, f fault) {
	if f.lose {
		return
	}
	outcome := "delivered"
	if !d.deliver(ctx, body, hash, false) {
		outcome = "expired"
	}
	if f.twice {
		d.deliver(ctx, body, hash, f.marked)
	}
	if f.silent {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.accepts++
	r := Record{Accept: fmt.Sprintf("%032x", d.accepts), Hash: hash, Target: "builder", Outcome: outcome}
	d.records = append(d.records, r)
	if f.twoRecords {
		d.records = append(d.records, r)
	}
}

func (d *fakeDoor) deliver(ctx context.Context, body []byte, hash common.Hash, marked bool) bool {
	sent := body
	if bytes.Contains(body, []byte(`"txs"`)) {
		sent = bytes.Replace(body, []byte(`}]}`), []byte(`,"bundleHash":"`+hash.Hex()+`"}]}`), 1)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, d.builder, bytes.NewReader(sent))
	if err != nil {
		return false
	}
	req.Header.Set("X-BuilderNet-Priority", "high")
	if marked {
		req.Header.Set(RepeatHeader, "1")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

// startSink runs a sink for the test's duration.
func startSink(t *testing.T) (*Sink, string) {
	t.Helper()
	s := NewSink()
	ln, url, err := s.Bind(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return s, url
}
