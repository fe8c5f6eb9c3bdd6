package peers

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTranscripts plays testdata/*.rpc against a running door. A line is one of
//
//	# comment
//	sign alice           who signs from here on: alice, flashbots, ourselves, stranger, nobody
//	--> {…}              POST / with that body
//	<-- 200 {…}          the status and the body of the answer
//	builder {…}          what our builder gets of the last one
//	received 3           how many orders were taken by now
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.rpc")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".rpc"), func(t *testing.T) { play(t, file) })
	}
}

func play(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	n := newNetwork()
	d, _ := open(t, n)
	key := keyOf('a')
	var last answer
	lines := bufio.NewScanner(f)
	for i := 1; lines.Scan(); i++ {
		at := fmt.Sprintf("%s:%d", file, i)
		verb, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		switch verb {
		case "", "#":
		case "sign":
			if key = nil; rest != "nobody" {
				key = keyOf(rest[0])
			}
		case "-->":
			last = post(t, urlOf(d), key, rest)
		case "<--":
			require.Equal(t, rest, strconv.Itoa(last.status)+" "+last.body, at)
		case "builder":
			require.NotEmpty(t, n.builder, at)
			require.JSONEq(t, rest, n.builder[len(n.builder)-1], at)
		case "received":
			require.Equal(t, rest, strconv.Itoa(len(n.received())), at)
		default:
			require.Fail(t, "unknown line", at)
		}
	}
	require.NoError(t, lines.Err())
}
