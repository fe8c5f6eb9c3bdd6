package access

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Site describes the servers of one bus. Its files are a function of it and of the keys in Dir, so it
// can be written again after a change.
type Site struct {
	Dir     string   // where the files go
	Servers int      // one, or the size of a cluster: 3 or 5
	Hosts   []string // of each server; one for all: they share the machine, on ports one after the other
	Port    int      // of the clients; routes use it + 2000, monitoring + 4000
	Store   string   // JetStream's directory on each server
	TLS     string   // directory on each server with ca.pem, cert.pem and key.pem; empty: no TLS
	KeysAt  string   // where the roles find their keys; empty: in Dir
}

// Distances of a server's other ports from that of its clients.
const (
	routesAbove  = 2000
	monitorAbove = 4000
)

// Validate returns every fault of s.
func (s *Site) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Dir == "" || s.Store == "" {
		fail("a directory for the files and one for the store are needed")
	}
	if s.Servers != 1 && s.Servers != 3 && s.Servers != 5 {
		fail("%d servers: a majority is counted among 1, 3 or 5", s.Servers)
	}
	if len(s.Hosts) != 1 && len(s.Hosts) != s.Servers {
		fail("%d hosts for %d servers: give one for each, or one for all", len(s.Hosts), s.Servers)
	}
	for _, h := range s.Hosts {
		if h == "" || strings.ContainsAny(h, " \t\n\"'{}[],") || strings.Contains(h, ":") && net.ParseIP(h) == nil {
			fail("host %q: a name or an address without a port", h)
		}
	}
	for _, dir := range []string{s.Dir, s.Store, s.TLS, s.KeysAt} {
		if strings.ContainsAny(dir, "\"\\\n") {
			fail("directory %q: no quotes, backslashes or line ends", dir)
		}
	}
	if s.Port < 1 || s.Port+monitorAbove+s.Servers > 1<<16 {
		fail("port %d: out of range, with %d above it for routes and %d for monitoring", s.Port, routesAbove, monitorAbove)
	}
	return errors.Join(errs...)
}

// server is one of the site's, counted from zero.
type server struct {
	Name, Host, Store           string
	Client, Routes, MonitorPort int
}

func (s *Site) servers() []server {
	var all []server
	for i := range s.Servers {
		sv := server{Name: "nats-" + strconv.Itoa(i+1), Host: s.Hosts[0], Client: s.Port, Store: s.Store}
		if s.Servers == 1 {
			sv.Name = "nats"
		}
		if len(s.Hosts) > 1 {
			sv.Host = s.Hosts[i]
		} else {
			sv.Client += i
			if s.Servers > 1 {
				sv.Store = filepath.Join(s.Store, sv.Name)
			}
		}
		sv.Routes, sv.MonitorPort = sv.Client+routesAbove, sv.Client+monitorAbove
		all = append(all, sv)
	}
	return all
}

// URL is what nats.url is set to: every server.
func (s *Site) URL() string {
	scheme := "nats://"
	if s.TLS != "" {
		scheme = "tls://"
	}
	var urls []string
	for _, sv := range s.servers() {
		urls = append(urls, scheme+net.JoinHostPort(sv.Host, strconv.Itoa(sv.Client)))
	}
	return strings.Join(urls, ",")
}

// File is one file that Write wrote.
type File struct{ Path, What string }

// Write makes the keys that are missing and writes every other file anew. It returns what it wrote,
// keys included.
func (s *Site) Write() ([]File, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.keys().dir, 0o700); err != nil {
		return nil, fmt.Errorf("create directory: %w", err)
	}
	if err := s.keepOut(); err != nil {
		return nil, err
	}
	var files []File
	var err error
	write := func(name, what string, mode os.FileMode, content []byte) {
		if err == nil {
			path := filepath.Join(s.Dir, name)
			err = replaceFile(path, content, mode)
			files = append(files, File{path, what})
		}
	}
	users, err := s.users()
	if err != nil {
		return nil, err
	}
	write(usersFile, "who may do what; for every server, no secret in it", 0o644, users)
	secret, err := s.routeSecret()
	if err != nil {
		return nil, err
	}
	for _, sv := range s.servers() {
		write(sv.Name+".conf", "nats-server -c "+sv.Name+".conf", 0o600, s.config(sv, secret))
	}
	for _, r := range Roles() {
		write(r.Name+".env", "environment of "+r.Name, 0o644, s.environment(r))
		files = append(files, File{s.keys().path(r.Name), "its key: a secret"})
	}
	files = append(files, File{s.keys().path(System), "key of the system account: a secret"})
	context, jsonErr := s.context()
	err = errors.Join(err, jsonErr)
	write("nats-cli.json", "nats --context: the admin", 0o644, context)
	return files, err
}

// keepOut keeps the keys out of version control, wherever Dir is.
func (s *Site) keepOut() error {
	return replaceFile(filepath.Join(s.Dir, ".gitignore"), []byte("*\n"), 0o644)
}

// Rotate gives a role a new key and keeps the present one valid; Write is next, then a reload of the
// servers, then a restart of the role, then Retire.
func (s *Site) Rotate(role string) error {
	if _, ok := Find(role); !ok {
		return fmt.Errorf("rotate key of %s: %w", role, ErrRole)
	}
	return s.keys().rotate(role)
}

// Retire takes back the key that a role had before; Write is next, then a reload of the servers, which
// cuts off whoever still uses it.
func (s *Site) Retire(role string) error {
	if _, ok := Find(role); !ok {
		return fmt.Errorf("retire key of %s: %w", role, ErrRole)
	}
	return s.keys().retire(role)
}

func (s *Site) keys() keys { return keys{filepath.Join(s.Dir, "keys")} }

// routeSecret is the password among the servers of a cluster, which knows no nkeys.
func (s *Site) routeSecret() (string, error) {
	if s.Servers == 1 {
		return "", nil
	}
	path := filepath.Join(s.keys().dir, "routes.secret")
	b, err := os.ReadFile(path)
	if err == nil {
		return string(bytes.TrimSpace(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read route secret: %w", err)
	}
	secret := rand.Text()
	return secret, replaceFile(path, []byte(secret+"\n"), 0o600)
}

// environment is what a process of this role is configured with, as in an EnvironmentFile.
func (s *Site) environment(r Role) []byte {
	at, key := s.KeysAt, r.Name+seedFile
	if at == "" {
		at = s.keys().dir
		if abs, err := filepath.Abs(at); err == nil {
			at = abs
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: %s\n", r.Name, r.Purpose)
	fmt.Fprintf(&b, "MILLRACE_NATS_URL=%s\nMILLRACE_NATS_CREDS=%s\n", s.URL(), filepath.Join(at, key))
	fmt.Fprintf(&b, "MILLRACE_NATS_REPLICAS=%d\n", s.replicas())
	if s.TLS != "" {
		fmt.Fprintf(&b, "MILLRACE_NATS_TLS_CA=%s\n", filepath.Join(s.TLS, "ca.pem"))
	}
	return b.Bytes()
}

func (s *Site) replicas() int { return min(s.Servers, 3) }

// context is a context file for the nats CLI.
func (s *Site) context() ([]byte, error) {
	dir, err := filepath.Abs(s.keys().dir)
	if err != nil {
		return nil, fmt.Errorf("write cli context: %w", err)
	}
	c := map[string]string{"description": "millrace, admin", "url": s.URL(), "nkey": filepath.Join(dir, Admin+seedFile)}
	if s.TLS != "" {
		c["ca"] = filepath.Join(s.TLS, "ca.pem")
	}
	b, err := json.Marshal(c)
	return append(b, '\n'), err
}
