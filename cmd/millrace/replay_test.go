package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/egress/replay"
	"millrace/internal/bus"
	"millrace/internal/order"
)

// keeper is a record in memory.
type keeper struct {
	orders []order.Delivery
	span   bus.RecordSpan
	err    error
	asked  bus.RecordRange
}

func (k *keeper) RecordSpan(context.Context) (bus.RecordSpan, error) { return k.span, k.err }

func (k *keeper) Record(_ context.Context, r bus.RecordRange, f func(order.Delivery) error) error {
	k.asked = r
	for _, d := range k.orders {
		if err := f(d); err != nil {
			return err
		}
	}
	if k.span.Last == 0 {
		return errors.New("cut")
	}
	return nil
}

func kept(n int) (out []order.Delivery) {
	for i := range n {
		o := &order.Order{
			Accept: order.NewAcceptID(time.Now()), Method: order.MethodSendBundle, Kind: order.KindBundle, Priority: order.PriorityMedium,
			Signature: "X-Flashbots-Signature: 0xab:0xcd", Body: fmt.Appendf(nil, `{"id":%d}`, i),
		}
		o.ReceivedAt = o.Accept.Received()
		out = append(out, order.Delivery{Order: o, Sequence: uint64(i + 1), StoredAt: o.ReceivedAt, Deliveries: 1, Size: len(o.Body)})
	}
	return out
}

func TestRecordPageStreamsTheRangeOrIsCut(t *testing.T) {
	k := &keeper{orders: kept(300), span: bus.RecordSpan{First: 1, Last: 300, Messages: 300}}
	s := httptest.NewServer(recordPage(k, slog.New(slog.DiscardHandler)))
	defer s.Close()
	from := pageRecording{&adminAt{Admin: s.URL}}
	last, err := from.last(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(300), last)

	since := time.Now().Add(-time.Hour).Truncate(time.Nanosecond)
	var got []order.Delivery
	require.NoError(t, from.Record(t.Context(), replay.Range{From: 7, Since: since, Until: since.Add(time.Minute)}, func(d order.Delivery) error {
		got = append(got, d)
		return nil
	}))
	require.Len(t, got, 300)
	require.Equal(t, string(k.orders[299].Order.Body), string(got[299].Order.Body))
	require.Equal(t, uint64(7), k.asked.From)
	require.True(t, k.asked.Since.Equal(since))
	require.True(t, k.asked.Until.Equal(since.Add(time.Minute)))

	k.span.Last = 0 // the store fails on the way
	require.Error(t, from.Record(t.Context(), replay.Range{}, func(order.Delivery) error { return nil }))
	k.err = bus.ErrNoRecord
	_, err = from.last(t.Context())
	require.ErrorContains(t, err, "404")
	for _, query := range []string{"since=x", "until=x", "from=x"} {
		k.err = nil
		resp, err := http.Get(s.URL + "/record?" + query)
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	}
}

// command runs a command to its end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, nil, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestReplayRefusesWhatCanNotBeMeant(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		text string
	}{
		{nil, "--to"},
		{[]string{"--to", "nonsense"}, "not an http"},
		{[]string{"--to", "http://127.0.0.1:1", "--shift-time"}, "--resign"},
		{[]string{"--to", "http://127.0.0.1:1", "--shift-blocks", "3"}, "--resign"},
		{[]string{"--to", "http://127.0.0.1:1", "--rate", "fast"}, "neither max"},
		{[]string{"--to", "http://127.0.0.1:1", "--filter", "x=y"}, "filter"},
		{[]string{"--to", "http://127.0.0.1:1", "--since", "x"}, "since"},
		{[]string{"--to", "http://127.0.0.1:1", "--until", "x"}, "until"},
		{[]string{"--to", "http://127.0.0.1:1", "--resign", "secret-but-no-key"}, "neither a private key"},
		{[]string{"--to", "http://127.0.0.1:1", "--original", "--as", "builder"}, "other bytes"},
		{[]string{"--to", "http://127.0.0.1:1", "--mark-token-file", "x", "--as", "builder"}, "marks are for doors"},
		{[]string{"--to", "http://127.0.0.1:1", "--as", "peer"}, "--as"},
	} {
		code, _, text := command(t, append([]string{"replay", "orders"}, c.args...)...)
		require.Equal(t, exitUsage, code, text)
		require.Contains(t, text, c.text)
		require.NotContains(t, text, "secret-but-no-key")
	}
	code, _, text := command(t, "replay", "orders", "--dry-run", "--store", t.TempDir())
	require.Equal(t, exitFailure, code)
	require.Contains(t, text, "no store there")
}

