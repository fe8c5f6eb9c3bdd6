package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/ledger"
)

// ledgerReader reads the stored batches of terminal records.
type ledgerReader interface {
	Ledger(ctx context.Context, since time.Time, f func(subject string, batch []byte, stored time.Time) error) error
}

// defaultSince is how far back a reader sees who does not say.
const defaultSince = time.Hour

// record is one terminal record on the ledger page, a JSON object per line.
type record struct {
	Accept      string         `json:"accept"`
	ID          string         `json:"id"`
	Hash        common.Hash    `json:"hash"`
	Signer      common.Address `json:"signer"`
	Target      string         `json:"target"`
	Outcome     string         `json:"outcome"`
	Method      string         `json:"method"`
	Kind        string         `json:"kind"`
	Priority    string         `json:"priority"`
	Origin      string         `json:"origin,omitempty"`
	Replacement string         `json:"replacement,omitempty"`
	Nonce       uint64         `json:"nonce,omitempty"`
	Code        string         `json:"code,omitempty"`
	Of          string         `json:"of,omitempty"`
	Ambiguous   bool           `json:"ambiguous,omitempty"`
	Repeat      bool           `json:"repeat,omitempty"`
	Sequence    uint64         `json:"sequence,omitempty"`
	Attempts    uint16         `json:"attempts,omitempty"`
	Status      uint16         `json:"status,omitempty"`
	RPCCode     int32          `json:"rpc_code,omitempty"`
	ReceivedAt  time.Time      `json:"received_at"`
	StoredAt    time.Time      `json:"stored_at,omitzero"`
	SentAt      time.Time      `json:"sent_at,omitzero"`
	DoneAt      time.Time      `json:"done_at,omitzero"`
	RecordedAt  time.Time      `json:"recorded_at"`
	Text        string         `json:"text,omitempty"`
}

func newRecord(target string, e *ledger.Entry, stored time.Time) record {
	r := record{
		Accept: e.Accept.String(), ID: e.ID.String(), Hash: e.Hash, Signer: e.Signer, Target: target,
		Outcome: e.Outcome.String(), Method: e.Method.String(), Kind: e.Kind.String(), Priority: e.Priority.String(),
		Origin: e.Origin, Nonce: e.Nonce, Ambiguous: e.Ambiguous, Repeat: e.Repeat,
		Sequence: e.Sequence, Attempts: e.Attempts, Status: e.Status, RPCCode: e.RPCCode,
		ReceivedAt: e.Accept.Received().UTC(), StoredAt: utc(e.StoredAt), SentAt: utc(e.SentAt), DoneAt: utc(e.DoneAt),
		RecordedAt: stored.UTC(), Text: e.Text,
	}
	if !e.Replacement.IsZero() {
		r.Replacement = e.Replacement.String()
	}
	if e.Code != 0 {
		r.Code = e.Code.String()
	}
	if e.Of != (ledger.Entry{}.Of) {
		r.Of = e.Of.String()
	}
	return r
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// targetOf is the target that a ledger subject stands for.
func targetOf(subject string) string {
	if target, ok := strings.CutPrefix(subject, "orders.done."); ok {
		return target
	}
	return ledger.AnyTarget
}

// ledgerPage streams the terminal records stored since a time (?since=, a time or how long ago; one
// hour) as JSON lines, those of one target (?target=) or one order (?hash=, its public hash, id or
// acceptance) if asked. A reader that got everything sees the response end; when reading the store
// fails, the connection is cut instead.
func ledgerPage(from ledgerReader, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		since, err := parseSince(q.Get("since"), time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := bufio.NewWriter(w)
		enc := json.NewEncoder(out)
		want := filter{target: q.Get("target"), hash: strings.TrimPrefix(strings.ToLower(q.Get("hash")), "0x")}
		err = from.Ledger(r.Context(), since, func(subject string, batch []byte, stored time.Time) error {
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
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			if r.Context().Err() == nil {
				log.LogAttrs(r.Context(), slog.LevelWarn, "ledger could not be read to its end", slog.Any("error", err))
			}
			panic(http.ErrAbortHandler) // the way to tell a reader of a stream
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

// parseSince reads a time (RFC 3339) or how long before now.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return now.Add(-defaultSince), nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d.Abs()), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("since: %q is neither a time like 2026-11-20T21:00:00Z nor a duration like 10m", s)
	}
	return t, nil
}
