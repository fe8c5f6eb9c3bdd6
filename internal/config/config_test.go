package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"millrace/internal/config"
)

type target struct {
	Name    string        `name:"name"`
	URL     string        `name:"url"`
	Timeout time.Duration `name:"timeout" default:"2s"`
	Size    int64         `name:"size" type:"bytes" default:"1KiB"`
	Tags    []string      `name:"tags"`
	Key     string        `name:"key" secret:""`
	Retry   struct {
		Count int `name:"count" default:"3"`
	} `embed:"" prefix:"retry."`
}

type section struct {
	Listen string        `name:"listen" help:"Where to listen." default:"127.0.0.1:8080" env:"MILLRACE_DOOR_LISTEN,OLD_LISTEN"`
	Wait   time.Duration `name:"wait" help:"How long to wait." default:"250ms"`
	Body   int64         `name:"body" help:"Largest body." default:"10MiB" type:"bytes"`
	Gzip   bool          `name:"gzip" help:"Accept gzip."`
	Level  string        `name:"level" help:"How much." default:"info" enum:"debug,info"`
	Nets   []string      `name:"nets" help:"Networks."`
	Mode   mode          `name:"mode" help:"By name." default:"fast"`
	Codes  []int         `name:"codes" help:"Numbers."`
	Token  string        `name:"token" help:"A secret." secret:""`
	URL    string        `name:"url" help:"Elsewhere."`
	Limit  struct {
		Count int `name:"count" help:"How many." default:"5"`
	} `embed:"" prefix:"limit."`
}

// mode is a number that people write as a word.
type mode int

func (m mode) MarshalText() ([]byte, error) { return []byte([]string{"slow", "fast"}[m]), nil }

func (m *mode) UnmarshalText(b []byte) error {
	*m = mode(slices.Index([]string{"slow", "fast"}, string(b)))
	return nil
}

type grammar struct {
	Run struct {
		Config  string   `name:"config" help:"File."`
		Door    section  `embed:"" prefix:"door."`
		Targets []target `name:"targets" help:"A list."`
	} `cmd:"" default:"withargs"`
	Other struct{} `cmd:""`
}

type parsed struct {
	g   *grammar
	res *config.Resolver
	ctx *kong.Context
}

var aliases = []config.Alias{{
	Env: "OLD_DEBUG", Key: "door.level",
	Map: func(v string) (string, error) {
		if v == "true" {
			return "debug", nil
		}
		return "", nil
	},
}}

func parser(t *testing.T, g *grammar, environ []string) (*kong.Kong, *config.Resolver, *config.Schema) {
	t.Helper()
	res := &config.Resolver{}
	opts := append(config.Options(reflect.TypeFor[[]target]()), kong.Exit(func(int) {}),
		kong.PostBuild(func(k *kong.Kong) error {
			s := config.NewSchema(k.Model.Node, "targets")
			*res = *config.NewResolver(s, config.Input{
				Environ: environ, Aliases: aliases, Unsupported: []string{"OLD_PEERS", "OLD_HUB"},
			})
			s.Detach(k.Model.Node)
			return kong.Resolvers(res).Apply(k)
		}))
	k, err := kong.New(g, opts...)
	require.NoError(t, err)
	return k, res, config.NewSchema(k.Model.Node, "targets")
}

func parse(t *testing.T, file string, environ []string, args ...string) (parsed, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "millrace.yaml")
		require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
		args = append(args, "--config="+path)
	}
	p := parsed{g: &grammar{}}
	k, res, _ := parser(t, p.g, environ)
	ctx, err := k.Parse(args)
	p.res, p.ctx = res, ctx
	return p, err
}

func TestPrecedenceIsFlagThenEnvThenFileThenDefault(t *testing.T) {
	file := "door:\n  listen: file:1\n"
	for _, tc := range []struct {
		name string
		file string
		env  []string
		args []string
		want string
		from string
	}{
		{"default", "", nil, nil, "127.0.0.1:8080", "default"},
		{"file", file, nil, nil, "file:1", "file"},
		{"dotted key in the file", "door.listen: file:2\n", nil, nil, "file:2", "file"},
		{"env over file", file, []string{"MILLRACE_DOOR_LISTEN=env:1"}, nil, "env:1", "env"},
		{"alias over file", file, []string{"OLD_LISTEN=old:1"}, nil, "old:1", "env"},
		{"own name over alias", file, []string{"OLD_LISTEN=old:1", "MILLRACE_DOOR_LISTEN=env:1"}, nil, "env:1", "env"},
		{"empty variable is not set", file, []string{"MILLRACE_DOOR_LISTEN="}, nil, "file:1", "file"},
		{"flag over env", file, []string{"MILLRACE_DOOR_LISTEN=env:1"}, []string{"--door.listen=flag:1"}, "flag:1", "flag"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := parse(t, tc.file, tc.env, tc.args...)
			require.NoError(t, err)
			require.Equal(t, tc.want, p.g.Run.Door.Listen)
			require.Equal(t, tc.from, setting(t, p, "door.listen").Source)
		})
	}
}

