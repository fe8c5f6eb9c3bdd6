package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"millrace/egress"
	"millrace/egress/builder"
	"millrace/egress/post"
)

// stubName is the stub's target name, and its fingerprint: its port is another one at each start,
// but it stays the same target.
const stubName = "stub"

// stubMark is the file that says that this store has a stub target.
func (c *Config) stubMark() string { return filepath.Join(c.dataDir(), "stub.target") }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// retiredStub is the stub as a target that is about to go: it takes nothing more.
func retiredStub() egress.Destination {
	return egress.Destination{Name: stubName, Fingerprint: stubName, Sender: nobody{"the stub builder is no more"}}
}

// nobody is a target that is not there, and why.
type nobody struct{ why string }

// Send says that nothing was sent.
func (n nobody) Send(context.Context, egress.Attempt) egress.Result {
	return egress.Result{Verdict: egress.Unreachable, Text: n.why}
}

// stub is the built-in builder of a node without builders, on a loopback port of its own.
type stub struct {
	listener net.Listener
	builder  *builder.Stub
}

func newStub(log *slog.Logger) (*stub, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("stub builder: %w", err)
	}
	return &stub{listener: l, builder: builder.NewStub(log)}, nil
}

func (s *stub) addr() string { return s.listener.Addr().String() }

func (s *stub) close() { _ = s.listener.Close() }

// destination is the stub as a target.
func (s *stub) destination(signer *post.Signer, clock builder.Clock, inFlight int) (egress.Destination, error) {
	t := builder.Config{Builder: builder.Short{URL: "http://" + s.addr()}}.Targets()[0]
	t.Name = stubName
	b, err := builder.New(t, nil, signer, clock, inFlight)
	if err != nil {
		return egress.Destination{}, fmt.Errorf("stub builder: %w", err)
	}
	return egress.Destination{Name: stubName, Fingerprint: stubName, Sender: b}, nil
}

// Run takes orders until ctx ends.
func (s *stub) Run(ctx context.Context) error { return s.builder.Serve(ctx, s.listener) }
