package embedded

import (
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// The values of Config.Sync.
const (
	// SyncInterval flushes each second: a machine that dies loses at most that (the default).
	SyncInterval = "interval"
	// SyncAlways flushes before each acknowledgement, at about 0.3 ms a publish.
	SyncAlways = "always"
)

const (
	defaultMaxPayload = 12 << 20
	defaultMaxMemory  = 64 << 20
	// defaultMaxStore stands for "no limit", which the server has to be told explicitly: what it
	// would find out by itself is fixed at the first start, and byte caps that exceed a small
	// volume must not keep the streams from being made. The volume is watched by upkeep.Guard.
	defaultMaxStore = 1 << 50
	// maxPending is what the server queues for one client before it takes it for slow. Sixteen
	// prefetched orders of 10 MiB exceed the 64 MiB that the server allows by default.
	maxPending = 256 << 20
	// hardMaxPayload is what the file store can still write as one record.
	hardMaxPayload = 32 << 20
)

// Config is what Start needs. The zero value of every field but StoreDir is useful.
type Config struct {
	StoreDir   string // where JetStream keeps its files; created if missing
	AuthDir    string // where the generated nkey seeds are kept; empty: "auth" beside StoreDir
	Listen     string // host:port of the authenticated TCP listener; empty: none; port 0: any
	Sync       string // SyncInterval or SyncAlways; empty: SyncInterval
	ServerName string // empty: "millrace"
	TLSCert    string // PEM file with the listener's certificate chain; empty: plain TCP
	TLSKey     string // PEM file with its key
	MaxPayload int32  // bytes of one message with headers; 0: 12 MiB; at least max_body + 64 KiB
	MaxMemory  int64  // bytes of memory streams; 0: 64 MiB
	MaxStore   int64  // bytes of file streams; 0: only the volume limits

	Peering *Peering // nil: there are no peers, and nothing of theirs exists
}

// Validate reports everything that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.StoreDir == "" {
		fail("store_dir is empty")
	}
	if c.Sync != "" && c.Sync != SyncInterval && c.Sync != SyncAlways {
		fail("sync is %q, want %q or %q", c.Sync, SyncInterval, SyncAlways)
	}
	if c.Listen != "" {
		if _, _, err := splitListen(c.Listen); err != nil {
			fail("listen: %w", err)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		fail("tls: certificate and key are needed together")
	}
	if c.MaxPayload < 0 || c.MaxPayload > hardMaxPayload {
		fail("max payload is %d, want 0 to %d", c.MaxPayload, hardMaxPayload)
	}
	if c.MaxStore < 0 || c.MaxMemory < 0 {
		fail("max store and max memory must not be negative")
	}
	if c.Peering != nil {
		errs = append(errs, c.Peering.validate())
	}
	return errors.Join(errs...)
}

func (c *Config) authDir() string {
	if c.AuthDir != "" {
		return c.AuthDir
	}
	return filepath.Join(filepath.Dir(filepath.Clean(c.StoreDir)), "auth")
}

func splitListen(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n > math.MaxUint16 {
		return "", 0, fmt.Errorf("bad port %q", p)
	}
	if n == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(n), nil
}
