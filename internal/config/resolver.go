package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// FileFlag is the name of the flag (and with Prefix, the variable) that names the file.
const FileFlag = "config"

// Source says where a value came from; a higher one wins.
type Source uint8

// The sources, weakest first.
const (
	SourceDefault Source = iota + 1
	SourceFile
	SourceEnv
	SourceFlag
)

// String is the source as config check prints it.
func (s Source) String() string {
	return [...]string{"unknown", "default", "file", "env", "flag"}[min(s, SourceFlag)]
}

// Alias is an environment name of another program that means one of our keys, in other words.
type Alias struct {
	Env, Key string
	// Map turns the variable's value into the key's; an empty result leaves the key alone.
	Map func(string) (string, error)
}

// Input is what a configuration is read from beside the flags.
type Input struct {
	// Environ is the environment as "NAME=value" pairs.
	Environ []string
	// Aliases are consulted after those in the flags' env tags.
	Aliases []Alias
	// Unsupported names variables of other programs that mean something which this one can't do
	// yet: when set, they are reported by Warnings and not silently ignored.
	Unsupported []string
}

// Resolver feeds file and environment to a kong parser. It belongs to one parse.
type Resolver struct {
	schema *Schema
	in     Input
	env    map[string]string
	file   map[string]any
	path   string
	loaded bool
	fault  error // of file or environment
	from   map[string]origin
}

type origin struct {
	source Source
	name   string
}

var _ kong.Resolver = (*Resolver)(nil)

// NewResolver returns a resolver for one parse.
func NewResolver(s *Schema, in Input) *Resolver {
	r := &Resolver{schema: s, in: in, env: map[string]string{}, from: map[string]origin{}}
	for _, e := range in.Environ {
		if name, value, ok := strings.Cut(e, "="); ok && value != "" {
			r.env[name] = value
		}
	}
	return r
}

// Validate is part of kong.Resolver; faults are reported by Resolve.
func (r *Resolver) Validate(*kong.Application) error { return nil }

// Resolve returns a key's value from the environment or the file. It is part of kong.Resolver.
func (r *Resolver) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if flag.Name == FileFlag {
		if v, ok := r.env[Prefix+"CONFIG"]; ok {
			return v, nil
		}
		return nil, nil //nolint:nilnil // kong's way to say "no value"
	}
	k, ok := r.schema.byName[flag.Name]
	if !ok {
		return nil, nil //nolint:nilnil // as above
	}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	if v, name, err := r.fromEnv(k); v != "" || err != nil {
		r.from[k.Name] = origin{SourceEnv, name}
		return v, err
	}
	if v, ok := r.file[k.Name]; ok {
		r.from[k.Name] = origin{SourceFile, r.path}
		return joined(v, flag), nil
	}
	return nil, nil //nolint:nilnil // as above
}

// joined writes a list of plain values as kong reads it from a flag, so that numbers and durations in
// a list are parsed the same way in every spelling.
func joined(v any, flag *kong.Flag) any {
	list, ok := v.([]any)
	if !ok || isList(flag.Target) || flag.Target.Kind() != reflect.Slice {
		return v
	}
	parts := make([]string, len(list))
	for i, item := range list {
		parts[i] = fmt.Sprint(item)
	}
	return kong.JoinEscaped(parts, flag.Tag.Sep)
}

// Path is the configuration file that was read, or empty.
func (r *Resolver) Path() string { return r.path }

// Warnings names the set variables that this program can't honour.
func (r *Resolver) Warnings() []string {
	var names []string
	for _, n := range r.in.Unsupported {
		if _, set := r.env[n]; set {
			names = append(names, n)
		}
	}
	return names
}

// load checks the environment and reads the file, once, when the first key is asked for: a command
// without keys does not care about either.
func (r *Resolver) load(ctx *kong.Context) error {
	if r.loaded {
		return r.fault
	}
	r.loaded = true
	r.fault = r.checkEnv()
	r.path = r.filePath(ctx)
	if r.path == "" {
		return r.fault
	}
	data, err := os.ReadFile(r.path)
	if err == nil {
		r.file, err = r.schema.parseFile(r.path, data)
	}
	r.fault = errors.Join(r.fault, err)
	return r.fault
}

// Fault is what is wrong with the file and the names in the environment. A parse fails for it too,
// but kong then blames the flag that it was about to resolve.
func (r *Resolver) Fault() error { return r.fault }

func (r *Resolver) filePath(ctx *kong.Context) string {
	for _, f := range ctx.Flags() {
		if f.Name != FileFlag {
			continue
		}
		if v, _ := ctx.FlagValue(f).(string); v != "" {
			return v
		}
	}
	return r.env[Prefix+"CONFIG"]
}

// orchestrated are the variables that Kubernetes sets for services whose names begin with millrace.
var orchestrated = regexp.MustCompile(
	`^MILLRACE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

func (r *Resolver) checkEnv() error {
	known := r.schema.envNames()
	var errs []error
	for name := range r.env {
		if !strings.HasPrefix(name, Prefix) || name == Prefix+"CONFIG" || strings.HasPrefix(name, Prefix+"E2E_") {
			continue
		}
		if _, ok := slices.BinarySearch(known, name); ok || orchestrated.MatchString(name) {
			continue
		}
		errs = append(errs, fmt.Errorf("%w environment variable %s%s", ErrUnknown, name, didYouMean(name, known)))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// fromEnv looks under the key's own name, then under its aliases.
func (r *Resolver) fromEnv(k *Key) (value, name string, err error) {
	for _, n := range append([]string{k.Env}, k.Aliases...) {
		if v, ok := r.env[n]; ok {
			return v, n, nil
		}
	}
	for _, a := range r.in.Aliases {
		v, ok := r.env[a.Env]
		if a.Key != k.Name || !ok {
			continue
		}
		if a.Map != nil {
			if v, err = a.Map(v); err != nil {
				return "", a.Env, fmt.Errorf("%s: %w", a.Env, err)
			}
		}
		if v != "" {
			return v, a.Env, nil
		}
	}
	return "", "", nil
}
