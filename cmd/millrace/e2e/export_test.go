//go:build e2e && linux

package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// exportOnce runs an export to its end and returns its report.
func exportOnce(t *testing.T, admin, out string) (report struct {
	Datasets []struct {
		Dataset string
		Log     string
		Rows    int
		Missed  []any
	}
},
) {
	t.Helper()
	b, err := exec.CommandContext(t.Context(), binary, "export", "--json", "--progress=0", "--admin="+admin, "--out="+out).Output()
	require.NoError(t, err, "%s", b)
	require.NoError(t, json.Unmarshal(b, &report))
	return report
}

// rowsOf reads all files of a dataset.
func rowsOf[T any](t *testing.T, out, dataset string) (rows []T) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(out, dataset, "*.parquet"))
	require.NoError(t, err)
	for _, name := range names {
		rs, err := parquet.ReadFile[T](name)
		require.NoError(t, err, name)
		rows = append(rows, rs...)
	}
	return rows
}

// The export is killed again and again while it follows a node under load, and the node once; in the
// end each recorded bundle and each terminal record has one row.
func TestAKilledExportHasEachRowOnce(t *testing.T) {
	beside(t)
	p := startNode(t)
	out := filepath.Join(t.TempDir(), "recording")
	l := p.startLoad(t, careful(modest(300), short(10*time.Second, 60*time.Second)))
	follower := newProcess(t, "export", "")
	follower.args = []string{"export", "--follow", "--poll=50ms", "--max-rows=40", "--max-age=50ms", "--admin=" + p.bus.admin, "--out=" + out}
	kills := 0
	for sending := true; sending; kills++ {
		follower.start(t)
		nap(t, randomly(100*time.Millisecond, 900*time.Millisecond))
		follower.kill(t)
		if kills == 4 {
			p.bus.kill(t)
			p.bus.up(t)
		}
		select {
		case err := <-l.done:
			require.NoError(t, err)
			sending = false
		default:
		}
	}
	v := p.verify(t, l, 20*time.Second, flight)
	total := 0
	eventually(t, 20*time.Second, func() bool {
		for _, d := range exportOnce(t, p.bus.admin, out).Datasets {
			require.Empty(t, d.Missed, d.Dataset)
		}
		total = len(rowsOf[struct{}](t, out, "ledger"))
		return total >= v.Records
	}, "the ledger is exported")

	records, err := loadtest.FetchLedger(t.Context(), p.bus.admin, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	want, bundles := map[string]int{}, map[string]int{}
	for _, r := range records {
		want[r.Accept+" "+r.Target]++
	}
	got := map[string]int{}
	for _, r := range rowsOf[struct {
		Accept     [16]byte `parquet:"accept"`
		Target     string   `parquet:"target"`
		Method     string   `parquet:"method"`
		Hash       [32]byte `parquet:"hash"`
		ReceivedAt int64    `parquet:"received_at"`
	}](t, out, "ledger") {
		got[hex.EncodeToString(r.Accept[:])+" "+r.Target]++
		if r.Method == "eth_sendBundle" {
			bundles[fmt.Sprintf("%x %d", r.Hash, r.ReceivedAt)]++
		}
	}
	require.Equal(t, want, got)
	exported := map[string]int{}
	for _, b := range rowsOf[struct {
		Hash       [32]byte `parquet:"hash"`
		ReceivedAt int64    `parquet:"received_at"`
	}](t, out, "bundles") {
		exported[fmt.Sprintf("%x %d", b.Hash, b.ReceivedAt)]++
	}
	require.Equal(t, bundles, exported)
	files, err := filepath.Glob(filepath.Join(out, "*", "*.parquet"))
	require.NoError(t, err)
	report(t, "%d kills, %d terminal records and %d bundles exported once each, in %d files", kills, len(got), len(exported), len(files))
}