// A node records, its record is replayed through its admin listener, with the token only.
func TestReplayWorksAgainstARunningNode(t *testing.T) {
	t.Parallel()
	builder := newBuilder(t)
	dir := t.TempDir()
	n := start(t, nil, "node", "--ingress.listen=127.0.0.1:0", "--nats.store_dir="+filepath.Join(dir, "nats"), "--builder.url="+builder.URL)
	door := n.url("ingress")
	code, _, text := command(t, "loadtest", "--url", door, "--rate", "100", "--duration", "500ms", "--connections", "8")
	require.Equal(t, exitOK, code, text)

	var (
		mu   sync.Mutex
		sent []string
	)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("X-Flashbots-Signature") != "" {
			mu.Lock()
			sent = append(sent, string(body))
			mu.Unlock()
		}
		_, _ = io.WriteString(w, `{"id":1,"jsonrpc":"2.0","result":null}`)
	}))
	defer sink.Close()
	args := []string{"replay", "orders", "--json", "--rate", "max", "--connections", "1", "--to", sink.URL, "--admin", n.url("admin")}
	code, _, text = command(t, args...)
	require.Equal(t, exitFailure, code)
	require.Contains(t, text, "token")
	args = append(args, "--token-file", filepath.Join(dir, "admin.token"))
	var rep replay.Report
	require.Eventually(t, func() bool {
		mu.Lock()
		sent = nil
		mu.Unlock()
		code, out, text := command(t, args...)
		require.Equal(t, exitOK, code, text)
		require.NoError(t, json.Unmarshal([]byte(out), &rep))
		return rep.Accepted >= 49 // one or two of the mix may be refused at the door
	}, patience, 100*time.Millisecond)
	mu.Lock()
	require.Len(t, sent, rep.Accepted)
	mu.Unlock()
	code, _, text = command(t, append(args, "--filter", "priority=high", "--dry-run")...)
	require.Equal(t, exitOK, code, text)
	require.Zero(t, n.stop())
}

func TestProgressIsAShareOfWhatThereIs(t *testing.T) {
	begun := time.Now()
	at := func(seq uint64, chosen int, reached time.Time) replay.Progress {
		return replay.Progress{Counts: replay.Counts{Chosen: chosen}, Sequence: seq, Reached: reached, Elapsed: time.Second}
	}
	p := progress{last: 110}
	require.Zero(t, p.share(at(10, 1, begun)))
	require.InDelta(t, 0.5, p.share(at(60, 1, begun)), 1e-9)
	require.InDelta(t, 1, p.share(at(500, 1, begun)), 1e-9)
	p = progress{cfg: replay.Config{Limit: 10}}
	require.InDelta(t, 0.3, p.share(at(5, 3, begun)), 1e-9)
	p = progress{cfg: replay.Config{Range: replay.Range{Since: begun, Until: begun.Add(time.Minute)}}}
	require.InDelta(t, 0.5, p.share(at(5, 3, begun.Add(30*time.Second))), 1e-9)
	require.Contains(t, p.bar(at(5, 3, begun.Add(30*time.Second))), "[===============               ]  50%")
	require.True(t, strings.HasPrefix(p.line(at(5, 3, begun)), "replay: 0%"))
	require.False(t, isTerminal(&bytes.Buffer{}))
}

func TestReplayCredentialIsMadeOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "replay.token")
	one, err := replayCredential(path)
	require.NoError(t, err)
	two, err := replayCredential(path)
	require.NoError(t, err)
	require.Equal(t, one, two)
	require.NotEmpty(t, one)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}
