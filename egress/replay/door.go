package replay

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/jsonrpc"
)

// HeaderMark carries the replay credential to a door for marked replays; the door answers it with
// [MarkAccepted].
const (
	HeaderMark   = "X-Millrace-Replay"
	MarkAccepted = "marked"
)

const (
	dialTimeout   = 5 * time.Second
	answerTimeout = 15 * time.Second
	// idleTimeout is below that of doors, so that a burst after a quiet spell meets no closed
	// connection.
	idleTimeout = 28 * time.Second
	maxAnswer   = 64 << 10
	// maxRetryAfter bounds what a door may ask for.
	maxRetryAfter = 5 * time.Second
)

// Errors of Probe.
var (
	// ErrUnmarked: the door does not take the replay mark; what it is sent would be live.
	ErrUnmarked = errors.New("the door takes no marked replays with this credential")
	// ErrForbidden: the door lets nobody in like this.
	ErrForbidden = errors.New("the door lets nobody in without its credential")
)

// Door posts orders to an order door. It is a Sender.
type Door struct {
	url    string
	mark   string
	client *http.Client
}

// NewDoor returns a sender to the door at rawURL over at most conns connections. mark is the replay
// credential; empty: the orders are ordinary ones.
func NewDoor(rawURL, mark string, conns int) (*Door, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%w: target is not an http or https URL", ErrConfig)
	}
	if conns == 0 {
		conns = defaultConnections
	}
	return &Door{url: rawURL, mark: mark, client: &http.Client{
		Timeout: answerTimeout,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout, MaxConnsPerHost: conns, MaxIdleConns: conns, MaxIdleConnsPerHost: conns,
			IdleConnTimeout: idleTimeout, DisableCompression: true, MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close lets go of the connections.
func (d *Door) Close() { d.client.CloseIdleConnections() }

// Probe asks a door, without an order, whether it would take one: with a credential it must be known
// before the first order that nothing goes live.
func (d *Door) Probe(ctx context.Context) error {
	res, err := d.post(ctx, []byte("{}"), "")
	if err != nil {
		return fmt.Errorf("ask door: %w", err)
	}
	_ = res.Body.Close()
	switch {
	case d.mark != "" && res.Header.Get(HeaderMark) != MarkAccepted:
		return ErrUnmarked
	case forbidden(res.StatusCode):
		return ErrForbidden
	}
	return nil
}

// forbidden reports whether an answer is about who asks, and not about an order.
func forbidden(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

func (d *Door) post(ctx context.Context, body []byte, signature string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "millrace-replay")
	if name, value, ok := strings.Cut(signature, ": "); ok {
		req.Header.Set(name, value)
	}
	if d.mark != "" {
		req.Header.Set(HeaderMark, d.mark)
	}
	return d.client.Do(req)
}

// Send posts one order with its signature.
func (d *Door) Send(ctx context.Context, r Request) Answer {
	res, err := d.post(ctx, r.Order.Body, r.Order.Signature)
	if err != nil {
		return Answer{Outcome: Lost, Reason: transportReason(err)}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return Answer{Outcome: Lost, Reason: "answer cut off"}
	}
	if d.mark != "" && res.Header.Get(HeaderMark) != MarkAccepted {
		return Answer{Outcome: Lost, Reason: ErrUnmarked.Error()}
	}
	a := judge(res.StatusCode, body)
	if a.Outcome == Busy {
		a.RetryAfter = retryAfter(res.Header.Get("Retry-After"))
	}
	return a
}

// transportReason is one of few words: addresses and ports would make each failure another reason.
func transportReason(err error) string {
	var network net.Error
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		return "no connection"
	case errors.As(err, &network) && network.Timeout():
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "broken off"
	}
	return "connection lost"
}

// doorAnswer is a JSON-RPC answer as far as a replay cares.
type doorAnswer struct {
	Result jsontext.Value `json:"result"`
	Error  *struct {
		Code    int            `json:"code"`
		Message string         `json:"message"`
		Data    jsontext.Value `json:"data"`
	} `json:"error"`
}

// judge says what an answer means. A door of dialect v1 tells everything with status 200.
func judge(status int, body []byte) Answer {
	var a doorAnswer
	if err := json.Unmarshal(body, &a, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return Answer{Outcome: outcomeOf(status, Lost), Reason: "http " + strconv.Itoa(status) + " without an answer"}
	}
	if a.Error == nil {
		if status < 200 || status > 299 {
			return Answer{Outcome: outcomeOf(status, Lost), Reason: "http " + strconv.Itoa(status)}
		}
		return Answer{Outcome: Accepted, Hash: resultHash(a.Result)}
	}
	reason := a.Error.Message
	if text, err := jsontext.AppendUnquote(nil, a.Error.Data); err == nil && len(text) > 0 {
		reason = strings.TrimPrefix(reason+": ", "Invalid params: ") + string(text)
	}
	otherwise := Refused
	switch a.Error.Message {
	case "Rate limited", "Overloaded", "Disk full", "Internal error", "Request timeout":
		if a.Error.Code == jsonrpc.CodeInternal {
			otherwise = Busy
		}
	}
	if forbidden(status) {
		otherwise = Lost
	}
	return Answer{Outcome: outcomeOf(status, otherwise), Reason: reason}
}

// outcomeOf is Busy for the statuses that ask to come back.
func outcomeOf(status int, otherwise Outcome) Outcome {
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusRequestTimeout,
		http.StatusBadGateway, http.StatusGatewayTimeout:
		return Busy
	}
	return otherwise
}

// resultHash finds the public hash in a result: a string, or an object with bundleHash; zero: none.
func resultHash(v jsontext.Value) (h common.Hash) {
	var text string
	switch v.Kind() {
	case jsontext.KindString:
		_ = json.Unmarshal(v, &text)
	case jsontext.KindBeginObject:
		var o struct {
			BundleHash string `json:"bundleHash"`
		}
		_ = json.Unmarshal(v, &o)
		text = o.BundleHash
	default:
	}
	if b, err := hex.DecodeString(strings.TrimPrefix(text, "0x")); err == nil && len(b) == len(h) {
		copy(h[:], b)
	}
	return h
}

func retryAfter(v string) time.Duration {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxRetryAfter)
}
