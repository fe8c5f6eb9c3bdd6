package config_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"millrace/internal/config"
)

// FuzzEnvironment feeds the resolver one variable: it may refuse, never panic, and never accept one
// of ours that it does not know.
func FuzzEnvironment(f *testing.F) {
	for _, s := range [][2]string{
		{"MILLRACE_DOOR_LISTEN", "x"},
		{"OLD_LISTEN", "y"},
		{"OLD_DEBUG", "true"},
		{"MILLRACE_DOOR_WAIT", "1h"},
		{"MILLRACE_DOOR_BODY", "1 MiB"},
		{"MILLRACE_DOOR_CODES", "1,2\\,3"},
		{"MILLRACE_DOOR_NETS", `a,"b`},
		{"MILLRACE_TARGETS", `[{"name":"a"}]`},
		{"MILLRACE_DOOR_LISTN", "x"},
		{"MILLRACE_SERVICE_HOST", "10.0.0.1"},
		{"MILLRACE_", "x"},
		{"MILLRACE_CONFIG", "/nowhere"},
		{"", "x"},
		{"MILLRACE_DOOR_LEVEL", "loud"},
	} {
		f.Add(s[0], s[1])
	}
	known := map[string]bool{config.Prefix + "CONFIG": true}
	f.Fuzz(func(t *testing.T, name, value string) {
		g := &grammar{}
		k, res, s := parser(t, g, []string{name + "=" + value})
		if len(known) == 1 {
			for _, key := range s.Keys() {
				known[key.Env] = true
			}
		}
		ctx, err := k.Parse(nil)
		if err != nil {
			return
		}
		name, _, _ = strings.Cut(name+"=", "=")
		ours := strings.HasPrefix(name, config.Prefix) && !strings.HasPrefix(name, config.Prefix+"E2E_") &&
			!strings.Contains(name, "SERVICE_") && !strings.Contains(name, "PORT")
		if ours && value != "" && !strings.HasPrefix(value, "=") {
			require.True(t, known[name], name)
		}
		for _, e := range res.Effective(ctx) {
			require.NotEmpty(t, e.Key)
		}
	})
}

// FuzzList feeds the parser of lists: what it accepts, it prints in a form that means the same.
func FuzzList(f *testing.F) {
	for _, s := range []string{
		"[]", "[{}]", `[{"name":"a","url":"u","timeout":"1m","size":"2KiB","tags":["x","y,z"],"retry":{"count":7}}]`, `[{"retry.count":1}]`,
		"[1]", "null", "{}", `[{"size":1e3}]`, `[{"tags":"x"}]`, `[{}] [{}]`, `[{"nonsense":1}]`, `[{"timeout":-1}]`, `[{"key":"k"}]`, "[{\"name\":\"\\u0000\"}]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		p, err := parse(t, "", nil, "--targets="+list)
		if err != nil {
			return
		}
		for _, item := range p.g.Run.Targets {
			if item.Key != "" || strings.Contains(item.Name+item.URL+strings.Join(item.Tags, ""), "://") {
				return // masked in print
			}
			for _, text := range append(item.Tags, item.Name, item.URL) {
				if !utf8.ValidString(text) {
					return
				}
			}
		}
		printed := setting(t, p, "targets").Value
		again, err := parse(t, "", nil, "--targets="+printed)
		require.NoError(t, err, printed)
		require.Len(t, again.g.Run.Targets, len(p.g.Run.Targets), printed)
		for i, item := range p.g.Run.Targets {
			require.Equal(t, item.Name, again.g.Run.Targets[i].Name)
			require.Equal(t, item.Timeout, again.g.Run.Targets[i].Timeout)
			require.Equal(t, item.Size, again.g.Run.Targets[i].Size)
			require.Equal(t, item.Retry, again.g.Run.Targets[i].Retry)
		}
	})
}

// FuzzMaskURLs: nothing of what stands before the host is ever seen.
func FuzzMaskURLs(f *testing.F) {
	for _, s := range []string{"user:secret", "token", "u:p@ss", "u:%2F", "u:p:q", "é", "u:p,v:w", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, user string) {
		if user == "" || strings.ContainsAny(user, "/ \t\n\f\r\v") || !utf8.ValidString(user) {
			return // no user, or the end of the authority
		}
		require.Equal(t, "see nats://********@host:4222/x", config.MaskURLs("see nats://"+user+"@host:4222/x"))
	})
}
