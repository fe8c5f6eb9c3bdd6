package peerlink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"millrace/internal/bus/embedded"
)

// certificateEvery bounds how often handshakes look at our certificate's files.
const certificateEvery = time.Second

// acceptTLS is what peers find at our listener. The certificate is asked for, not required, by crypto/tls: it is
// judge that requires one, so that the refusal is counted. judge is called for every connection.
func (l *Links) acceptTLS() *tls.Config {
	c := l.cert.Config(certificateEvery)
	c.ClientAuth = tls.RequestClientCert
	c.SessionTicketsDisabled = true
	c.VerifyConnection = func(cs tls.ConnectionState) error { return l.trust.judge(cs, "") }
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if !slices.Contains(h.SupportedVersions, tls.VersionTLS13) {
			return nil, l.trust.refuse(refusedVersion, errors.New("no TLS 1.3"))
		}
		return nil, nil //nolint:nilnil // the configuration that asks
	}
	return c
}

// dialTLS is how we come to a peer. The name in the certificate is not that of the host, so judge verifies it
// instead of crypto/tls.
func (l *Links) dialTLS(peer string, ln lane) *tls.Config {
	own := l.cert.Config(certificateEvery)
	account := fetching(peer, ln)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return own.GetCertificate(nil)
		},
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, //nolint:gosec // VerifyConnection does it
		VerifyConnection: func(cs tls.ConnectionState) error {
			if err := l.trust.judge(cs, peer); err != nil {
				l.failed(peer, err)
				return err
			}
			l.trust.note(account, cs)
			return nil
		},
	}
}

// admit tells the server what a peer's connection may do. The handshake has judged the certificate, but the peer
// may have been removed since.
func (l *Links) admit(cs tls.ConnectionState, user string) (embedded.Leaf, error) {
	peer, reason, err := l.trust.identify(cs)
	if err != nil {
		return embedded.Leaf{}, l.trust.refuse(reason, err)
	}
	i := slices.IndexFunc(lanes[:], func(ln lane) bool { return ln.String() == user })
	if i < 0 {
		err := l.trust.refuse(refusedLane, fmt.Errorf("%s: no lane %q", peer, user))
		l.failed(peer, err)
		return embedded.Leaf{}, err
	}
	account := serving(peer, lanes[i])
	l.trust.note(account, cs)
	return embedded.Leaf{Account: account, Permissions: leafRights(l.cfg.Operator, peer, lanes[i])}, nil
}

// certificateChanged hears of changes of state only.
func (l *Links) certificateChanged(err error) {
	ctx := context.Background() // a handshake belongs to no call
	if err != nil {
		l.log.LogAttrs(ctx, slog.LevelWarn, "certificate for peers not reloaded, the old one stays", slog.Any("error", err))
		return
	}
	l.log.LogAttrs(ctx, slog.LevelInfo, "certificate for peers reloaded")
}

// UseCertificate shows the key pair in other files from the next handshake on. On error the one in use stays.
func (l *Links) UseCertificate(certFile, keyFile string) error { return l.cert.Load(certFile, keyFile) }
