package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/config"
	"millrace/internal/natstest"
	"millrace/internal/order"
)

func TestMain(m *testing.M) {
	natstest.SideBySide()
	// The server's attempt to reach a source ends by its own timer, after its shutdown.
	ignored := []goleak.Option{
		goleak.IgnoreAnyFunction("millrace/workers.(*Worker).Run.func1"), // warming can't be interrupted, and a stop does not wait for it
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"),
	}
	goleak.VerifyTestMain(patiently{m, ignored}, ignored...)
}

// patiently are tests after which goroutines have time to end: what a process with a store that has failed leaves
// behind, a program would take with it.
type patiently struct {
	*testing.M
	ignored []goleak.Option
}

func (p patiently) Run() int {
	code := p.M.Run()
	for deadline := time.Now().Add(patience); goleak.Find(p.ignored...) != nil && time.Now().Before(deadline); {
	}
	return code
}

// output is what a finished run printed.
type output struct {
	code        int
	out, errors string
}

// call runs the program to its end.
func call(t *testing.T, stdin string, environ []string, args ...string) output {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, environ, strings.NewReader(stdin), &out, &errs)
	return output{code, out.String(), errs.String()}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "millrace.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// check runs config check and returns the settings by key.
func check(t *testing.T, environ []string, args ...string) map[string]config.Setting {
	t.Helper()
	o := call(t, "", environ, append([]string{"config", "check", "--json"}, args...)...)
	require.Equal(t, exitOK, o.code, o.errors)
	var list []config.Setting
	require.NoError(t, json.Unmarshal([]byte(o.out), &list))
	m := map[string]config.Setting{}
	for _, s := range list {
		m[s.Key] = s
	}
	return m
}

func TestEveryCommandHasHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{},
		{"node"},
		{"ingress"},
		{"worker"},
		{"egress"},
		{"bus"},
		{"streams"},
		{"streams", "plan"},
		{"streams", "apply"},
		{"config"},
		{"config", "check"},
		{"config", "reference"},
		{"sign"},
		{"ledger"},
		{"ledger", "dump"},
		{"ledger", "verify"},
		{"loadtest"},
		{"loadtest", "run"},
		{"loadtest", "compare"},
		{"loadtest", "report"},
		{"targets"},
		{"targets", "list"},
		{"targets", "remove"},
		{"version"},
	} {
		o := call(t, "", nil, append(args, "--help")...)
		require.Equal(t, exitOK, o.code, args)
		require.Contains(t, o.out, "Usage: millrace", args)
		require.Empty(t, o.errors, args)
	}
}

func TestHelpOfARoleLeavesOutForeignKeys(t *testing.T) {
	o := call(t, "", nil, "worker", "--help")
	require.Contains(t, o.out, "--worker.concurrency")
	require.Contains(t, o.out, "--nats.url")
	require.NotContains(t, o.out, "--ingress.listen")
	require.NotContains(t, o.out, "--builder.url")
}

func TestEveryKeyHasHelpAndAFixedSpelling(t *testing.T) {
	_, s, err := newParser(&bytes.Buffer{}, &bytes.Buffer{})
	require.NoError(t, err)
	env := map[string]string{}
	for _, k := range s.Keys() {
		if k.Name != "gateway.cache.eth_estimateGas" { // a method's name, and axon-proxy's key
			require.Regexp(t, `^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`, k.Name)
		}
		require.Regexp(t, `\.$`, k.Help, k.Name)
		require.Empty(t, env[k.Env], "%s and %s share %s", k.Name, env[k.Env], k.Env)
		env[k.Env] = k.Name
	}
	for _, name := range []string{ // what ARCHITECTURE fixes
		"nats.url", "nats.store_dir", "nats.listen", "nats.sync", "nats.replicas", "nats.creds", "nats.tls.ca", "nats.tls.cert", "nats.tls.key",
		"ingress.listen", "ingress.max_body", "ingress.verdict_wait", "ingress.tls.cert", "ingress.tls.key", "ingress.gzip",
		"ingress.rate_limit.enabled", "ingress.rate_limit.window", "ingress.rate_limit.count",
		"ingress.shed_age.high", "ingress.shed_age.medium", "ingress.shed_age.low", "ingress.trusted_proxies",
		"orders.max_age", "orders.max_txs", "orders.chain_id", "orders.partitions",
		"streams.in.max_bytes", "streams.ok.max_bytes", "worker.concurrency", "builders", "builder.url", "builder.ready_url", "builder.timeout",
		"record.orders.max_age", "record.orders.max_bytes", "record.ledger.max_age", "record.ledger.max_bytes",
		"admin.listen", "admin.token_file", "log.level", "log.format",
	} {
		_, ok := s.Key(name)
		require.True(t, ok, name)
	}
}

