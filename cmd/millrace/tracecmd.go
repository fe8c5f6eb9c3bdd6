package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"millrace/internal/ledger/index"
)

// traceCmd shows what became of an order.
type traceCmd struct {
	adminAt `embed:""`
	Hash    string `arg:"" help:"Bundle hash, transaction hash, order id, accept id or replacement UUID."`
	Limit   int    `name:"limit" default:"20" help:"Most orders to show, the newest first."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// Help is the long help text.
func (traceCmd) Help() string {
	return `Prints the timeline of every order that the name stands for, the newest first: when it was received, stored, validated, sent and ended at each builder, to the microsecond. A transaction's hash finds the bundles that it is in, too.

Exit code 1 when there is no such order.`
}

// Run prints the timelines.
func (c *traceCmd) Run(ctx context.Context, a *app) error {
	q, err := index.ParseQuery(c.Hash)
	if err != nil {
		return usage(fmt.Errorf("%q: %w", c.Hash, err))
	}
	v := url.Values{"hash": {q.String()}, "limit": {strconv.Itoa(c.Limit)}}
	page := "/trace?" + v.Encode()
	if c.JSON {
		return c.print(ctx, page, "trace", a.stdout)
	}
	var answer traceAnswer
	if err := c.read(ctx, page, "trace", &answer); err != nil {
		return err
	}
	return answer.print(a.stdout)
}

func (a *traceAnswer) print(w io.Writer) error {
	var b strings.Builder
	for i := range a.Orders {
		if i > 0 {
			b.WriteByte('\n')
		}
		a.Orders[i].print(&b)
	}
	if a.More {
		fmt.Fprintf(&b, "\nand older ones: raise --limit\n")
	}
	if !a.Current {
		b.WriteString("\nthe index is behind: what was stored last may be missing\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (o *tracedOrder) print(b *strings.Builder) {
	fmt.Fprintf(b, "%s %s, %s\n", o.Method, o.Hash.Hex(), o.Priority)
	head := newTable(b)
	head.row("  id", o.ID)
	head.row("  accept", o.Accept)
	head.row("  signer", o.Signer.Hex())
	if o.Origin != "" {
		head.row("  origin", o.Origin)
	}
	if o.Replacement != "" {
		head.row("  replacement", fmt.Sprintf("%s, nonce %d", o.Replacement, o.Nonce))
	}
	if o.Transactions > 0 {
		head.row("  transactions", o.Transactions)
	}
	_ = head.flush() // to memory
	lines := newTable(b, "  TIME", "AFTER", "STAGE", "DETAIL")
	for _, s := range o.stages() {
		lines.row("  "+clockTime(s.at), sinceReceived(s.at, o.ReceivedAt), s.name, s.detail)
	}
	_ = lines.flush()
}

// stage is one line of a timeline.
type stage struct {
	at           time.Time
	name, detail string
}

// stages are what happened to the order, as far as it is known, in its order.
func (o *tracedOrder) stages() []stage {
	ss := []stage{{o.ReceivedAt, "received", "at the door, " + o.ReceivedAt.Format(time.DateOnly)}}
	if o.In.Sequence != 0 {
		ss = append(ss, stage{o.In.StoredAt, "stored", fmt.Sprintf("IN_%s sequence %d", strings.ToUpper(o.Priority), o.In.Sequence)})
	}
	switch {
	case o.Validated:
		detail := "valid"
		if o.Tries > 1 {
			detail += fmt.Sprintf(", delivery %d to a worker", o.Tries)
		}
		ss = append(ss, stage{o.DecidedAt, "validated", detail}, stage{
			o.OK.StoredAt, "queued", fmt.Sprintf("OK_%s sequence %d", strings.ToUpper(o.Priority), o.OK.Sequence),
		})
	case len(o.Ends) == 0:
		ss = append(ss, stage{name: "waiting", detail: "for a worker"})
	}
	for i := range o.Ends {
		ss = append(ss, o.Ends[i].stages()...)
	}
	if o.Validated && len(o.Ends) == 0 {
		ss = append(ss, stage{o.Deadline, "pending", "no terminal record yet; this is its deadline"})
	}
	return ss
}

func (e *tracedEnd) stages() (ss []stage) {
	to := "for all targets"
	if e.Target != "*" {
		to = e.Target
	}
	if !e.SentAt.IsZero() {
		detail := to
		if e.Attempts > 1 {
			detail += fmt.Sprintf(", first of %d attempts", e.Attempts)
		}
		ss = append(ss, stage{e.SentAt, "sent", detail})
	}
	parts := []string{to}
	add := func(on bool, format string, args ...any) {
		if on {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(e.Attempts > 0, "attempts %d", e.Attempts)
	add(e.Status != 0, "HTTP %d", e.Status)
	add(e.RPCCode != 0, "JSON-RPC code %d", e.RPCCode)
	add(e.Code != "", "%s", e.Code)
	add(e.Of != "", "of %s", e.Of)
	add(e.Ambiguous, "ambiguous")
	add(e.Repeat, "repeat")
	add(e.Text != "", "%q", e.Text)
	ss = append(ss, stage{e.DoneAt, e.Outcome, strings.Join(parts, ", ")})
	return append(ss, stage{e.RecordedAt, "recorded", to})
}

func clockTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("15:04:05.000000")
}

// sinceReceived is how long after the door a stage was, in milliseconds to the microsecond.
func sinceReceived(t, received time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%+.3f ms", float64(t.Sub(received).Microseconds())/1000)
}
