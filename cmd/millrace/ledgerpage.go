package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"millrace/internal/bus"
	"millrace/internal/ledger"
)

// ledgerReader reads the stored batches of terminal records: of the orders, and of marked replays.
type ledgerReader interface {
	Ledger(ctx context.Context, since time.Time, f func(subject string, batch []byte, stored time.Time) error) error
	ReplayLedger(ctx context.Context, since time.Time, f func(subject string, batch []byte, stored time.Time) error) error
}

// record is one terminal record on the ledger page, a JSON object per line.
type record struct {
	identity
	Target     string    `json:"target"`
	Outcome    string    `json:"outcome"`
	Code       string    `json:"code,omitempty"`
	Of         string    `json:"of,omitempty"`
	Ambiguous  bool      `json:"ambiguous,omitempty"`
	Repeat     bool      `json:"repeat,omitempty"`
	Sequence   uint64    `json:"sequence,omitempty"`
	Attempts   uint16    `json:"attempts,omitempty"`
	Status     uint16    `json:"status,omitempty"`
	RPCCode    int32     `json:"rpc_code,omitempty"`
	ReceivedAt time.Time `json:"received_at"`
	StoredAt   time.Time `json:"stored_at,omitzero"`
	SentAt     time.Time `json:"sent_at,omitzero"`
	DoneAt     time.Time `json:"done_at,omitzero"`
	RecordedAt time.Time `json:"recorded_at"`
	Text       string    `json:"text,omitempty"`
}

func newRecord(target string, e *ledger.Entry, stored time.Time) record {
	r := record{
		identity: identityOf(e), Target: target, Outcome: e.Outcome.String(), Ambiguous: e.Ambiguous, Repeat: e.Repeat,
		Sequence: e.Sequence, Attempts: e.Attempts, Status: e.Status, RPCCode: e.RPCCode,
		ReceivedAt: e.Accept.Received().UTC(), StoredAt: utc(e.StoredAt), SentAt: utc(e.SentAt), DoneAt: utc(e.DoneAt),
		RecordedAt: stored.UTC(), Text: e.Text,
	}
	if e.Code != 0 {
		r.Code = e.Code.String()
	}
	if e.Of != (ledger.Entry{}.Of) {
		r.Of = e.Of.String()
	}
	return r
}

// replayTarget stands for the target of a marked replay, which has none.
const replayTarget = "replay"

// targetOf is the target that a ledger subject stands for.
func targetOf(subject string) string {
	if strings.HasPrefix(subject, "orders.done.replay.") {
		return replayTarget
	}
	if target, ok := strings.CutPrefix(subject, "orders.done."); ok {
		return target
	}
	return ledger.AnyTarget
}

// ledgerPage streams the terminal records stored since a time (?since=, a time or how long ago; one
// hour) as JSON lines, those of one target (?target=) or one order (?hash=, its public hash, id or
// acceptance) if asked, and instead those of marked replays (?replays=true; 404 where there can be none). A
// reader that got everything sees the response end; when reading the store fails, the connection is cut
// instead.
func ledgerPage(from ledgerReader, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := queryOf(r)
		since, err := parseSince(q.text("since"), q.now)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		replays, err := strconv.ParseBool(cmp.Or(q.text("replays"), "false"))
		if err != nil {
			http.Error(w, "replays: neither true nor false", http.StatusBadRequest)
			return
		}
		read := from.Ledger
		if replays {
			read = from.ReplayLedger
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := bufio.NewWriter(w)
		enc := json.NewEncoder(out)
		want := filter{target: q.text("target"), hash: strings.TrimPrefix(strings.ToLower(q.text("hash")), "0x")}
		err = read(r.Context(), since, func(subject string, batch []byte, stored time.Time) error {
			target := targetOf(subject)
			es, err := ledger.Decode(batch)
			if err != nil {
				return fmt.Errorf("%s: %w", subject, err)
			}
			for i := range es {
				if rec := newRecord(target, &es[i], stored); want.takes(&rec) {
					if err := enc.Encode(rec); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if replays && errors.Is(err, bus.ErrNoLog) {
			http.Error(w, "no process of this pipeline has taken marked replays: ingress.replay_listen is not set", http.StatusNotFound)
			return
		}
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			breakOff(r, func(ctx context.Context) {
				log.LogAttrs(ctx, slog.LevelWarn, "ledger could not be read to its end", slog.Any("error", err))
			})
		}
	})
}

type filter struct{ target, hash string }

func (f filter) takes(r *record) bool {
	if f.target != "" && f.target != r.Target {
		return false
	}
	return f.hash == "" || f.hash == strings.TrimPrefix(r.Hash.Hex(), "0x") || f.hash == r.ID || f.hash == r.Accept
}