func TestPrecedenceIsFlagEnvFileDefault(t *testing.T) {
	file := writeFile(t, "ingress:\n  listen: 127.0.0.1:1001\n  max_body: 1MiB\n  verdict_wait: 1s\n")
	env := []string{"MILLRACE_INGRESS_LISTEN=127.0.0.1:1002", "MILLRACE_INGRESS_MAX_BODY=2MiB", "MILLRACE_CONFIG=" + file}
	s := check(t, env, "--ingress.listen=127.0.0.1:1003")
	require.Equal(t, config.Setting{Key: "ingress.listen", Value: "127.0.0.1:1003", Source: "flag", From: "--ingress.listen"}, s["ingress.listen"])
	require.Equal(t, config.Setting{Key: "ingress.max_body", Value: "2MiB", Source: "env", From: "MILLRACE_INGRESS_MAX_BODY"}, s["ingress.max_body"])
	require.Equal(t, config.Setting{Key: "ingress.verdict_wait", Value: "1s", Source: "file", From: file}, s["ingress.verdict_wait"])
	require.Equal(t, "default", s["ingress.gzip"].Source)
}

func TestVariablesOfThePredecessorsAreTaken(t *testing.T) {
	s := check(t, []string{
		"USER_LISTEN_ADDR=127.0.0.1:1", "BUILDER_LISTEN_ADDR=127.0.0.1:2", "BUILDER_ENDPOINT=http://127.0.0.1:3",
		"BUILDER_READY_ENDPOINT=http://127.0.0.1:4", "FLASHBOTS_ORDERFLOW_SIGNER=0x" + strings.Repeat("11", 32),
		"METRICS_ADDR=127.0.0.1:5", "LOG_JSON=true", "BUILDERNET_NODE_NAME=n1", "MAX_USER_RPS=7", "MAX_REQUEST_BODY_SIZE_BYTES=4096", "RUST_LOG=debug",
	})
	for key, want := range map[string]string{
		"ingress.listen": "127.0.0.1:1", "ingress.builder_listen": "127.0.0.1:2", "builder.url": "http://127.0.0.1:3",
		"builder.ready_url": "http://127.0.0.1:4", "egress.orderflow_signer": "********",
		"admin.listen": "127.0.0.1:5", "log.format": "json", "log.level": "debug", "node.name": "n1",
		"ingress.rate_limit.enabled": "true", "ingress.rate_limit.count": "7", "ingress.max_body": "4KiB",
	} {
		require.Equal(t, want, s[key].Value, key)
		require.Equal(t, "env", s[key].Source, key)
	}
	s = check(t, []string{"LOG_JSON=false", "MAX_USER_RPS=0", "MAX_REQUEST_BODY_SIZE_BYTES=0", "RUST_LOG=hyper=off"})
	for _, key := range []string{"log.format", "ingress.rate_limit.enabled", "ingress.rate_limit.count", "ingress.max_body", "log.level"} {
		require.Equal(t, "default", s[key].Source, key)
	}
}

func TestUnsupportedVariablesOfThePredecessorsAreNamed(t *testing.T) {
	o := call(t, "", []string{"CLICKHOUSE_HOST=db", "CONN_PER_PEER=10"}, "config", "check")
	require.Equal(t, exitOK, o.code, o.errors)
	require.ElementsMatch(t, []string{"warning: CLICKHOUSE_HOST is set but can't be honoured yet", "warning: CONN_PER_PEER is set but can't be honoured yet"}, strings.Split(strings.TrimSpace(o.errors), "\n"))
}

func TestWrongConfigurationsAreUsageErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		file string
		env  []string
		args []string
		want string
	}{
		{"unknown flag", "", nil, []string{"node", "--ingress.listn=x"}, `did you mean "--ingress.listen"?`},
		{"unknown command", "", nil, []string{"nodes"}, "unexpected argument nodes"},
		{"unknown variable", "", []string{"MILLRACE_INGRESS_LISTN=x"}, []string{"node"}, "did you mean MILLRACE_INGRESS_LISTEN?"},
		{"unknown key", "ingress:\n  listn: x\n", nil, []string{"node"}, "did you mean ingress.listen?"},
		{"two faults at once", "", nil, []string{"node", "--orders.max_age=0s", "--record.ledger.max_age=1h"}, "orders.max_age: 0s is not between 1s and 1h\nrecord.ledger.max_age"},
		{"no builder on an open port", "", nil, []string{"node", "--ingress.listen=0.0.0.0:0"}, "builder.url (or builders): needed when ingress.listen is not on loopback"},
		{"no builder on a shared bus", "", nil, []string{"node", "--nats.url=nats://127.0.0.1:1"}, "builder.url (or builders): needed when nats.url is set"},
		{"role without a bus", "", nil, []string{"worker"}, "nats.url: this role needs a NATS server"},
		{"egress without a builder", "", nil, []string{"egress", "--nats.url=nats://127.0.0.1:1"}, "nothing to deliver to"},
		{"plan without a bus", "", nil, []string{"streams", "plan"}, "nats.url: needed"},
		{"bad key", "", nil, []string{"sign", "--key=0xzz"}, "not 32 bytes of hex"},
		{"bad time", "", nil, []string{"ledger", "dump", "--since=yesterday"}, "since:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := tc.args
			if tc.file != "" {
				args = append(args, "--config", writeFile(t, tc.file))
			}
			o := call(t, "", tc.env, args...)
			require.Equal(t, exitUsage, o.code, o.errors)
			require.Contains(t, o.errors, tc.want)
		})
	}
}

func TestConfigCheckNeverPrintsSecrets(t *testing.T) {
	const secret = "hunter2hunter2hunter2"
	args := []string{
		"config", "check", "--nats.token=" + secret, "--worker.signer_cache.secret=" + secret,
		"--nats.url=nats://user:" + secret + "@127.0.0.1:4222", "--builder.url=http://u:" + secret + "@127.0.0.1:1",
	}
	for _, a := range [][]string{args, append(args, "--json")} {
		o := call(t, "", nil, a...)
		require.Equal(t, exitOK, o.code, o.errors)
		require.NotContains(t, o.out, secret)
		require.Contains(t, o.out, "********")
	}
}

func TestSignPrintsAHeaderThatVerifies(t *testing.T) {
	t.Parallel()
	key, err := crypto.GenerateKey()
	require.NoError(t, err)
	hexKey := hexOf(crypto.FromECDSA(key))
	keyFile := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(keyFile, []byte("0x"+hexKey+"\n"), 0o600))
	bodyFile := filepath.Join(t.TempDir(), "body")
	require.NoError(t, os.WriteFile(bodyFile, []byte("Hello"), 0o600))
	for _, args := range [][]string{
		{"sign", "--key", hexKey}, {"sign", "--key=0x" + hexKey}, {"sign", "--key-file", keyFile}, {"sign", "--key", hexKey, "--file", bodyFile},
	} {
		o := call(t, "Hello", nil, args...)
		require.Equal(t, exitOK, o.code, o.errors)
		value, ok := strings.CutPrefix(strings.TrimSuffix(o.out, "\n"), "X-Flashbots-Signature: ")
		require.True(t, ok)
		signer, err := order.RecoverSigner(value, []byte("Hello"))
		require.NoError(t, err)
		require.Equal(t, crypto.PubkeyToAddress(key.PublicKey), signer)
	}
	a, b := call(t, "Hello", nil, "sign"), call(t, "Hello", nil, "sign")
	require.Equal(t, exitOK, a.code)
	require.NotEqual(t, a.out, b.out, "a fresh key each time")
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

func TestVersionSaysWhichSecp256k1IsInUse(t *testing.T) {
	o := call(t, "", nil, "version")
	require.Equal(t, exitOK, o.code)
	require.Contains(t, o.out, "secp256k1  "+secp256k1)
	o = call(t, "", nil, "version", "--json")
	var b map[string]string
	require.NoError(t, json.Unmarshal([]byte(o.out), &b))
	require.Equal(t, version, b["version"])
	require.NotEmpty(t, b["go"])
}

func TestCommittedReferenceIsCurrent(t *testing.T) {
	o := call(t, "", nil, "config", "reference")
	require.Equal(t, exitOK, o.code)
	committed, err := os.ReadFile(filepath.Join("..", "..", "docs", "config.md"))
	require.NoError(t, err)
	require.Equal(t, o.out, string(committed), "run make docs")
}
