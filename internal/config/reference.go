package config

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// typeName is the kind of a flag's value in a word.
func typeName(f *kong.Flag) string {
	t := f.Target.Type()
	switch {
	case f.Tag.Type == "bytes":
		return "bytes"
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case isList(f.Target):
		return "list"
	case t.Kind() == reflect.Slice:
		return "strings"
	case f.IsBool():
		return "bool"
	case t.Kind() == reflect.String:
		return "string"
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) && t.Kind() != reflect.Struct:
		return "string" // a number that is read and written by name
	case f.Target.CanInt() || f.Target.CanUint():
		return "int"
	case f.Target.CanFloat():
		return "number"
	default:
		return strings.ToLower(t.Name())
	}
}

// WriteReference writes a Markdown section with a table for each first part of the key names.
// reloads says whether a key takes effect without a restart; aliases are added to those in the tags.
func (s *Schema) WriteReference(w io.Writer, reloads func(key string) bool, aliases []Alias) error {
	section := ""
	var b strings.Builder
	for _, k := range s.keys {
		if first, _, _ := strings.Cut(k.Name, "."); first != section {
			section = first
			fmt.Fprintf(&b, "\n## %s\n\n| key | type | default | what it does |\n| --- | --- | --- | --- |\n", section)
		}
		help := cell(k.Help)
		if len(k.Enum) > 0 {
			help += " One of `" + strings.Join(k.Enum, "`, `") + "`."
		}
		also := k.Aliases
		for _, a := range aliases {
			if a.Key == k.Name {
				also = append(also, a.Env)
			}
		}
		if len(also) > 0 {
			help += " Also read from `" + strings.Join(also, "`, `") + "`."
		}
		if reloads(k.Name) {
			help += " *Reloadable.*"
		}
		def := ""
		if k.Default != "" {
			def = "`" + k.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Name, k.Type, def, help)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}
