package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/ledger"
	"millrace/internal/order"
)

// stored is a ledger in memory.
type stored func(since time.Time, f func(subject string, batch []byte, stored time.Time) error) error

func (s stored) Ledger(_ context.Context, since time.Time, f func(string, []byte, time.Time) error) error {
	return s(since, f)
}

func (stored) ReplayLedger(context.Context, time.Time, func(string, []byte, time.Time) error) error {
	return fmt.Errorf("%w: REPLAY_DONE", bus.ErrNoLog)
}

// replayed is a ledger with marked replays.
type replayed struct{ stored }

func (s replayed) ReplayLedger(_ context.Context, since time.Time, f func(string, []byte, time.Time) error) error {
	return s.stored(since, f)
}

func entry(accept byte, outcome ledger.Outcome) ledger.Entry {
	received := time.Date(2026, 11, 20, 21, 0, 0, 0, time.UTC)
	a := order.NewAcceptID(received)
	a[15] = accept
	return ledger.Entry{
		Accept: a, Hash: common.Hash{accept}, Priority: order.PriorityHigh, Method: order.MethodSendBundle, Kind: order.KindBundle,
		Outcome: outcome, DoneAt: received.Add(3 * time.Millisecond), Attempts: 1, Text: "said\x1b[31m so",
	}
}

func serveLedger(t *testing.T, s ledgerReader) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(ledgerPage(s, slog.New(slog.DiscardHandler)))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestVerifyFailsOnASecondTerminalRecord(t *testing.T) {
	t.Parallel()
	first, second, refused := entry(1, ledger.Delivered), entry(2, ledger.Delivered), entry(3, ledger.Invalid)
	batch := second.AppendTo(first.AppendTo(nil))
	batches := [][2]any{{"orders.done.b", batch}, {"orders.rejected.high", refused.AppendTo(nil)}}
	url := serveLedger(t, stored(func(_ time.Time, f func(string, []byte, time.Time) error) error {
		for _, b := range batches {
			if err := f(b[0].(string), b[1].([]byte), time.Now()); err != nil {
				return err
			}
		}
		return nil
	}))
	o := call(t, "", nil, "ledger", "verify", "--json", "--admin", url)
	require.Equal(t, exitOK, o.code, o.errors)
	require.JSONEq(t, `{"acceptances":3,"records":3,"outcomes":{"delivered":2,"invalid":1},"twice":[]}`, o.out)

	batches = append(batches, [2]any{"orders.done.b", first.AppendTo(nil)}, [2]any{"orders.done.c", first.AppendTo(nil)})
	o = call(t, "", nil, "ledger", "verify", "--admin", url)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "1 orders have more than one terminal record at a target")
	require.Contains(t, o.out, "more than one terminal record: "+first.Accept.String()+" b\n")

	expired := second
	expired.Outcome = ledger.Expired
	batches = append(batches[:2:2], [2]any{"orders.rejected.high", expired.AppendTo(nil)})
	o = call(t, "", nil, "ledger", "verify", "--admin", url)
	require.Equal(t, exitFailure, o.code, "a record for all targets beside one of a target")
	require.Contains(t, o.out, "more than one terminal record: "+second.Accept.String()+" ")

	o = call(t, "", nil, "ledger", "dump", "--admin", url, "--target=*")
	require.Equal(t, exitOK, o.code)
	require.Contains(t, o.out, "invalid")
	require.Contains(t, o.out, "3ms")
	require.NotContains(t, o.out, "\x1b", "a builder's words don't steer the terminal")
}

