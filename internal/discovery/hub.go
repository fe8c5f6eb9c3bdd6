package discovery

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"
)

const (
	hubConnect  = 2 * time.Second
	hubTotal    = 5 * time.Second
	hubIdle     = 28 * time.Second // less than servers' 30 s
	maxListing  = 8 << 20
	maxReply    = 64 << 10
	maxStatus   = 200
	listPath    = "/api/l1-builder/v1/builders"
	registerURL = "/api/l1-builder/v1/register_credentials/orderflow_proxy"
)

// hub speaks to a BuilderHub.
type hub struct {
	base      *url.URL
	client    *http.Client
	self      Self
	transport Transport
}

func newHub(cfg HubConfig, self Self) (*hub, error) {
	base, err := hubURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	roots, err := rootsOf(cfg.CA)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: hubConnect}).DialContext,
		TLSHandshakeTimeout: hubConnect,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		MaxConnsPerHost:     2, IdleConnTimeout: hubIdle,
		DisableCompression: true, ForceAttemptHTTP2: true,
	}
	return &hub{base: base, self: self, transport: cfg.Transport, client: &http.Client{
		Transport: t, Timeout: hubTotal,
		// Peers are as true as the hub, and where it may send us is not for it to say.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// rootsOf reads a file with roots; none: the system's.
func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("peers.hub.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, errors.New("peers.hub.ca: no certificate in the file")
	}
	return pool, nil
}

// list asks for the peers.
func (h *hub) list(ctx context.Context) (answer, error) {
	body, err := h.call(ctx, http.MethodGet, listPath, nil, maxListing)
	if err != nil {
		return answer{}, fmt.Errorf("list builders: %w", err)
	}
	peers, skips, err := decodeBuilders(body, h.transport)
	if err != nil {
		return answer{}, fmt.Errorf("list builders: %w", err)
	}
	bad := slices.ContainsFunc(skips, func(s Skip) bool { return !errors.Is(s.Err, ErrUnregistered) })
	if len(peers) == 0 && bad {
		return answer{}, fmt.Errorf("list builders: %w: %d of them, the first: %w", ErrUnusable, len(skips), skips[0].Err)
	}
	return answer{peers: peers, skips: skips}, nil
}

// register tells the hub our key and certificate.
func (h *hub) register(ctx context.Context, certificate string) error {
	body, err := json.Marshal(struct {
		Certificate string `json:"tls_cert,omitempty"`
		Signer      string `json:"ecdsa_pubkey_address"`
	}{certificate, h.self.Signer.Hex()})
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	if _, err := h.call(ctx, http.MethodPost, registerURL, body, maxReply); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return nil
}

func (h *hub) call(ctx context.Context, method, path string, body []byte, most int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, h.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxStatus)) // the status says enough
		return nil, fmt.Errorf("%w: %d %q", ErrStatus, res.StatusCode, text)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, most)
	}
	return b, nil
}
