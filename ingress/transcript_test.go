package ingress

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/doortest"
	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

// TestTranscripts plays testdata/*.rpc against a running door. A line is one of
//
//	# comment
//	dialect v1           before the first request: ingress.dialect
//	clock 1730000000     the bus clock from here on, in seconds
//	sign alice           who signs from here on: alice, bob, nobody; "sign alice X-BuilderNet-Signature"
//	gzip on              bodies are compressed after they were signed
//	refuse gas_limit …   the worker refuses the next order, with that code and text
//	--> {…}              POST / with that body; ${txN} is a transaction of type N, ${rawN} another
//	get /readyz          GET that path
//	<-- 200 {…}          the status and JSON body (or text) of the answer; "*" matches any value
//	builder {…}          what a builder gets for the order stored last
//	stored 3             how many orders are stored by now
func TestTranscripts(t *testing.T) {
	t.Parallel()
	doortest.Transcripts(t, func(t *testing.T) func(at, verb, rest string) {
		t.Helper()
		p := &player{t: t, bus: newBus(), key: keyOf('a'), header: "X-Flashbots-Signature"}
		return func(at, verb, rest string) { p.line(at, verb, strings.TrimSpace(expand(rest))) }
	})
}

type player struct {
	t      *testing.T
	door   *door
	bus    *bus
	cfg    []func(*Config)
	key    *ecdsa.PrivateKey
	header string
	gzip   bool
	last   answer
}

func expand(s string) string {
	for i := range 5 {
		s = strings.ReplaceAll(s, fmt.Sprintf("${tx%d}", i), transaction(i, 0))
		s = strings.ReplaceAll(s, fmt.Sprintf("${raw%d}", i), transaction(i, 1))
	}
	return s
}

func (p *player) line(at, verb, rest string) {
	p.t.Helper()
	switch verb {
	case "dialect":
		p.cfg = append(p.cfg, func(c *Config) { c.Dialect = Dialect(rest) })
	case "clock":
		seconds, err := strconv.ParseInt(rest, 10, 64)
		require.NoError(p.t, err, at)
		p.bus.set(func(b *bus) { b.now = time.Unix(seconds, 0) })
	case "sign":
		p.sign(at, strings.Fields(rest))
	case "gzip":
		p.gzip = rest == "on"
	case "refuse":
		p.refuse(rest)
	case "-->":
		p.post(rest)
	case "get":
		p.get(rest)
	case "<--":
		p.expect(at, rest)
	case "builder":
		match(p.t, at, rest, builderBody(p.t, p.bus.orders()))
	case "stored":
		require.Equal(p.t, rest, strconv.Itoa(len(p.bus.orders())), at)
	default:
		require.Fail(p.t, "unknown line", at)
	}
}

func (p *player) start() {
	if p.door == nil {
		p.door = open(p.t, p.bus, p.cfg...)
	}
}

func (p *player) sign(at string, args []string) {
	p.header = "X-Flashbots-Signature"
	if len(args) > 1 {
		p.header = args[1]
	}
	switch args[0] {
	case "nobody":
		p.key = nil
	case "alice", "bob":
		p.key = keyOf(args[0][0])
	default:
		require.Fail(p.t, "unknown signer", at)
	}
}

func (p *player) refuse(rest string) {
	name, text, _ := strings.Cut(rest, " ")
	for _, c := range order.Codes() {
		if c.String() == name {
			p.bus.set(func(b *bus) {
				b.decide = func(*order.Order) (*order.Reason, bool) { return order.Refuse(c, text), true }
			})
		}
	}
}

func (p *player) post(body string) {
	p.start()
	var headers []string
	if p.key != nil {
		_, value, _ := strings.Cut(signed(p.t, p.key, body), ": ")
		headers = append(headers, p.header+": "+value)
	}
	if p.gzip {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write([]byte(body))
		_ = w.Close()
		body, headers = z.String(), append(headers, "Content-Encoding: gzip")
	}
	p.last = p.door.send(body, headers...)
}

func (p *player) get(path string) {
	p.start()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.door.url(path), nil)
	require.NoError(p.t, err)
	p.last, err = p.door.do(req)
	require.NoError(p.t, err)
}

func (p *player) expect(at, rest string) {
	status, body, _ := strings.Cut(rest, " ")
	require.Equal(p.t, status, strconv.Itoa(p.last.status), "%s: %s", at, p.last.body)
	if !strings.HasPrefix(body, "{") && !strings.HasPrefix(body, "[") {
		require.Equal(p.t, body, strings.TrimSpace(p.last.body), at)
		return
	}
	require.Equal(p.t, "application/json", p.last.header.Get("Content-Type"), at)
	match(p.t, at, body, p.last.body)
}

// match compares JSON texts; "*" in want stands for any value that is there.
func match(t *testing.T, at, want, got string) {
	t.Helper()
	var w, g any
	require.NoError(t, json.Unmarshal([]byte(want), &w), at)
	require.NoError(t, json.Unmarshal([]byte(got), &g), "%s: %s", at, got)
	require.Equal(t, w, mask(w, g), at)
}

// mask replaces in got what want leaves open.
func mask(want, got any) any {
	switch w := want.(type) {
	case string:
		if w == "*" && got != nil {
			return w
		}
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			for k := range g {
				if v, ok := w[k]; ok {
					g[k] = mask(v, g[k])
				}
			}
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			for i := range g {
				g[i] = mask(w[i], g[i])
			}
		}
	}
	return got
}

// builderBody is what a worker makes of the order stored last.
func builderBody(t *testing.T, stored []*order.Order) string {
	t.Helper()
	require.NotEmpty(t, stored)
	o := stored[len(stored)-1]
	calls, _, rpcErr := jsonrpc.Parse(o.Body, 1)
	require.Nil(t, rpcErr)
	sub, err := order.Decode(o.Method, calls[0].Request.Params, order.Limits{})
	require.NoError(t, err)
	body, err := sub.AppendBuilderBody(nil, o)
	require.NoError(t, err)
	return string(body)
}
