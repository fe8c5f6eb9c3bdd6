package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/order"
	"millrace/loadtest"
)

// The golden schemas are the tables of the predecessors, column for column; a change breaks whoever
// loads the files.
func TestColumnsAreThoseOfTheTables(t *testing.T) {
	for _, d := range Datasets() {
		golden, err := os.ReadFile(filepath.Join("testdata", d+".schema"))
		require.NoError(t, err)
		require.Equal(t, string(golden), newSchema(d, columnsOf(d)).String()+"\n", d)
	}
}

// dumper is Apache Arrow's reading of a file, as a program.
func dumper(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "parquetdump")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	cmd.Dir = filepath.Join("..", "..", "..", "tools", "parquetdump")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

func TestAnotherImplementationReadsTheSame(t *testing.T) {
	dump := dumper(t)
	cfg, from := testConfig(t), newLogs()
	for i, o := range append(corpusOrders(t, 300/thin), corpusOrders(t, 20, loadtest.ShapeBlobBundle, loadtest.ShapeCancelBundle)...) {
		if i%10 == 0 {
			o.Origin = "peer-1"
		}
		from.record(o)
	}
	from.record(everyField(t))
	from.done(700 / thin)
	from.messages[LogRejected] = []*Message{{Sequence: 1, StoredAt: epoch, Target: "*", Batch: fullEntry().AppendTo(nil)}}
	cfg.MaxRows = 90
	export(t, cfg, from)

	rows := 0
	for _, d := range Datasets() {
		require.NotEmpty(t, files(t, cfg, d))
		for _, name := range files(t, cfg, d) {
			path := filepath.Join(cfg.Out, d, name)
			columns, theirs := dumped(t, dump, path)
			golden, err := os.ReadFile(filepath.Join("testdata", d+".arrow"))
			require.NoError(t, err)
			require.Equal(t, string(golden), columns, d)
			ours := cells(t, path)
			require.Len(t, theirs, len(ours), name)
			for i := range ours {
				for c, col := range columnsOf(d) {
					require.Equal(t, ours[i][c], flat(t, &col, theirs[i][c]), "%s, row %d, column %s", name, i, col.name)
				}
			}
			rows += len(ours)
		}
	}
	require.Greater(t, rows, 1500/thin)
}

// dumped runs the program on a file.
func dumped(t *testing.T, program, path string) (columns string, rows [][]any) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, path).CombinedOutput()
	require.NoError(t, err, string(out))
	columns, lines, ok := strings.Cut(string(out), "\n\n")
	require.True(t, ok)
	dec := json.NewDecoder(bytes.NewBufferString(lines))
	dec.UseNumber()
	for dec.More() {
		var row []any
		require.NoError(t, dec.Decode(&row))
		rows = append(rows, row)
	}
	return columns + "\n", rows
}

// flat is a value of theirs as cell prints ours.
func flat(t *testing.T, c *column, v any) string {
	t.Helper()
	switch v := v.(type) {
	case nil:
		return "null"
	case []any:
		if len(v) == 0 {
			return "null"
		}
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = flat(t, c, v[i])
		}
		return strings.Join(parts, " ")
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	case string:
		switch c.leaf.Type().String() {
		case "STRING":
			return fmt.Sprintf("%x", v)
		case "INT(64,false)":
			n, err := strconv.ParseUint(v, 10, 64)
			require.NoError(t, err)
			return strconv.FormatUint(n, 10)
		}
		return v
	}
	t.Fatalf("no reading of %T", v)
	return ""
}

// everyField is a bundle with every member and a transaction of every type.
func everyField(tb testing.TB) *order.Order {
	tb.Helper()
	var hexes []string
	for _, tx := range everyType(tb) {
		raw, err := tx.MarshalBinary()
		require.NoError(tb, err)
		hexes = append(hexes, fmt.Sprintf(`"0x%x"`, raw))
	}
	hash := func(b byte) string { return fmt.Sprintf(`"0x%064x"`, b) }
	params := `{"txs":[` + strings.Join(hexes, ",") + `],"blockNumber":"0x1312d00","minTimestamp":1700000000,"maxTimestamp":1800000000,` +
		`"revertingTxHashes":[` + hash(9) + `,` + hash(3) + `],"droppingTxHashes":[` + hash(4) + `],` +
		`"refundPercent":90,"refundRecipient":"0x` + strings.Repeat("Ab", 20) + `","refundTxHashes":[` + hash(5) + `],` +
		`"refundIdentity":"` + strings.Repeat("cd", 20) + `","delayedRefund":true,"version":"v2",` +
		`"uuid":"550e8400-e29b-41d4-a716-446655440000","replacementUuid":"650e8400-e29b-41d4-a716-446655440000","replacementNonce":18446744073709551615,` +
		`"unknown":{"txs":[]}}`
	body := `{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[` + params + `]}`
	o := accept(tb, order.MethodSendBundle, []byte(body), epoch.Add(time.Second))
	o.Signer[0] = 0xee
	return o
}
