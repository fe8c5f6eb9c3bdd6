package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/doortest"
	"millrace/internal/rpcapi"
)

// TestTranscripts plays testdata/*.rpc against a running door. A line is one of
//
//	# comment
//	dialect prio           which door, before anything else
//	config batch_max 2     before the first request: batch_max, max_body, deny, http_status, nodes_writable, limit
//	node {…}               what the node answers from here on, to the end of the line; \n is a line feed
//	node 479 text          the same, with an error status
//	result "0x1"           the node answers with that result under the call's id
//	fails queue_full       the calls fail from here on, with that reason
//	header Name: value     of the requests from here on; "header" alone: none
//	--> /sim {…}           POST there with the rest of the line, \n a line feed
//	get /nodes             any other method in small letters, with an optional body
//	<-- 200 {…}            status and body of the answer, to the byte; \n is a line feed
//	has Name: value        a header of the answer, * for any value; "has Name:" for none
//	sent {…}               what the node got last
//	sent high              its class
//	calls 3                how many calls the node got by now
func TestTranscripts(t *testing.T) {
	t.Parallel()
	doortest.Transcripts(t, func(t *testing.T) func(at, verb, rest string) {
		t.Helper()
		p := &player{t: t}
		return func(at, verb, rest string) { p.line(at, verb, strings.ReplaceAll(rest, `\n`, "\n")) }
	})
}

type player struct {
	*front
	t       *testing.T
	dialect Dialect
	cfg     []func(*Config, *Ports)
	header  []string
	last    said
}

func (p *player) line(at, verb, rest string) {
	p.t.Helper()
	switch verb {
	case "dialect":
		p.dialect = Dialect(rest)
		return
	case "config":
		p.config(at, rest)
		return
	}
	if p.front == nil {
		p.front = open(p.t, p.dialect, p.cfg...)
	}
	switch verb {
	case "node":
		p.says(rest)
	case "result":
		p.node.echoes(rest)
	case "fails":
		p.node.fails(failure(p.t, at, rest))
	case "header":
		if p.header = append(p.header, rest); rest == "" {
			p.header = nil
		}
	case "-->":
		path, body, _ := strings.Cut(rest, " ")
		p.last = p.post(path, body, p.header...)
	case "<--":
		status, body, _ := strings.Cut(rest, " ")
		require.Equal(p.t, status, strconv.Itoa(p.last.status), "%s: %s", at, p.last.body)
		require.Equal(p.t, body, p.last.body, at)
		if strings.HasPrefix(body, "{") || strings.HasPrefix(body, "[") {
			require.True(p.t, json.Valid([]byte(p.last.body)) || p.last.header.Get("Content-Type") != "application/json", at)
		}
	case "has":
		p.has(at, rest)
	case "sent":
		calls := p.node.calls()
		last := calls[len(calls)-1]
		require.True(p.t, rest == string(last.Body) || rest == last.Class.String(), "%s: %s %s", at, last.Class, last.Body)
	case "calls":
		require.Equal(p.t, rest, strconv.Itoa(len(p.node.calls())), at)
	default:
		path, body, _ := strings.Cut(rest, " ")
		var err error
		p.last, err = p.try(p.t.Context(), strings.ToUpper(verb), path, strings.NewReader(body), p.header...)
		require.NoError(p.t, err, at)
	}
}

func (p *player) has(at, rest string) {
	name, value, _ := strings.Cut(rest, ":")
	value = strings.TrimSpace(value)
	got := p.last.header.Get(name)
	if value == "*" {
		require.NotEmpty(p.t, got, "%s: %v", at, p.last.header)
		return
	}
	require.Equal(p.t, value, got, "%s: %v", at, p.last.header)
}

func (p *player) says(rest string) {
	code, body, _ := strings.Cut(rest, " ")
	if status, err := strconv.Atoi(code); err == nil && status >= http.StatusBadRequest {
		p.node.fails(&rpcapi.NodeError{Status: status, Body: []byte(body), Node: theNode, Tries: 3})
		return
	}
	p.node.says(rest)
}

func (p *player) config(at, rest string) {
	key, value, _ := strings.Cut(rest, " ")
	p.cfg = append(p.cfg, func(c *Config, ports *Ports) {
		n, _ := strconv.Atoi(value)
		switch key {
		case "batch_max":
			c.BatchMax = n
		case "max_body":
			c.MaxBody = int64(n)
		case "deny":
			c.Methods.Deny = strings.Fields(value)
		case "http_status":
			c.HTTPStatus = HTTPStatus(value)
		case "nodes_writable":
			c.NodesWritable = Switch(value)
		case "node_header":
			c.NodeHeader = Switch(value)
		case "limit":
			ports.Limits = &limits{method: value}
		default:
			require.Fail(p.t, "unknown key", at)
		}
	})
}

// failure is an error that has this reason, with a secret in its text.
func failure(t *testing.T, at, reason string) error {
	t.Helper()
	for _, err := range []error{
		rpcapi.ErrQueueFull, rpcapi.ErrQueueTimeout, rpcapi.ErrNodeTimeout, rpcapi.ErrNoNode, rpcapi.ErrUnreachable,
		rpcapi.ErrFilterNotFound, rpcapi.ErrAnswerTooLarge, rpcapi.ErrStopping, context.Canceled,
	} {
		if string(rpcapi.ReasonOf(err)) == reason {
			return fmt.Errorf("secret: %w", err)
		}
	}
	require.Equal(t, "internal", reason, at)
	return fmt.Errorf("secret")
}
