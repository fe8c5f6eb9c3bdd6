package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Prefix starts every environment variable of this program.
const Prefix = "MILLRACE_"

// Key is one configuration key.
type Key struct {
	// Name is the dotted name: the path in the file and the flag without dashes.
	Name string
	// Env is MILLRACE_ and the name in capitals with underscores.
	Env string
	// Aliases are further environment names, used when Env is not set, first one first.
	Aliases []string
	// Help is one sentence; Type the kind of value in a word; Default as written in the tag.
	Help, Type, Default string
	// Enum holds the allowed values, if they are few.
	Enum []string
	// Secret keys are never printed.
	Secret bool
}

// Schema is what a program can be told.
type Schema struct {
	keys   []Key // by name
	byName map[string]*Key
}

// NewSchema reads the keys out of the flags whose names have a dot or that keys names, and takes
// those of commands that share a flag once. Call it before Detach: aliases are in the env tags.
func NewSchema(root *kong.Node, keys ...string) *Schema {
	s := &Schema{byName: map[string]*Key{}}
	visitFlags(root, func(f *kong.Flag) {
		if !IsKey(f, keys) || s.byName[f.Name] != nil {
			return
		}
		s.byName[f.Name] = newKey(f)
	})
	for _, k := range s.byName {
		s.keys = append(s.keys, *k)
	}
	slices.SortFunc(s.keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	for i := range s.keys {
		s.byName[s.keys[i].Name] = &s.keys[i]
	}
	return s
}

// IsKey reports whether a flag is a configuration key: its name has a dot or is one of keys.
func IsKey(f *kong.Flag, keys []string) bool {
	return strings.Contains(f.Name, ".") || slices.Contains(keys, f.Name)
}

// Detach takes the environment names off every flag, so that kong does not read the process's
// environment behind the resolver's back.
func (s *Schema) Detach(root *kong.Node) {
	visitFlags(root, func(f *kong.Flag) { f.Envs, f.Tag.Envs = nil, nil })
}

// Keys returns every key, by name.
func (s *Schema) Keys() []Key { return slices.Clone(s.keys) }

// Key returns the key with the given name; ok is false when there is none.
func (s *Schema) Key(name string) (Key, bool) {
	k := s.byName[name]
	if k == nil {
		return Key{}, false
	}
	return *k, true
}

// Hide marks keys as secret whose owners did not; a name that is no key is an error, so that a
// renamed key does not come to light unnoticed.
func (s *Schema) Hide(names ...string) error {
	for _, n := range names {
		k := s.byName[n]
		if k == nil {
			return fmt.Errorf("%w key %s can't be made secret", ErrUnknown, n)
		}
		k.Secret = true
	}
	return nil
}

// EnvName is the environment variable of a key.
func EnvName(name string) string {
	return Prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name))
}

func newKey(f *kong.Flag) *Key {
	k := &Key{
		Name: f.Name, Env: EnvName(f.Name), Help: f.Help, Default: f.Default,
		Type: typeName(f), Secret: f.Tag.Has("secret"),
	}
	for _, e := range f.Tag.Envs {
		if e != k.Env {
			k.Aliases = append(k.Aliases, e)
		}
	}
	if f.Enum != "" {
		k.Enum = f.EnumSlice()
	}
	return k
}

func visitFlags(root *kong.Node, f func(*kong.Flag)) {
	for _, flag := range root.Flags {
		f(flag)
	}
	for _, child := range root.Children {
		visitFlags(child, f)
	}
}

// hasPrefix reports whether some key lies below name.
func (s *Schema) hasPrefix(name string) bool {
	return slices.ContainsFunc(s.keys, func(k Key) bool { return strings.HasPrefix(k.Name, name+".") })
}