func setting(t *testing.T, p parsed, key string) config.Setting {
	t.Helper()
	for _, s := range p.res.Effective(p.ctx) {
		if s.Key == key {
			return s
		}
	}
	t.Fatalf("no setting %s", key)
	return config.Setting{}
}

func TestEveryTypeReadsTheSameFromFileEnvAndFlag(t *testing.T) {
	for name, p := range map[string]func() (parsed, error){
		"file": func() (parsed, error) {
			return parse(t, "door:\n  wait: 1s\n  body: 512MB\n  gzip: true\n  nets: [a, b]\n  codes: [-1, 2]\n  limit:\n    count: 7\n", nil)
		},
		"env": func() (parsed, error) {
			return parse(t, "", []string{
				"MILLRACE_DOOR_WAIT=1s", "MILLRACE_DOOR_BODY=512MB", "MILLRACE_DOOR_GZIP=true",
				"MILLRACE_DOOR_NETS=a,b", "MILLRACE_DOOR_CODES=-1,2", "MILLRACE_DOOR_LIMIT_COUNT=7",
			})
		},
		"flag": func() (parsed, error) {
			return parse(t, "", nil, "--door.wait=1s", "--door.body=512MB", "--door.gzip", "--door.nets=a,b", "--door.codes=-1,2", "--door.limit.count=7")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := p()
			require.NoError(t, err)
			d := p.g.Run.Door
			require.Equal(t, time.Second, d.Wait)
			require.Equal(t, int64(512_000_000), d.Body)
			require.True(t, d.Gzip)
			require.Equal(t, []string{"a", "b"}, d.Nets)
			require.Equal(t, []int{-1, 2}, d.Codes)
			require.Equal(t, 7, d.Limit.Count)
		})
	}
}

func TestListsOfStructsAreYAMLInTheFileAndJSONElsewhere(t *testing.T) {
	want := []target{{Name: "a", URL: "http://a", Timeout: 5 * time.Second, Size: 2048, Tags: []string{"x", "y"}}, {Name: "b", Timeout: 2 * time.Second, Size: 1024}}
	want[0].Retry.Count, want[1].Retry.Count = 9, 3
	js := `[{"name":"a","url":"http://a","timeout":"5s","size":"2KiB","tags":["x","y"],"retry":{"count":9}},{"name":"b"}]`
	file := "targets:\n  - {name: a, url: http://a, timeout: 5s, size: 2KiB, tags: [x, y], retry.count: 9}\n  - name: b\n"
	for name, p := range map[string]func() (parsed, error){
		"file": func() (parsed, error) { return parse(t, file, nil) },
		"env":  func() (parsed, error) { return parse(t, "", []string{"MILLRACE_TARGETS=" + js}) },
		"flag": func() (parsed, error) { return parse(t, "", nil, "--targets", js) },
	} {
		t.Run(name, func(t *testing.T) {
			p, err := p()
			require.NoError(t, err)
			require.Equal(t, want, p.g.Run.Targets)
		})
	}
}

