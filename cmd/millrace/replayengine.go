package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"

	replayer "millrace/egress/engine"
	"millrace/egress/engine/compare"
	"millrace/internal/engineapi"
)

// replayEngineCmd replays recorded calls of the Engine API into an execution client.
type replayEngineCmd struct {
	settings   `embed:""`
	engineFrom `embed:""`

	From  string `name:"from" help:"Calls since: a time like 2026-11-20T21:00:00Z, or how long ago. Default: all that are recorded."`
	Until string `name:"until" help:"Calls before: a time, or how long ago."`
	Seq   uint64 `name:"seq" help:"Only the call at this place of the record, to see its answer once more; verbatim, unless another mode than path is given."`

	Mode      string `name:"mode" default:"path" enum:"path,verbatim,payload-only,build" help:"Bring the client to the last forkchoice (path), send every payload and forkchoice (verbatim), payloads with a forkchoice now and then (payload-only), or let it build as well (build)."`
	Rate      string `name:"rate" default:"max" help:"Recorded spacing times this: 1x, 10x; max: as fast as the client answers."`
	To        string `name:"to" required:"" placeholder:"URL" help:"The client's Engine API."`
	JWTSecret string `name:"jwt-secret" required:"" placeholder:"FILE" help:"File with the client's secret."`
	CA        string `name:"ca" placeholder:"FILE" help:"PEM file with the authorities that may vouch for an https URL."`

	ChainID uint64 `name:"chain-id" help:"Chain that the client must be on; with --genesis."`
	Genesis string `name:"genesis" placeholder:"HASH" help:"Genesis block that the client must have; with --chain-id."`

	Out  string `name:"out" placeholder:"FILE" help:"Write every call and answer as JSON lines."`
	JSON bool   `name:"json" help:"Print the summary as JSON."`
}

// Help is the long help text.
func (replayEngineCmd) Help() string {
	return `Before the first write it is checked that the client is on the right chain, that its head is on the recorded path, and that nobody else drives it. Tokens are signed with the client's own secret; attributes are removed except with --mode build. Reads the record of a running process through its admin listener, of nats.url, of --store, or a capture (--file).

Exit code 1 when the client disagrees about a block, ends at another head, or could not be brought there.

Example: millrace replay engine --file sample.jsonl --mode verbatim --to http://127.0.0.1:8551 --jwt-secret jwt.hex`
}

var (
	errDisagrees = errors.New("the client disagrees about a block")
	errOtherHead = errors.New("the client ended at another head")
)

