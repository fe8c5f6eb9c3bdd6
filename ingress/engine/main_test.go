package engine

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/doortest"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// ledger is a Recorder in memory, and a clock.
type ledger struct {
	mu       sync.Mutex
	requests []*record.Request
	outcomes map[record.ID]*record.Outcome
}

func (l *ledger) Now() time.Time { return time.Now() }

func (l *ledger) Request(r *record.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, r)
}

func (l *ledger) Outcome(o *record.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[o.ID] = o
}

func (l *ledger) asked() []*record.Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.requests)
}

func (l *ledger) methods() []string {
	var names []string
	for _, r := range l.asked() {
		names = append(names, r.Method)
	}
	return names
}

// outcome waits for the outcome of the n-th call, from 1.
func (l *ledger) outcome(tb testing.TB, n uint64) *record.Outcome {
	tb.Helper()
	var o *record.Outcome
	require.Eventually(tb, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		o = l.outcomes[record.ID{Epoch: epoch, Sequence: n}]
		return o != nil
	}, patience, time.Millisecond)
	return o
}

// encoded is every record's frame without compression: the fields as Encode has them and the bytes.
func (l *ledger) encoded() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []byte
	for _, r := range l.requests {
		b = append(append(b, r.Raw...), r.Encode()...)
	}
	for _, o := range l.outcomes {
		b = append(b, o.Encode()...)
	}
	return b
}

// primary is an execution client whose answers a test chooses, with what it got.
type primary struct {
	*httptest.Server
	secret engineapi.Secret

	mu     sync.Mutex
	got    []got
	answer func(w http.ResponseWriter, r *http.Request, body []byte)
}

type got struct {
	method, path, host string
	header             http.Header
	body               []byte
}

// newPrimary answers every call with a result of null under its id, until answer is set.
func newPrimary(tb testing.TB, n byte) *primary {
	tb.Helper()
	p := &primary{secret: secretOf(n)}
	p.answer = func(w http.ResponseWriter, _ *http.Request, body []byte) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(results(body, "null"))
	}
	p.Server = httptest.NewServer(p)
	tb.Cleanup(p.Close)
	return p
}

func (p *primary) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.got = append(p.got, got{r.Method, r.URL.RequestURI(), r.Host, r.Header.Clone(), body})
	answer := p.answer
	p.mu.Unlock()
	answer(w, r, body)
}

