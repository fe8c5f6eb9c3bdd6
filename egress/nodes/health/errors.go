package health

import (
	"errors"
	"net/url"
	"strings"
	"unicode"

	"millrace/internal/rpcapi"
)

// ErrUnhealthy says that a node did not pass a check. The text says why, without credentials.
var ErrUnhealthy = errors.New("unhealthy node")

// maxText bounds what is kept of an error's text, in bytes.
const maxText = 200

// safeText is an error's text that may be shown: short, on one line, without what is secret in the node's URI.
func safeText(n *rpcapi.Node, err error) string {
	// A client's error names the whole URL, with keys in its query.
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return clean(n, err.Error())
}

func clean(n *rpcapi.Node, text string) string {
	secrets := []string{n.URI}
	if n.Pin.Value != "" {
		secrets = append(secrets, n.Pin.Value)
	}
	for _, u := range []*url.URL{n.URL, n.WS} {
		if u == nil {
			continue
		}
		secrets = append(secrets, u.String(), u.Redacted(), u.RawQuery)
		if u.User != nil {
			password, _ := u.User.Password()
			secrets = append(secrets, u.User.String(), password, u.User.Username())
		}
	}
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "…")
		}
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return strings.TrimSpace(text)
}
