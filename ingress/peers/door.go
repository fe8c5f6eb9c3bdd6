package peers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/certificate"
	"millrace/internal/listener"
)

var errDraining = errors.New("shutting down")

// Door is the system door. Create it with New, then call Run once.
type Door struct {
	cfg         Config
	ports       Ports
	log         *slog.Logger
	metrics     *metrics
	certificate *certificate.Pair
	listener    *listener.Listener

	flashbots common.Address // zero: nobody
	room      room
	verifying chan struct{} // places for who verifies a signature
	buffers   sync.Pool     // of *[]byte
	life      string        // of this process, in keys
	count     atomic.Uint64 // requests of this process

	running, draining atomic.Bool
}

// New returns a door that is not listening yet. It fails when cfg is invalid (ErrConfig) or a port is missing (ErrPort).
// log and reg must not be nil; reg may hold one door.
func New(cfg Config, ports Ports, log *slog.Logger, reg prometheus.Registerer) (*Door, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if ports.Peers == nil || ports.Receiver == nil || ports.Clock == nil {
		return nil, ErrPort
	}
	var life [8]byte
	_, _ = rand.Read(life[:]) // never fails since Go 1.24
	d := &Door{
		cfg: cfg, ports: ports, log: log, metrics: newMetrics(reg), listener: listener.New("orders of peers"),
		flashbots: common.HexToAddress(cfg.FlashbotsSigner), room: room{left: cfg.InflightBytes},
		verifying: make(chan struct{}, max(min(runtime.NumCPU(), runtime.GOMAXPROCS(0)), 1)), life: hex.EncodeToString(life[:]),
	}
	d.certificate = listener.NewCertificate("peers.tls.cert", "peers.tls.key", log, d.metrics.reloads)
	return d, nil
}

// Addr is the address once Run listens, else nil.
func (d *Door) Addr() net.Addr { return d.listener.Addr() }

// Ready is nil, or the reason why no orders can be taken.
func (d *Door) Ready() error {
	if d.draining.Load() {
		return errDraining
	}
	if reason, closed := d.closed(); closed {
		return errors.New(reason)
	}
	return nil
}

func (d *Door) closed() (reason string, closed bool) {
	if d.ports.Guard == nil {
		return "", false
	}
	return d.ports.Guard.DoorClosed()
}

// Run listens and serves until ctx ends, then drains and returns nil. It returns early with an error when the
// listener or the certificate fails.
func (d *Door) Run(ctx context.Context) error {
	if !d.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	srv := listener.NewServer(d.routes(), d.log)
	srv.ConnState = d.metrics.connState
	srv.ReadHeaderTimeout = d.cfg.BodyTimeout
	srv.ReadTimeout = d.cfg.BodyTimeout // serve extends it by the body's size
	srv.WriteTimeout = d.bodyTime(d.cfg.MaxBody+bodyRoom) + d.cfg.StoreTimeout + d.cfg.BodyTimeout
	var parts []func(context.Context) error
	if d.cfg.TLS != (TLS{}) {
		if err := d.certificate.Load(d.cfg.TLS.Cert, d.cfg.TLS.Key); err != nil {
			return err
		}
		srv.TLSConfig = d.certificate.Config(0)
		srv.TLSConfig.NextProtos = []string{"http/1.1"}
		parts = append(parts, listener.Follow(d.certificate))
	}
	if err := d.listener.Open(ctx, d.cfg.Listen, d.cfg.MaxConnections, srv); err != nil {
		return err
	}
	return listener.Run(ctx, d.drain, append(parts, d.listener.Serve)...)
}

func (d *Door) drain(failed context.Context) error {
	d.draining.Store(true)
	d.log.LogAttrs(failed, slog.LevelInfo, "system door is draining")
	listener.Linger(failed, d.cfg.DrainDelay)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(failed), d.cfg.DrainTimeout)
	defer cancel()
	return d.listener.Shutdown(ctx)
}

// bodyTime is how long a body of so many bytes may take.
func (d *Door) bodyTime(size int64) time.Duration {
	return d.cfg.BodyTimeout + time.Duration(float64(size)/float64(d.cfg.MinBodyRate)*float64(time.Second))
}

// room is what is left of Config.InflightBytes.
type room struct {
	mu   sync.Mutex
	left int64
}

func (r *room) take(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > r.left {
		return false
	}
	r.left -= n
	return true
}

func (r *room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left += n
}

// pooledBody is the largest buffer that is kept for another request.
const pooledBody = 64 << 10

// buffer returns memory for a body of n bytes.
func (d *Door) buffer(n int64) *[]byte {
	if b, ok := d.buffers.Get().(*[]byte); ok && int64(cap(*b)) >= n {
		return b
	}
	b := make([]byte, 0, max(n, 4<<10))
	return &b
}

func (d *Door) release(b *[]byte) {
	if cap(*b) <= pooledBody {
		d.buffers.Put(b)
	}
}
