package telemetry

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// Token is the admin secret as a digest, so that comparing takes the same time for every guess.
type Token struct{ sum [sha256.Size]byte }

// LoadToken reads the token in the file at path, and makes one (mode 0600) when there is no file.
func LoadToken(path string) (Token, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = makeToken(path)
	}
	if err != nil {
		return Token{}, fmt.Errorf("admin token: %w", err)
	}
	secret := strings.TrimSpace(string(data))
	if secret == "" {
		return Token{}, fmt.Errorf("admin token: %s is empty", path)
	}
	return Token{sum: sha256.Sum256([]byte(secret))}, nil
}

// makeToken creates the file exclusively; whoever loses a race against another process of the same
// data directory reads the winner's.
func makeToken(path string) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // linked to its name, or useless
	_, err = f.WriteString(rand.Text() + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

// Allows reports whether a request carries the token as "Authorization: Bearer <token>".
func (t Token) Allows(r *http.Request) bool {
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(secret))
	return ok && t != Token{} && subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1
}

// write lets a request through that carries the token.
func (t Token) write(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !t.Allows(r) {
			deny(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// read lets a request through that comes from this machine or carries the token. A Host that is no
// loopback name is refused as well: a web page can make a browser on this machine call us.
func (t Token) read(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isLoopback(r.RemoteAddr) && isLoopback(r.Host) || t.Allows(r) {
			next.ServeHTTP(w, r)
			return
		}
		deny(w)
	})
}

func deny(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="millrace admin"`)
	http.Error(w, "the admin token is needed here: Authorization: Bearer <token>", http.StatusUnauthorized)
}

// isLoopback reports whether an address, with or without a port, is on this machine for certain.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