// Run replays and sums up.
func (c *replayEngineCmd) Run(ctx context.Context, a *app) error {
	c.localToken()
	target, err := c.target()
	if err != nil {
		return usage(err)
	}
	from, err := c.open(ctx, a, &c.Keys)
	if err != nil {
		return err
	}
	defer from.close()
	reach, err := c.reach(ctx)
	if err != nil {
		return usage(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	r, err := replayer.NewRunner(c.Keys.Engine.Replay, reach, from, *target, localClock{}, quiet)
	if err != nil {
		return usage(err)
	}
	closeOut, err := c.write(r)
	if err != nil {
		return err
	}
	stop := c.progress(a, r)
	sum, err := r.Run(ctx)
	stop()
	return errors.Join(c.print(a.stdout, &sum), err, closeOut(), c.verdict(&sum, err))
}

// verdict is what makes the exit code, beside errors.
func (c *replayEngineCmd) verdict(sum *replayer.Summary, err error) error {
	switch {
	case sum.Critical():
		return errDisagrees
	case err == nil && c.Seq == 0 && !sum.EqualHeads():
		return fmt.Errorf("%w: %s, not %s", errOtherHead, sum.Head, sum.Want)
	}
	return nil
}

// localClock is this machine's: a closed range needs no other.
type localClock struct{}

// Now is the time.
func (localClock) Now() time.Time { return time.Now() }

func (c *replayEngineCmd) target() (*replayer.Target, error) {
	secret, err := engineapi.LoadSecret(c.JWTSecret)
	if err != nil {
		return nil, err
	}
	conf, err := authorities(c.CA)
	if err != nil {
		return nil, err
	}
	h, err := replayer.NewHTTP(replayer.HTTPConfig{URL: c.To, Secret: secret, TLS: conf})
	if err != nil {
		return nil, err
	}
	return &replayer.Target{Name: "replay", Role: replayer.Secondary, Address: c.To, Caller: h}, nil
}

func (c *replayEngineCmd) reach(_ context.Context) (g replayer.Range, err error) {
	if err := g.Play.UnmarshalText([]byte(c.Mode)); err != nil {
		return g, err
	}
	now := time.Now()
	if c.From != "" {
		if g.After, err = parseMoment("from", c.From, now); err != nil {
			return g, err
		}
	}
	if c.Until != "" {
		if g.Before, err = parseMoment("until", c.Until, now); err != nil {
			return g, err
		}
	}
	if c.Seq > 0 {
		g.From, g.Until = c.Seq, c.Seq
		if g.Play == replayer.PlayPath { // one call is no path
			g.Play = replayer.PlayVerbatim
		}
	}
	if c.Rate != "max" {
		if g.Rate, err = strconv.ParseFloat(strings.TrimSuffix(c.Rate, "x"), 64); err != nil || g.Rate <= 0 {
			return g, fmt.Errorf("--rate: %q is neither max nor a speed like 10x", c.Rate)
		}
	}
	if (c.ChainID == 0) != (c.Genesis == "") {
		return g, errors.New("--chain-id and --genesis go together")
	}
	if c.ChainID != 0 {
		g.Identity = &replayer.Identity{ChainID: c.ChainID, Genesis: common.HexToHash(c.Genesis)}
	}
	return g, g.Validate()
}

// playedLine is a line of --out: a line of a capture, and how it compares.
type playedLine struct {
	Seq        uint64          `json:"seq"`
	Time       time.Time       `json:"ts"`
	Target     string          `json:"target"`
	Method     string          `json:"method"`
	Request    json.RawMessage `json:"req"`
	HTTPStatus int             `json:"httpStatus"`
	Answer     json.RawMessage `json:"resp"`
	Micros     int64           `json:"durUs"`
	Class      string          `json:"class"`
	Why        string          `json:"why,omitempty"`
	Primary    int64           `json:"primaryUs,omitempty"`
}

// write makes the runner write --out; the returned function ends the file.
func (c *replayEngineCmd) write(r *replayer.Runner) (func() error, error) {
	if c.Out == "" {
		return func() error { return nil }, nil
	}
	f, err := os.OpenFile(c.Out, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, usage(err)
	}
	out := bufio.NewWriter(f)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	r.Out = func(p replayer.Played) error {
		if !json.Valid(p.Answer) {
			p.Answer, _ = json.Marshal(string(p.Answer)) // text always is JSON then
		}
		return enc.Encode(playedLine{
			p.Seq, p.Time, p.Target, p.Method, p.Request, p.HTTPStatus, p.Answer, p.Micros, p.Class.String(), p.Why, p.Primary.Microseconds(),
		})
	}
	return func() error { return errors.Join(out.Flush(), f.Close()) }, nil
}

// progress draws a bar on a terminal, until the returned function is called.
func (c *replayEngineCmd) progress(a *app, r *replayer.Runner) (stop func()) {
	if !isTerminal(a.stderr) {
		return func() {}
	}
	var last atomic.Int64
	r.Progress = func(done, of int) {
		if now := time.Now().UnixMilli(); now-last.Load() > barEvery.Milliseconds() && of > 0 {
			last.Store(now)
			fmt.Fprintf(a.stderr, "\r%s %d/%d\x1b[K", barOf(float64(done)/float64(of)), done, of)
		}
	}
	return func() { fmt.Fprint(a.stderr, "\r\x1b[K") }
}

func barOf(share float64) string {
	full := int(min(max(share, 0), 1) * barWidth)
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
}

func (c *replayEngineCmd) print(w io.Writer, sum *replayer.Summary) error {
	if c.JSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(sum)
	}
	fmt.Fprintf(w, "mode %s: %d of %d payloads and forkchoices sent in %s, %d mismatches\nhead %d %s, the record's %s\n\n",
		sum.Play, sum.Sent, sum.Recorded, sum.Elapsed.Round(time.Millisecond), sum.Mismatches(), sum.Number, sum.Head, sum.Want)
	t := newTable(w, "CLASS", "CALLS")
	for _, class := range compare.Classes() {
		if n := sum.Classes[class.String()]; n > 0 {
			t.row(class, n)
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w, "METHOD", "CALLS", "P50", "P99", "PRIMARY P50", "P99")
	for _, l := range sum.Latencies {
		t.row(l.Method, l.Calls, seconds(l.P50), seconds(l.P99), seconds(l.PrimaryP50), seconds(l.PrimaryP99))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, d := range sum.Divergences {
		fmt.Fprintf(w, "\n%s %s block %d %s: %s\n  %s\n", d.Class, d.Method, d.Number, d.Block, d.Why, d.Reproduce)
	}
	return nil
}
