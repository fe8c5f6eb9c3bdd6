package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"millrace/internal/freeport"
	"millrace/internal/order"
)

const patience = 20 * time.Second

// logbook keeps log lines and wakes who waits for one.
type logbook struct {
	mu    sync.Mutex
	lines []map[string]any
	raw   bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raw.Write(b)
	var line map[string]any
	if json.Unmarshal(b, &line) == nil {
		l.lines = append(l.lines, line)
	}
	return len(b), nil
}

// find returns the nth line with a message, counted from one, or nil.
func (l *logbook) find(msg string, nth int) map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if line["msg"] == msg {
			if nth--; nth == 0 {
				return line
			}
		}
	}
	return nil
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.raw.String()
}

// proc is run() in this process.
type proc struct {
	t      *testing.T
	log    *logbook
	cancel context.CancelFunc
	code   chan int
	ended  bool
}

// start runs a command until the test ends; every listener but those in args is on a free port.
func start(t *testing.T, environ []string, args ...string) *proc {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &proc{t: t, log: &logbook{}, cancel: cancel, code: make(chan int, 1)}
	args = append([]string{args[0], "--admin.listen=127.0.0.1:0", "--log.format=json"}, args[1:]...)
	go func() { p.code <- run(ctx, args, environ, strings.NewReader(""), io.Discard, p.log) }()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", args[0], p.log)
		}
	})
	return p
}

// stop ends the command and returns its exit code.
func (p *proc) stop() int {
	if p.ended {
		return -1
	}
	p.ended = true
	p.cancel()
	http.DefaultClient.CloseIdleConnections()
	select {
	case code := <-p.code:
		return code
	case <-time.After(60 * time.Second):
		p.t.Errorf("did not stop:\n%s", p.log)
		return -1
	}
}

// line waits for the nth log line with a message.
func (p *proc) line(msg string, nth int) map[string]any {
	p.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if l := p.log.find(msg, nth); l != nil {
			return l
		}
		select {
		case code := <-p.code:
			p.ended = true
			require.Failf(p.t, "ended", "exit code %d before %q:\n%s", code, msg, p.log)
		case <-time.After(5 * time.Millisecond):
		}
	}
	require.Failf(p.t, "no log line", "%q:\n%s", msg, p.log)
	return nil
}

// url is a listener's base URL from the line about the start.
func (p *proc) url(listener string) string {
	p.t.Helper()
	addr, ok := p.line("started", 1)[listener].(string)
	require.True(p.t, ok, "no listener %s", listener)
	return "http://" + addr
}

// builderStub is a builder that keeps what it gets.
type builderStub struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	status atomic.Int64 // of answers; zero: 200
}

func newBuilder(t *testing.T) *builderStub {
	t.Helper()
	b := &builderStub{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := b.status.Load(); s != 0 {
			w.WriteHeader(int(s))
			return
		}
		if r.URL.Path == "/readyz" {
			return
		}
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.bodies = append(b.bodies, string(body))
		b.mu.Unlock()
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":null}`)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *builderStub) got() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.bodies...)
}

// sender signs and sends orders.
type sender struct {
	key   *ecdsa.PrivateKey
	nonce uint64
}

func newSender(t *testing.T) *sender {
	t.Helper()
	key, err := crypto.GenerateKey()
	require.NoError(t, err)
	return &sender{key: key}
}

// bundle returns the body of a bundle with one fresh transaction.
func (s *sender) bundle(t *testing.T) []byte {
	t.Helper()
	s.nonce++
	to := common.Address{1}
	tx, err := types.SignNewTx(s.key, types.LatestSignerForChainID(big.NewInt(1)), &types.DynamicFeeTx{
		ChainID: big.NewInt(1), Nonce: s.nonce, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9), Gas: 21000, To: &to,
	})
	require.NoError(t, err)
	raw, err := tx.MarshalBinary()
	require.NoError(t, err)
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":["%s"],"blockNumber":"0x1312d00","note":"kept"}]}`,
		hexutil.Encode(raw))
}

// send posts a body and returns status and bundle hash.
func (s *sender) send(t *testing.T, url string, body []byte) (int, string, string) {
	t.Helper()
	status, hash, text := s.try(t, url, body)
	require.NotZero(t, status, text)
	return status, hash, text
}

// try is send to a door that may be gone; the status is zero then.
func (s *sender) try(t *testing.T, url string, body []byte) (int, string, string) {
	t.Helper()
	sig, err := order.Sign(s.key, body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("X-Flashbots-Signature", sig)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err.Error()
	}
	var answer struct {
		Result struct {
			BundleHash string `json:"bundleHash"`
		} `json:"result"`
	}
	_ = json.Unmarshal(text, &answer)
	return resp.StatusCode, answer.Result.BundleHash, string(text)
}

// accepted sends a fresh bundle, requires success and returns its hash.
func (s *sender) accepted(t *testing.T, url string) string {
	t.Helper()
	status, hash, text := s.send(t, url, s.bundle(t))
	require.Equal(t, http.StatusOK, status, text)
	require.NotEmpty(t, hash, text)
	return hash
}

// get fetches a page.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// records reads the ledger through the command.
func records(t *testing.T, admin string, args ...string) []record {
	t.Helper()
	o := call(t, "", nil, append([]string{"ledger", "dump", "--json", "--admin", admin}, args...)...)
	require.Equal(t, exitOK, o.code, o.errors)
	var rs []record
	for line := range strings.Lines(o.out) {
		var r record
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		rs = append(rs, r)
	}
	return rs
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 10*time.Millisecond, what)
}

// freeAddr is a loopback address that is free, for what has to be known beforehand.
func freeAddr(t *testing.T) string {
	t.Helper()
	all, err := freeport.Addrs(t.Context(), 1)
	require.NoError(t, err)
	return all[0]
}
