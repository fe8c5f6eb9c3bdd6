package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"millrace/internal/ledger"
)

// ledgerCmd reads terminal records.
type ledgerCmd struct {
	Dump   dumpCmd   `cmd:"" help:"Print terminal records, oldest first."`
	Verify verifyCmd `cmd:"" help:"Check that no order has two terminal records at one target, or one at a target and one for all, and count the outcomes. Exit code 1 when the check fails."`
}

// ledgerQuery says which records, and from where.
type ledgerQuery struct {
	adminAt `embed:""`
	Since   string `name:"since" default:"1h" help:"Records stored since: a time like 2026-11-20T21:00:00Z, or how long ago."`
	Target  string `name:"target" help:"Records of this target only; * for orders that ended before delivery."`
	Hash    string `name:"hash" help:"Records of this order only: its public hash, its id or an accept id."`
	Replays bool   `name:"replays" help:"Records of marked replays instead of those of orders. No builder gets a marked replay: delivered means that it was valid."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// dumpCmd prints records.
type dumpCmd struct {
	ledgerQuery `embed:""`
}

// Run prints the records.
func (c *dumpCmd) Run(ctx context.Context, a *app) error {
	if c.JSON {
		out := bufio.NewWriter(a.stdout)
		err := c.lines(ctx, func(line []byte) error {
			_, err := out.Write(append(line, '\n'))
			return err
		})
		if err != nil {
			return err
		}
		return out.Flush()
	}
	t := newTable(a.stdout, "RECEIVED", "HASH", "PRIORITY", "TARGET", "OUTCOME", "TRIES", "TOOK", "REASON")
	err := c.records(ctx, func(r *record) error {
		outcome, took := r.Outcome, "-"
		if r.Ambiguous {
			outcome += " (ambiguous)"
		}
		if r.Repeat {
			outcome += " (repeat)"
		}
		if !r.DoneAt.IsZero() {
			took = r.DoneAt.Sub(r.ReceivedAt).Round(10 * time.Microsecond).String()
		}
		reason := strings.Join(strings.Fields(r.Code+" "+r.Text), " ")
		t.row(clockTime(r.ReceivedAt), r.Hash.Hex(), r.Priority, r.Target, outcome, r.Attempts, took, reason)
		return nil
	})
	if err != nil {
		return err
	}
	return t.flush()
}

// verifyCmd checks records.
type verifyCmd struct {
	ledgerQuery `embed:""`
}

// ends are the kinds of records that an acceptance has: one excludes the other.
type ends uint8

const (
	forAll   ends = 1 << iota // ended before OK
	atTarget                  // ended at a target
)

// verdict is what verify found.
type verdict struct {
	Acceptances int            `json:"acceptances"`
	Records     int            `json:"records"`
	Outcomes    map[string]int `json:"outcomes"`
	Twice       []string       `json:"twice"` // "accept target" with more than one record, or with one for all targets besides
}

// Run checks the records.
func (c *verifyCmd) Run(ctx context.Context, a *app) error {
	type owed struct{ accept, target string }
	v := verdict{Outcomes: map[string]int{}, Twice: []string{}}
	seen, accepts := map[owed]int{}, map[string]ends{}
	err := c.records(ctx, func(r *record) error {
		v.Records++
		v.Outcomes[r.Outcome]++
		o := owed{r.Accept, r.Target}
		if seen[o]++; seen[o] == 2 {
			v.Twice = append(v.Twice, r.Accept+" "+r.Target)
		}
		before := accepts[r.Accept]
		now := before | atTarget
		if r.Target == ledger.AnyTarget {
			now = before | forAll
		}
		if now == forAll|atTarget && before != now {
			v.Twice = append(v.Twice, r.Accept+" "+ledger.AnyTarget+" and "+r.Target)
		}
		accepts[r.Accept] = now
		return nil
	})
	if err != nil {
		return err
	}
	v.Acceptances = len(accepts)
	if err := v.print(a.stdout, c.JSON); err != nil {
		return err
	}
	if len(v.Twice) > 0 {
		return fmt.Errorf("%w: %d orders have more than one terminal record at a target", errLedger, len(v.Twice))
	}
	return nil
}

func (v *verdict) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(v)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "acceptances  %d\nrecords      %d\n", v.Acceptances, v.Records)
	for _, o := range slices.Sorted(maps.Keys(v.Outcomes)) {
		fmt.Fprintf(&b, "  %-15s %d\n", o, v.Outcomes[o])
	}
	for _, t := range v.Twice {
		fmt.Fprintf(&b, "more than one terminal record: %s\n", t)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// records calls f with each record; f must not keep it.
func (q *ledgerQuery) records(ctx context.Context, f func(*record) error) error {
	return q.lines(ctx, func(line []byte) error {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
		return f(&r)
	})
}

// lines calls f with each line of the ledger page; f must not keep it.
func (q *ledgerQuery) lines(ctx context.Context, f func([]byte) error) error {
	resp, err := q.open(ctx)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	in.Buffer(make([]byte, 64<<10), 1<<20)
	for in.Scan() {
		if err := f(in.Bytes()); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	return nil
}

func (q *ledgerQuery) open(ctx context.Context) (*http.Response, error) {
	if _, err := parseSince(q.Since, time.Now()); err != nil {
		return nil, usage(err)
	}
	v := url.Values{"since": {q.Since}}
	if q.Target != "" {
		v.Set("target", q.Target)
	}
	if q.Hash != "" {
		v.Set("hash", q.Hash)
	}
	if q.Replays {
		v.Set("replays", "true")
	}
	return q.do(ctx, http.MethodGet, "/ledger?"+v.Encode(), "read ledger")
}
