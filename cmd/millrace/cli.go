package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"millrace/egress/builder"
	"millrace/internal/config"
	"millrace/internal/discovery"
)

const description = `Durable order flow for block builders: signed orders in over HTTP, validated orders out to the builders, one terminal record for each.

Without a command: millrace node, which needs no configuration. Every configuration key can be given in a YAML file (--config), in the environment (MILLRACE_INGRESS_LISTEN) or as a flag (--ingress.listen); flags win over the environment, the environment over the file.`

// cli is the command line.
type cli struct {
	Node     nodeCmd     `cmd:"" default:"withargs" help:"Run all roles in this process, with an embedded NATS server unless nats.url is set. This is the default command."`
	Ingress  ingressCmd  `cmd:"" help:"Run the order door: takes signed orders over HTTP and stores them. Needs nats.url."`
	Worker   workerCmd   `cmd:"" help:"Run a validation pool. Needs nats.url."`
	Egress   egressCmd   `cmd:"" help:"Run the delivery to the builders. Needs nats.url."`
	Engine   engineCmd   `cmd:"" help:"Run the Engine API door: the primary answers, every call is recorded, secondaries catch up; and commands for it. Takes cl-proxy's flags."`
	Gateway  gatewayCmd  `cmd:"" help:"Run the JSON-RPC gateway: one endpoint over many execution nodes; and commands for one that runs."`
	Bus      busCmd      `cmd:"" help:"Run the embedded NATS server alone, listening, for roles in other processes."`
	Access   accessCmd   `cmd:"" name:"bus-config" help:"Write configurations for nats-server, single or cluster: one user per role with least permissions, fresh keys."`
	Streams  streamsCmd  `cmd:"" help:"Compare or apply the streams, consumers and buckets that this version declares."`
	Config   configCmd   `cmd:"" help:"Check a configuration, or print the reference of all keys."`
	Sign     signCmd     `cmd:"" help:"Print the signature header of a request body."`
	Ledger   ledgerCmd   `cmd:"" help:"Read or check the terminal records through a running process's admin listener."`
	Export   exportCmd   `cmd:"" help:"Write recorded orders and terminal records to Parquet files, through a running process's admin listener."`
	Loadtest loadtestCmd `cmd:"" help:"Send signed orders to a running door and check what became of them."`
	Replay   replayCmd   `cmd:"" help:"Send what was recorded again."`
	Trace    traceCmd    `cmd:"" help:"Print what became of an order, to the microsecond, through a running process's admin listener."`
	Peers    peersCmd    `cmd:"" help:"Show the peers of a running node, through its admin listener."`
	Targets  targetsCmd  `cmd:"" help:"List the targets in the streams, or remove one that nobody serves, through a running process's admin listener."`
	Version  versionCmd  `cmd:"" help:"Print what this binary is."`
}

// settings is the configuration of one role command: all keys, because one file serves all roles.
type settings struct {
	File string `name:"config" short:"c" placeholder:"FILE" help:"YAML file with the configuration; also from MILLRACE_CONFIG."`
	Keys Config `embed:""`
}

// configured is a command that has a configuration.
type configured interface{ config() *settings }

func (s *settings) config() *settings { return s }

// parsed is one reading of command line, environment and file.
type parsed struct {
	kctx     *kong.Context
	schema   *config.Schema
	resolver *config.Resolver
	settings *settings // nil for commands without a configuration
}

// effective returns every key with its value and source.
func (p *parsed) effective() []config.Setting { return p.resolver.Effective(p.kctx) }

// parse reads the command line anew, so a reload sees the file as it is now.
func (a *app) parse(args []string) (p *parsed, err error) {
	defer func() {
		if code, ok := recover().(exitCode); ok {
			err = code
		}
	}()
	k, s, err := newParser(a.stdout, a.stderr)
	if err != nil {
		return nil, err
	}
	r := config.NewResolver(s, config.Input{Environ: a.environ, Aliases: aliases(), Unsupported: unsupported()})
	if err := kong.Resolvers(r).Apply(k); err != nil {
		return nil, err
	}
	kctx, err := k.Parse(args)
	if fault := r.Fault(); fault != nil {
		return nil, fault
	}
	if err != nil {
		return nil, err
	}
	p = &parsed{kctx: kctx, schema: s, resolver: r}
	if n := kctx.Selected(); n != nil {
		if c, ok := reflect.TypeAssert[configured](n.Target.Addr()); ok {
			p.settings = c.config()
		}
	}
	return p, nil
}

// newParser builds the command line and the schema of its keys.
func newParser(stdout, stderr io.Writer) (*kong.Kong, *config.Schema, error) {
	var s *config.Schema
	opts := append(config.Options(reflect.TypeFor[[]builder.Target](), reflect.TypeFor[[]Secondary](), reflect.TypeFor[[]Listener](), reflect.TypeFor[[]NodeEntry](), reflect.TypeFor[[]IPLimit](), reflect.TypeFor[[]discovery.Entry]()),
		kong.Name("millrace"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exitCode(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.PostBuild(func(k *kong.Kong) error {
			s = config.NewSchema(k.Model.Node, "builders")
			s.Detach(k.Model.Node)
			hideForeignKeys(k.Model.Node)
			return s.Hide(secrets()...)
		}))
	k, err := kong.New(&cli{}, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("command line: %w", err)
	}
	return k, s, nil
}

// hideForeignKeys leaves keys that mean nothing to a role out of its help. They are still accepted,
// because roles share one environment and one file.
func hideForeignKeys(app *kong.Node) {
	of := map[string][]string{
		"ingress": {"ingress", "nats", "orders", "builder", "builders"},
		"worker":  {"worker", "nats", "orders"},
		"egress":  {"egress", "nats", "orders", "builder", "builders", "trace"},
		"bus":     {"nats", "streams", "record", "orders"},
		"engine":  {"engine", "nats", "record"},
		"gateway": {"gateway", "nats"},
		"streams": {"nats", "streams", "record", "orders"},
		"replay":  {"nats", "orders", "engine"},
	}
	always := []string{"admin", "log", "runtime", "node"}
	for _, cmd := range app.Children {
		keys, ok := of[cmd.Name]
		if !ok {
			continue
		}
		for _, n := range append(slices.Clone(cmd.Children), cmd) {
			for _, f := range n.Flags {
				section, _, dotted := strings.Cut(f.Name, ".")
				if (dotted || section == "builders") && !slices.Contains(keys, section) && !slices.Contains(always, section) {
					f.Hidden = true
				}
			}
		}
	}
}

// usage marks err as a fault of the configuration.
func usage(err error) error {
	if err == nil || errors.Is(err, errUsage) {
		return err
	}
	return fmt.Errorf("%w: %w", errUsage, err)
}
