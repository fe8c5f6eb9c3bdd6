package archtest

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"
)

const module = "millrace"

// everywhere may be imported by any package of the module.
var everywhere = []string{"internal/telemetry"}

// row is one line of the table.
type row struct {
	from string
	to   []string
}

// allowed is the import table: a package (or, with a trailing /..., a tree) and what it may import
// from this module. "..." alone allows all.
var allowed = []row{
	{"internal/order", nil},
	{"internal/jsonrpc", nil},
	{"internal/retry", nil},
	{"internal/freeport", nil},
	{"internal/rpcapi", nil},
	{"internal/clientip", nil},
	{"internal/wire", nil},
	{"internal/wire/scripted", nil},
	{"internal/engineapi", []string{"internal/jsonrpc"}},
	{"internal/engineapi/record", []string{"internal/engineapi"}},
	{"internal/eltest", []string{"internal/engineapi", "internal/engineapi/record", "internal/freeport"}},
	{"internal/eltest/drive", []string{"internal/engineapi"}},
	{"internal/telemetry", nil},
	{"internal/lifecycle", nil},
	{"internal/config", nil},
	{"internal/archtest", nil},
	{"internal/ledger", []string{"internal/order"}},
	{"internal/ledger/index", []string{"internal/ledger", "internal/order", "internal/retry"}},
	{"internal/ledger/export", []string{"internal/ledger", "internal/order", "internal/jsonrpc"}},
	{"internal/signers", []string{"internal/order"}},
	{"subjects", []string{"internal/order"}},
	{"internal/discovery", []string{"internal/config", "internal/retry"}},
	{"internal/discovery/hubtest", nil},
	{"internal/certificate", nil},
	{"internal/certificate/selfsigned", nil},
	{"internal/listener", []string{"internal/certificate"}},
	{"internal/doortest", []string{"internal/certificate/selfsigned"}},
	{"internal/bus/embedded", []string{"internal/certificate"}},
	{"internal/bus/upkeep", []string{"internal/bus/embedded", "subjects", "internal/order"}},
	{"internal/bus/peerlink", []string{"internal/bus/embedded", "internal/certificate", "internal/retry", "subjects", "internal/order"}},
	{"internal/bus/access", []string{"subjects", "internal/order"}},
	{"internal/bus", []string{"internal/bus/embedded", "internal/bus/upkeep", "subjects", "internal/order", "internal/retry"}},
	{"internal/bus/enginelog", []string{"subjects", "internal/engineapi", "internal/engineapi/record", "internal/retry"}},
	{"internal/natstest", []string{"internal/bus/embedded", "internal/freeport"}},
	{"ingress", []string{"internal/order", "internal/jsonrpc", "internal/listener", "internal/certificate", "internal/clientip"}},
	{"ingress/engine", []string{"internal/jsonrpc", "internal/engineapi", "internal/engineapi/record", "internal/listener", "internal/certificate", "internal/wire"}},
	{"ingress/peers", []string{"internal/order", "internal/jsonrpc", "internal/listener", "internal/certificate"}},
	{"ingress/rpc/cache", []string{"internal/rpcapi"}},
	{"ingress/rpc", []string{"internal/rpcapi", "internal/jsonrpc", "internal/listener", "internal/certificate", "internal/clientip"}},
	{"ingress/rpc/limit", []string{"internal/clientip"}},
	{"internal/bus/gateway", []string{"internal/rpcapi", "internal/retry", "subjects"}},
	{"workers", []string{"internal/order", "internal/jsonrpc", "internal/ledger", "internal/signers", "internal/retry"}},
	{"egress", []string{"internal/order", "internal/ledger", "internal/retry"}},
	{"egress/post", []string{"egress", "internal/order", "internal/wire"}},
	{"egress/builder", []string{"egress", "egress/post", "internal/order"}},
	{"egress/peers", []string{"egress", "egress/post", "internal/order", "internal/jsonrpc"}},
	{"egress/replay", []string{"internal/order", "internal/jsonrpc", "internal/retry"}},
	{"egress/nodes", []string{"egress/nodes/dispatch", "egress/nodes/health", "internal/rpcapi", "internal/retry", "internal/wire"}},
	{"egress/nodes/dispatch", []string{"internal/rpcapi"}},
	{"egress/engine/chain", []string{"internal/engineapi", "internal/engineapi/record"}},
	{"egress/engine/compare", []string{"internal/engineapi", "internal/engineapi/record"}},
	{"egress/engine", []string{"egress/engine/chain", "egress/engine/compare", "internal/engineapi", "internal/engineapi/record", "internal/retry"}},
	{"egress/nodes/health", []string{"internal/rpcapi", "internal/retry"}},
	{"egress/nodes/feed", []string{"internal/rpcapi", "internal/retry"}},
	{"ingress/rpc/socket", []string{"internal/rpcapi", "internal/jsonrpc"}},
	{"loadtest", []string{"loadtest/chart", "loadtest/regions", "internal/freeport", "internal/order", "internal/jsonrpc"}},
	{"loadtest/chart", nil},
	{"loadtest/regions", nil},
	{"cmd/millrace/...", []string{"..."}},
	{"deploy", nil},
}

