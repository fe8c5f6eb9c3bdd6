// Command millrace is the durable order-flow pipeline for block builders: signed orders come in over
// HTTP, are stored, validated and delivered to builders, and each gets exactly one terminal record
// per builder.
//
// `millrace node` runs everything in one process and needs no configuration; the other commands run
// one role each against a NATS server. Exit codes: 0, 1 for a failure, 2 for a wrong command line or
// configuration.
//
// # Shutdown
//
// SIGINT and SIGTERM stop the roles one after the other, from the intake down (package lifecycle).
// A second signal ends the process at once, which loses nothing that was acknowledged.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal has its default effect
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the program: args without its name, environ as "NAME=value" pairs. It returns the exit code.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{args: args, environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}
	p, err := a.parse(args)
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code) // --help
	}
	if err != nil {
		fmt.Fprintf(stderr, "millrace: %v\nRun \"millrace --help\" for what there is.\n", err)
		return exitUsage
	}
	a.parsed = p
	p.kctx.BindTo(ctx, (*context.Context)(nil))
	err = p.kctx.Run(a)
	switch {
	case err == nil:
		return exitOK
	case !errors.Is(err, errLogged):
		fmt.Fprintf(stderr, "millrace: %v\n", err)
	}
	if errors.Is(err, errUsage) {
		return exitUsage
	}
	return exitFailure
}

// app is what a command works with.
type app struct {
	args, environ  []string
	stdin          io.Reader
	stdout, stderr io.Writer
	parsed         *parsed
}