func (p *primary) set(answer func(w http.ResponseWriter, r *http.Request, body []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// says makes the primary answer every call with status and body.
func (p *primary) says(status int, body string) {
	p.set(func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func (p *primary) calls() []got {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// results answers every call of a body with the same raw result.
func results(body []byte, result string) []byte {
	calls, batch, err := engineapi.ParseCalls(body)
	if err != nil {
		return []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}`)
	}
	var out []string
	for _, c := range calls {
		if c.ID != nil {
			out = append(out, `{"jsonrpc":"2.0","id":`+string(c.ID)+`,"result":`+result+`}`)
		}
	}
	all := strings.Join(out, ",")
	if batch {
		all = "[" + all + "]"
	}
	return []byte(all)
}

const epoch = 7

// secretOf is the n-th secret of the tests.
func secretOf(n byte) (s engineapi.Secret) {
	copy(s[:], bytes.Repeat([]byte{n}, len(s)))
	return s
}

// secretFile writes the n-th secret as geth does.
func secretFile(tb testing.TB, n byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "jwt.hex")
	const digits = "0123456789abcdef"
	text := "0x" + strings.Repeat(string([]byte{digits[n>>4], digits[n&15]}), 32)
	require.NoError(tb, os.WriteFile(path, []byte(text+"\n"), 0o600))
	return path
}

// The consensus client's secret and the primary's.
const (
	callerSecret  = 0xca
	primarySecret = 0x11
)

// front is a running Door with its recorder, its log and a consensus client.
type front struct {
	*Door
	t      testing.TB
	book   *ledger
	log    *doortest.Log
	client *http.Client
	stop   func() error
	reg    *prometheus.Registry
}

// made is a Door that does not run.
func made(tb testing.TB, url string, changes ...func(*Config)) *front {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.Listen, cfg.Primary = "127.0.0.1:0", url
	cfg.JWTSecret, cfg.PrimaryJWTSecret = secretFile(tb, callerSecret), secretFile(tb, primarySecret)
	for _, change := range changes {
		change(&cfg)
	}
	f := &front{
		t: tb, log: &doortest.Log{}, reg: prometheus.NewRegistry(),
		book:   &ledger{outcomes: map[record.ID]*record.Outcome{}},
		client: &http.Client{Transport: &http.Transport{DisableCompression: true}},
	}
	var err error
	f.Door, err = New(cfg, Ports{Recorder: f.book, Clock: f.book, Epoch: epoch}, f.log.Logger(), f.reg)
	require.NoError(tb, err)
	tb.Cleanup(f.close)
	return f
}

// open runs a door before p until the test ends.
func open(tb testing.TB, p *primary, changes ...func(*Config)) *front {
	tb.Helper()
	return made(tb, p.URL, changes...).run()
}

func (f *front) run() *front {
	f.t.Helper()
	f.stop = doortest.Run(f.t, f)
	f.t.Cleanup(f.client.CloseIdleConnections)
	return f
}

// settled waits until nothing is in flight: the caller has its answer a moment before.
func (f *front) settled() {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return f.budget.used() == 0 }, patience, time.Millisecond)
}

// forwarding makes the primary judge tokens.
func forwarding(c *Config) { c.Auth, c.PrimaryJWTSecret = AuthForward, "" }

func (f *front) url() string { return "http://" + f.Addr().String() + "/" }

// token is a fresh token of the consensus client's.
func token() string { return secretOf(callerSecret).Authorization(time.Now()) }

// said is an HTTP answer, read.
type said struct {
	status int
	body   string
	header http.Header
}

// call posts a body with a good token and what else is given ("Name: value").
func (f *front) call(body string, headers ...string) said {
	f.t.Helper()
	s, err := f.try(f.t.Context(), http.MethodPost, "/", strings.NewReader(body), headers...)
	require.NoError(f.t, err)
	return s
}

// try makes a request; a header without a value is removed.
func (f *front) try(ctx context.Context, method, path string, body io.Reader, headers ...string) (said, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(f.url(), "/")+path, body)
	if err != nil {
		return said{}, err
	}
	req.Header.Set("Authorization", token())
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if req.Header.Set(name, value); value == "" {
			req.Header.Del(name)
		}
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return said{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return said{resp.StatusCode, string(b), resp.Header}, err
}

// post makes a plain call of any server.
func (f *front) post(url, body string) (said, error) {
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return said{}, err
	}
	req.Header.Set("Authorization", token())
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		return said{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return said{resp.StatusCode, string(b), resp.Header}, err
}

// dial opens a plain connection to the door.
func (f *front) dial() net.Conn {
	f.t.Helper()
	return doortest.Dial(f.t, f)
}

func rpc(id, method, params string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":[` + params + `]}`
}

const (
	hashA = `"0x1111111111111111111111111111111111111111111111111111111111111111"`
	hashB = `"0x2222222222222222222222222222222222222222222222222222222222222222"`
	zero  = `"0x0000000000000000000000000000000000000000000000000000000000000000"`
)

// forkchoice is a forkchoice call to head.
func forkchoice(id, head, attributes string) string {
	return rpc(id, "engine_forkchoiceUpdatedV3", `{"headBlockHash":`+head+`,"safeBlockHash":`+zero+`,"finalizedBlockHash":`+zero+`},`+attributes)
}

// newPayload is a call with a payload of hash on parent.
func newPayload(id, hash, parent string) string {
	return rpc(id, "engine_newPayloadV1", `{"blockHash":`+hash+`,"parentHash":`+parent+`,"blockNumber":"0x1","timestamp":"0x2","transactions":[]}`)
}

const valid = `{"status":"VALID","latestValidHash":null,"validationError":null}`