func TestLedgerShowsMarkedReplaysWhenAsked(t *testing.T) {
	t.Parallel()
	valid, invalid := entry(1, ledger.Delivered), entry(2, ledger.Invalid)
	valid.Text = replayedText
	replays := func(_ time.Time, f func(string, []byte, time.Time) error) error {
		return errors.Join(f("orders.done.replay.high", valid.AppendTo(nil), time.Now()), f("orders.done.replay.low", invalid.AppendTo(nil), time.Now()))
	}
	url := serveLedger(t, replayed{replays})
	o := call(t, "", nil, "ledger", "verify", "--replays", "--json", "--admin", url)
	require.Equal(t, exitOK, o.code, o.errors)
	require.JSONEq(t, `{"acceptances":2,"records":2,"outcomes":{"delivered":1,"invalid":1},"twice":[]}`, o.out)
	o = call(t, "", nil, "ledger", "dump", "--replays", "--hash", common.Hash{1}.Hex(), "--admin", url)
	require.Equal(t, exitOK, o.code, o.errors)
	require.Contains(t, o.out, replayedText)
	require.Contains(t, o.out, "  replay  ")
	require.NotContains(t, o.out, common.Hash{2}.Hex())

	o = call(t, "", nil, "ledger", "dump", "--replays", "--admin", serveLedger(t, stored(replays)))
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "ingress.replay_listen")
}

func TestLedgerThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	e := entry(1, ledger.Delivered)
	many := make([]byte, 0, 64*ledger.EntrySize)
	for range 64 {
		many = e.AppendTo(many)
	}
	for name, s := range map[string]stored{
		"store fails": func(_ time.Time, f func(string, []byte, time.Time) error) error {
			return errors.Join(f("orders.done.b", many, time.Now()), errors.New("store is gone"))
		},
		"bad batch": func(_ time.Time, f func(string, []byte, time.Time) error) error {
			return errors.Join(f("orders.done.b", many, time.Now()), f("orders.done.b", []byte("short"), time.Now()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, cmd := range []string{"dump", "verify"} {
				o := call(t, "", nil, "ledger", cmd, "--json", "--admin", serveLedger(t, s))
				require.Equal(t, exitFailure, o.code)
			}
		})
	}
}

func TestLedgerCommandNamesWhatTheListenerSays(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the admin token is needed here", http.StatusUnauthorized)
	}))
	defer srv.Close()
	o := call(t, "", nil, "ledger", "dump", "--admin", srv.URL)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "401 Unauthorized: the admin token is needed here")
	o = call(t, "", nil, "ledger", "dump", "--admin", "http://"+freeAddr(t))
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "is millrace running there?")
}

func TestSinceIsATimeOrADuration(t *testing.T) {
	now := time.Date(2026, 11, 20, 21, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"": now.Add(-time.Hour), "10m": now.Add(-10 * time.Minute), "-10m": now.Add(-10 * time.Minute),
		"2026-11-20T20:00:00.5Z": time.Date(2026, 11, 20, 20, 0, 0, 5e8, time.UTC),
	} {
		got, err := parseSince(in, now)
		require.NoError(t, err, in)
		require.True(t, want.Equal(got), in)
	}
	_, err := parseSince("soon", now)
	require.Error(t, err)
}

func BenchmarkLedgerPage(b *testing.B) {
	e := entry(1, ledger.Delivered)
	batch := make([]byte, 0, 64*ledger.EntrySize)
	for range 64 {
		batch = e.AppendTo(batch)
	}
	page := ledgerPage(stored(func(_ time.Time, f func(string, []byte, time.Time) error) error {
		return f("orders.done.b", batch, time.Now())
	}), slog.New(slog.DiscardHandler))
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/ledger", nil)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		if strings.Count(w.Body.String(), "\n") != 64 {
			b.Fatal(w.Body.String())
		}
	}
}

func TestRecordIsWhatTheLoadTestReads(t *testing.T) {
	e := entry(1, ledger.Duplicate)
	e.Of = order.NewAcceptID(time.Now())
	b, err := json.Marshal(newRecord("b", &e, time.Now()))
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(b, &m))
	for _, field := range []string{"accept", "id", "hash", "signer", "target", "outcome", "of"} {
		require.NotEmpty(t, m[field], field)
	}
}
