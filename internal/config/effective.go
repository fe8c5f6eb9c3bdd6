package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

const masked = "********"

// Setting is one key with its value as it takes effect.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // secrets masked
	Source string `json:"source"`
	From   string `json:"from,omitempty"` // the variable, file or flag

	exact string // unmasked, for comparing
}

// Effective returns every key of the parsed command with its value and where that came from.
func (r *Resolver) Effective(ctx *kong.Context) []Setting {
	given := map[*kong.Flag]bool{}
	for _, p := range ctx.Path {
		if p.Flag != nil && !p.Resolved {
			given[p.Flag] = true
		}
	}
	values := map[string]Setting{}
	for _, f := range ctx.Flags() {
		k := r.schema.byName[f.Name]
		if k == nil {
			continue
		}
		s := Setting{Key: f.Name, exact: formatValue(f.Target, f.Tag.Type), Source: SourceDefault.String()}
		s.Value = mask(s.exact, k.Secret)
		if isList(f.Target) {
			s.exact, s.Value = fmt.Sprintf("%#v", f.Target.Interface()), formatList(f.Target)
		}
		if o, ok := r.from[f.Name]; ok {
			s.Source, s.From = o.source.String(), o.name
		}
		if given[f] {
			s.Source, s.From = SourceFlag.String(), "--"+f.Name
		}
		values[f.Name] = s
	}
	out := make([]Setting, 0, len(values))
	for _, k := range r.schema.keys {
		if s, ok := values[k.Name]; ok {
			out = append(out, s)
		}
	}
	return out
}

// Changed returns the names of the keys whose values differ.
func Changed(before, after []Setting) []string {
	was := make(map[string]string, len(before))
	for _, s := range before {
		was[s.Key] = s.exact
	}
	var names []string
	for _, s := range after {
		if old, ok := was[s.Key]; !ok || old != s.exact {
			names = append(names, s.Key)
		}
	}
	return names
}

func isList(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct
}

func formatValue(v reflect.Value, typ string) string {
	if d, ok := reflect.TypeAssert[time.Duration](v); ok {
		return formatDuration(d)
	}
	if t, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		if b, err := t.MarshalText(); err == nil {
			return string(b)
		}
	}
	switch {
	case typ == "bytes" && v.CanInt():
		return FormatBytes(v.Int())
	case v.Kind() == reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = formatValue(v.Index(i), "")
		}
		return strings.Join(parts, ",")
	case v.Kind() == reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	default:
		return fmt.Sprint(v.Interface())
	}
}

// formatDuration writes a duration as people do: 24h and not 24h0m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	for _, zero := range [...]string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// userinfo finds the password (or token) part of URLs, up to the last @ as url.Parse has it.
var userinfo = regexp.MustCompile(`(://)[^/\s]+@`)

// mask hides a secret value, and in any other the user part of URLs.
func mask(value string, secret bool) string {
	if secret && value != "" {
		return masked
	}
	return MaskURLs(value)
}

// MaskURLs hides what stands before the host in every URL of a text: passwords and tokens.
func MaskURLs(text string) string { return userinfo.ReplaceAllString(text, "${1}"+masked+"@") }