func TestFaultsNameTheKeyAndTheNearestKnownOne(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		env, args  []string
		want       string
	}{
		{"unknown key", "door:\n  listn: x\n", nil, nil, "2: unknown key door.listn, did you mean door.listen?"},
		{"unknown section", "dor:\n  listen: x\n", nil, nil, "1: unknown key dor, did you mean door?"},
		{"unknown variable", "", []string{"MILLRACE_DOOR_LISTN=x"}, nil, "unknown environment variable MILLRACE_DOOR_LISTN, did you mean MILLRACE_DOOR_LISTEN?"},
		{"unknown flag", "", nil, []string{"--door.listn=x"}, `unknown flag --door.listn, did you mean "--door.listen"?`},
		{"unknown field", "targets:\n  - {nam: a}\n", nil, nil, "item 1: unknown field nam, did you mean name?"},
		{"key twice", "door:\n  listen: x\ndoor.listen: y\n", nil, nil, "key door.listen is given twice"},
		{"value for a section", "door: 7\n", nil, nil, "door is a section"},
		{"alias", "door:\n  wait: &w 1s\n  listen: *w\n", nil, nil, "expected a value"},
		{"not YAML", "door: [\n", nil, nil, "bad configuration file"},
		{"bad duration", "door:\n  wait: soon\n", nil, nil, "--door.wait"},
		{"bad size", "door:\n  body: 10XB\n", nil, nil, "not a byte size"},
		{"not in the enum", "door:\n  level: loud\n", nil, nil, "must be one of"},
		{"bad JSON", "", []string{"MILLRACE_TARGETS={"}, nil, "not a JSON list"},
		{"missing file", "", nil, []string{"--config=/nonexistent/millrace.yaml"}, "no such file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parse(t, tc.file, tc.env, tc.args...)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestVariablesOfKubernetesServicesAreNotOurs(t *testing.T) {
	_, err := parse(t, "", []string{
		"MILLRACE_SERVICE_HOST=10.0.0.1", "MILLRACE_SERVICE_PORT=80", "MILLRACE_SERVICE_PORT_HTTP=80", "MILLRACE_PORT=tcp://10.0.0.1:80",
		"MILLRACE_INGRESS_PORT_8080_TCP=x", "MILLRACE_INGRESS_PORT_8080_TCP_ADDR=x", "MILLRACE_E2E_ROUNDS=3",
	})
	require.NoError(t, err)
}

func TestAliasOfAnotherWordingIsTranslated(t *testing.T) {
	p, err := parse(t, "", []string{"OLD_DEBUG=true"})
	require.NoError(t, err)
	require.Equal(t, "debug", p.g.Run.Door.Level)
	require.Equal(t, "OLD_DEBUG", setting(t, p, "door.level").From)
	p, err = parse(t, "", []string{"OLD_DEBUG=false"})
	require.NoError(t, err)
	require.Equal(t, "info", p.g.Run.Door.Level)
}

func TestVariablesThatCannotBeHonouredAreWarnedAbout(t *testing.T) {
	p, err := parse(t, "", []string{"OLD_HUB=x", "UNRELATED=y"})
	require.NoError(t, err)
	require.Equal(t, []string{"OLD_HUB"}, p.res.Warnings())
}

func TestFileNameFromTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.yaml")
	require.NoError(t, os.WriteFile(path, []byte("# only a comment\n"), 0o600))
	p, err := parse(t, "", []string{"MILLRACE_CONFIG=" + path})
	require.NoError(t, err)
	require.Equal(t, path, p.res.Path())
}

func TestCommandWithoutKeysIgnoresFileAndEnvironment(t *testing.T) {
	_, err := parse(t, "", []string{"MILLRACE_NONSENSE=1", "MILLRACE_CONFIG=/nonexistent"}, "other")
	require.NoError(t, err)
}

func TestProcessEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("MILLRACE_DOOR_LISTEN", "leak:1")
	t.Setenv("OLD_LISTEN", "leak:2")
	p, err := parse(t, "", nil)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8080", p.g.Run.Door.Listen)
}

func TestSecretsAndPasswordsInURLsAreMasked(t *testing.T) {
	p, err := parse(t, "", nil, "--door.token=hunter2", "--door.url=nats://me:hunter2@host:4222", `--targets=[{"name":"a","key":"hunter2","url":"http://u:hunter2@h"}]`)
	require.NoError(t, err)
	for _, s := range p.res.Effective(p.ctx) {
		require.NotContains(t, s.Value, "hunter2", s.Key)
	}
	require.Equal(t, "nats://********@host:4222", setting(t, p, "door.url").Value)
	require.Equal(t, "10MiB", setting(t, p, "door.body").Value)
}

func TestChangedSeesSecretsAndLists(t *testing.T) {
	a, err := parse(t, "", nil, "--door.token=one", `--targets=[{"name":"a","key":"1"}]`)
	require.NoError(t, err)
	b, err := parse(t, "", nil, "--door.token=two", `--targets=[{"name":"a","key":"2"}]`)
	require.NoError(t, err)
	require.Empty(t, config.Changed(a.res.Effective(a.ctx), a.res.Effective(a.ctx)))
	require.Equal(t, []string{"door.token", "targets"}, config.Changed(a.res.Effective(a.ctx), b.res.Effective(b.ctx)))
}

func TestReferenceHasEveryKeyOnce(t *testing.T) {
	_, _, s := parser(t, &grammar{}, nil)
	var b bytes.Buffer
	require.NoError(t, s.WriteReference(&b, func(k string) bool { return k == "door.listen" }, aliases))
	out := b.String()
	for _, k := range s.Keys() {
		require.Equal(t, 1, bytes.Count(b.Bytes(), []byte("| `"+k.Name+"` |")), k.Name)
	}
	require.Contains(t, out, "## door\n")
	require.Contains(t, out, "| `door.body` | bytes | `10MiB` | Largest body. |")
	require.Contains(t, out, "| `door.mode` | string | `fast` | By name. |")
	require.Contains(t, out, "*Reloadable.*")
	require.Contains(t, out, "Also read from `OLD_DEBUG`.")
	require.Contains(t, out, "One of `debug`, `info`.")
}