// walls keeps libraries where they belong: the packages (trees) that may import them.
var walls = []struct {
	library string
	only    []string
}{
	{"github.com/nats-io/", []string{"subjects", "internal/bus/...", "internal/natstest"}},
	{"github.com/labstack/echo", []string{"ingress", "ingress/peers", "ingress/rpc"}},
	{"github.com/cockroachdb/pebble", []string{"internal/ledger/index"}},
	{"github.com/miekg/dns", nil}, // a server for tests
	{"github.com/Shopify/toxiproxy", []string{"loadtest/regions"}},
	{"github.com/alecthomas/kong", []string{"cmd/millrace/...", "internal/config"}},
}

// TestImportsFollowTheTable fails on an edge that the table does not name, on a package without a
// row, and on a library outside its wall.
func TestImportsFollowTheTable(t *testing.T) {
	for _, p := range load(t, false) {
		from := local(p.PkgPath)
		i := slices.IndexFunc(allowed, func(r row) bool { return matches(r.from, from) })
		require.NotEqual(t, -1, i, "package %s has no row in the import table", from)
		for imported := range p.Imports {
			if strings.HasPrefix(imported, module+"/") {
				to := local(imported)
				ok := slices.Contains(everywhere, to) ||
					slices.ContainsFunc(allowed[i].to, func(pattern string) bool { return matches(pattern, to) })
				require.True(t, ok, "%s imports %s, which the table does not allow", from, to)
				continue
			}
			for _, w := range walls {
				if strings.HasPrefix(imported, w.library) {
					ok := slices.ContainsFunc(w.only, func(pattern string) bool { return matches(pattern, from) })
					require.True(t, ok, "%s imports %s, which only %v may", from, imported, w.only)
				}
			}
		}
	}
}

// TestTheTableHasNoDeadRows fails on a row for a package that is gone.
func TestTheTableHasNoDeadRows(t *testing.T) {
	pkgs := load(t, false)
	for _, r := range allowed {
		ok := slices.ContainsFunc(pkgs, func(p *packages.Package) bool { return matches(r.from, local(p.PkgPath)) })
		require.True(t, ok, "no package matches the row %s", r.from)
	}
}

func load(t *testing.T, syntax bool) []*packages.Package {
	t.Helper()
	mode := packages.NeedName | packages.NeedImports | packages.NeedFiles
	if syntax {
		mode |= packages.NeedSyntax
	}
	pkgs, err := packages.Load(&packages.Config{Mode: mode, Dir: "../.."}, "./...")
	require.NoError(t, err)
	require.NotEmpty(t, pkgs)
	for _, p := range pkgs {
		require.Empty(t, p.Errors, p.PkgPath)
	}
	return pkgs
}

func local(pkgPath string) string { return strings.TrimPrefix(pkgPath, module+"/") }

func matches(pattern, p string) bool {
	if pattern == "..." {
		return true
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return p == tree || strings.HasPrefix(p, tree+"/")
	}
	return path.Clean(pattern) == p
}
