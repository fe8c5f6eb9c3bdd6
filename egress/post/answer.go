package post

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/egress"
	"millrace/internal/wire"
)

// maxRetryAfter bounds what a receiver may ask for; the order's deadline ends it sooner anyway.
const maxRetryAfter = time.Hour

// judge says what an answer means (CORRECTNESS 15). readErr is what ended the reading of it.
func (p *Poster) judge(res wire.Answer, readErr error) egress.Result {
	r := egress.Result{Status: res.Status, RetryAfter: retryAfter(res.Header.Get("Retry-After"), p.clock.Now())}
	switch {
	case res.Status >= 200 && res.Status < 300:
		p.judgeSuccess(&r, res.Body, readErr)
	case res.Status == http.StatusRequestTimeout, res.Status == http.StatusTooEarly,
		res.Status == http.StatusTooManyRequests:
		r.Verdict = egress.Busy
	case res.Status >= 400 && res.Status < 500:
		r.Verdict = egress.Rejected
		if code, text, ok := rpcError(res.Body); ok {
			r.RPCCode, r.Text = code, text
			if p.busy(code, text) {
				r.Verdict = egress.Busy
			}
		}
	default: // 5xx, and redirects, which are an operator's mistake that can be mended in time
		r.Verdict = egress.Busy
	}
	if r.Text == "" && r.Verdict != egress.Accepted {
		r.Text = statusText(res.Status, res.Body)
	}
	return r
}

func (p *Poster) judgeSuccess(r *egress.Result, answer []byte, readErr error) {
	code, text, isError := rpcError(answer)
	switch {
	case isError && p.busy(code, text):
		r.Verdict, r.RPCCode, r.Text = egress.Busy, code, text
	case isError:
		r.Verdict, r.RPCCode, r.Text = egress.Rejected, code, text
	case readErr != nil:
		// It said yes, but not to what: the rest of the answer may have been an error.
		r.Verdict, r.Text = egress.Lost, "read answer: "+readErr.Error()
	default:
		r.Verdict = egress.Accepted
	}
}

// busy reports whether an error means "not now".
func (p *Poster) busy(code int, text string) bool {
	return p.busyCodes[code] || slices.ContainsFunc(p.cfg.BusyTexts, func(s string) bool { return strings.HasPrefix(text, s) })
}

// rpcError finds a JSON-RPC error in an answer. What is not JSON, or has no error or a null one, is
// none. An error that is not an object is one without a code.
func rpcError(answer []byte) (code int, text string, ok bool) {
	if !bytes.Contains(answer, []byte(`"error"`)) {
		return 0, "", false // nearly every answer: no need to parse
	}
	var envelope struct {
		Error jsontext.Value `json:"error"`
	}
	if err := json.Unmarshal(answer, &envelope, jsontext.AllowDuplicateNames(true)); err != nil {
		return 0, "", false
	}
	raw := bytes.TrimSpace(envelope.Error)
	if len(raw) == 0 || raw[0] == 'n' {
		return 0, "", false
	}
	var e struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(raw, &e, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return e.Code, printable(raw), true
	}
	return e.Code, printable([]byte(e.Message)), true
}

// statusText is what the ledger says of an answer without a JSON-RPC error.
func statusText(status int, answer []byte) string {
	return strings.TrimSpace("http " + strconv.Itoa(status) + " " + printable(answer))
}

// printable cuts a receiver's words to what a record holds and takes out what would garble a report.
func printable(b []byte) string {
	const most = 96
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b[:min(len(b), most)]), ""))
}

// retryAfter reads the header in either form; zero: none that makes sense.
func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	var d time.Duration
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
