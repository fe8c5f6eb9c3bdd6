package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"millrace/internal/engineapi"
)

// maxAnswer bounds an answer; the largest, getPayload with many blobs, stays far below.
const maxAnswer = 128 << 20

// HTTP is a Caller over HTTP with a token of its own for each request.
type HTTP struct {
	url    string
	token  func(now time.Time) (string, error)
	client *http.Client
}

// HTTPConfig says where a client is and how it knows us.
type HTTPConfig struct {
	URL string
	// Secret is the client's; a token is minted for each request.
	Secret engineapi.Secret
	// Token, if set, is asked for the Authorization header instead. ErrNoToken: there is none now.
	Token func(now time.Time) (string, error)
	TLS   *tls.Config
}

// NewHTTP makes a caller; it does not dial.
func NewHTTP(cfg HTTPConfig) (*HTTP, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("client url %q: expected http:// or https:// and a host", cfg.URL)
	}
	h := &HTTP{url: cfg.URL, token: cfg.Token}
	if h.token == nil {
		h.token = func(now time.Time) (string, error) { return cfg.Secret.Authorization(now), nil }
	}
	h.client = &http.Client{
		// A redirect would carry the token to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: cfg.TLS, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
			// A client on this machine is never behind a proxy, and its answers are not compressed.
			Proxy: nil, DisableCompression: true,
		},
	}
	return h, nil
}

// Call posts one request with a token of this moment.
func (h *HTTP) Call(ctx context.Context, body []byte) (status int, answer []byte, date time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, time.Time{}, fmt.Errorf("request: %w", err)
	}
	token, err := h.token(time.Now())
	if err != nil {
		return 0, nil, time.Time{}, err
	}
	req.Header.Set("Authorization", token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return 0, nil, time.Time{}, fmt.Errorf("call: %w", err)
	}
	defer resp.Body.Close()
	date, _ = http.ParseTime(resp.Header.Get("Date"))
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, date, fmt.Errorf("answer: %w", err)
	case len(answer) > maxAnswer:
		return 0, nil, date, ErrAnswerTooLarge
	}
	return resp.StatusCode, answer, date, nil
}

// Close lets go of idle connections.
func (h *HTTP) Close() { h.client.CloseIdleConnections() }
